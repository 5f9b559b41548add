// Each thread moves 16-byte vectors of the stage, kInFlight of them at a time, neighbours by neighbours: the stage's
// side is coalesced, the pages' side as far as their rows go. Few blocks suffice: a stage is read and written in HBM at
// several times the speed of the bus, and what runs beside it keeps its multiprocessors.
#include "cuda/stage_kernel.h"

#include <algorithm>

namespace tiercel::gpu {
namespace {

constexpr std::uint32_t kThreads = 512;
constexpr std::uint32_t kInFlight = 4;

__device__ __forceinline__ uint4 load_once(std::uint64_t from) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}

template <bool kGather>
__global__ void __launch_bounds__(kThreads) move_stage(const __grid_constant__ StageParams params) {
  const std::uint32_t vectors = params.bytes / kVectorBytes;
  const std::uint32_t step = gridDim.x * kThreads * kInFlight;
  for (std::uint32_t first = blockIdx.x * kThreads * kInFlight + threadIdx.x; first < vectors; first += step) {
    uint4 values[kInFlight];
    std::uint64_t to[kInFlight];
#pragma unroll
    for (std::uint32_t i = 0; i < kInFlight; ++i) {
      const std::uint32_t vector = first + i * kThreads;
      to[i] = 0;
      if (vector >= vectors) continue;
      const VectorPlace place = place_of(params, vector);
      if (place.offset >= params.part_bytes) continue;
      const PieceEntry& piece = piece_at(params, place.offset);
      const std::uint64_t stage = params.stage + std::uint64_t{vector} * kVectorBytes;
      if (piece.access_bytes != kVectorBytes) {
        move_in_parts<kGather>(params, place, stage);
        continue;
      }
      const std::uint64_t engine = engine_address(piece, place.pages, place.offset);
      values[i] = load_once(kGather ? engine : stage);
      to[i] = kGather ? stage : engine;
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kInFlight; ++i) {
      if (to[i] != 0) *reinterpret_cast<uint4*>(to[i]) = values[i];
    }
  }
}

}  // namespace

cudaError_t launch_stage(StageFlow flow, const StageParams& params, std::uint32_t blocks,
                         cudaStream_t stream) noexcept {
  const std::uint32_t vectors = params.bytes / kVectorBytes;
  const std::uint32_t needed = (vectors + kThreads * kInFlight - 1) / (kThreads * kInFlight);
  void* arguments[] = {const_cast<StageParams*>(&params)};
  const void* kernel = flow == StageFlow::kGather ? reinterpret_cast<const void*>(&move_stage<true>)
                                                  : reinterpret_cast<const void*>(&move_stage<false>);
  return cudaLaunchKernel(kernel, dim3(std::min(blocks, needed)), dim3(kThreads), arguments, 0, stream);
}

}  // namespace tiercel::gpu
