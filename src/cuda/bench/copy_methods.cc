#include "cuda/bench/copy_methods.h"

#include "transfer/plan_walker.h"

#include <algorithm>

namespace tiercel::gpu {
namespace {

constexpr std::size_t kMostInACall = 32768;

}  // namespace

PieceList PieceList::of(const CopyPlan& plan, CopyDirection direction) {
  PieceList list;
  PlanWalker walker(plan, {0, plan.bytes()});
  for (Tile tile; walker.next(tile);) {
    if (!tile.straight()) return {};
    const bool store = direction == CopyDirection::kStore;
    list.to.push_back(store ? tile.block : tile.engine);
    list.from.push_back(store ? tile.engine : tile.block);
    list.bytes.push_back(tile.row_bytes);
  }
  return list;
}

PieceList PieceList::of_pages(const PagedPool& pool, std::size_t first, std::size_t count, std::uint64_t pieces,
                              CopyDirection direction) {
  const std::uint64_t bytes = pool.shape().block_bytes() / pieces;
  PieceList list;
  for (std::size_t block = first; block < first + count; ++block) {
    for (std::uint32_t layer = 0; layer < pieces; ++layer) {
      std::byte* page = pool.page(block, layer);
      std::byte* slot = pool.slot(block) + layer * bytes;
      const bool store = direction == CopyDirection::kStore;
      list.to.push_back(store ? slot : page);
      list.from.push_back(store ? page : slot);
      list.bytes.push_back(bytes);
    }
  }
  return list;
}

Result<DirectionStreams> DirectionStreams::make() {
  DirectionStreams streams;
  for (CudaStream& stream : streams.streams_) {
    TIERCEL_TRY_ASSIGN(stream, CudaStream::make(StreamPriority::kNormal));
  }
  return streams;
}

Status DirectionStreams::wait() const {
  for (const CudaStream& stream : streams_) TIERCEL_CUDA_TRY(cudaStreamSynchronize(stream.get()));
  return {};
}

Status copy_in_loop(const PieceList& list, cudaStream_t stream) {
  for (std::size_t i = 0; i < list.to.size(); ++i) {
    TIERCEL_CUDA_TRY(cudaMemcpyAsync(list.to[i], list.from[i], list.bytes[i], cudaMemcpyDefault, stream));
  }
  return {};
}

Status copy_as_batch(PieceList& list, cudaStream_t stream) {
  cudaMemcpyAttributes attributes{};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  std::size_t attributes_of = 0;
  for (std::size_t at = 0; at < list.to.size(); at += kMostInACall) {
    const std::size_t count = std::min(kMostInACall, list.to.size() - at);
    TIERCEL_CUDA_TRY(cudaMemcpyBatchAsync(list.to.data() + at, list.from.data() + at, list.bytes.data() + at, count,
                                          &attributes, &attributes_of, 1, stream));
  }
  return {};
}

Result<MappedKernel> MappedKernel::make(const PieceList& list) {
  MappedKernel kernel;
  kernel.count_ = list.to.size();
  kernel.piece_bytes_ = list.bytes.front();
  const std::uint64_t bytes = kernel.count_ * sizeof(std::uint64_t);
  TIERCEL_TRY_ASSIGN(kernel.lists_, DeviceMemory::make(2 * bytes));
  TIERCEL_CUDA_TRY(
      cudaMemcpy(kernel.lists_.data(), static_cast<const void*>(list.to.data()), bytes, cudaMemcpyHostToDevice));
  TIERCEL_CUDA_TRY(cudaMemcpy(kernel.lists_.data() + bytes, static_cast<const void*>(list.from.data()), bytes,
                              cudaMemcpyHostToDevice));
  return kernel;
}

Status MappedKernel::run(std::uint32_t blocks, cudaStream_t stream) const {
  const auto* to = reinterpret_cast<const std::uint64_t*>(lists_.data());
  TIERCEL_CUDA_TRY(launch_mapped(to, to + count_, count_, piece_bytes_, blocks, stream));
  return {};
}

}  // namespace tiercel::gpu
