// What a stage kernel does, one 16-byte vector of the stage at a time: the same code on the GPU and on the CPU.
//
// Kernels see this header and none of the model's. A stage holds the range [begin, begin + bytes) of the plan's blocks,
// each PieceTable::block_bytes() long, in the order of the slots' bytes. Vectors are independent. The page ids travel
// in the launch's parameters, so that nothing has to live until the kernel has run but the table of pieces. Pure
// functions on memory of the caller.
#pragma once

#include "base/check.h"
#include "cuda/divisor.h"

#include <cstdint>
#include <cstring>

namespace tiercel::gpu {

inline constexpr std::uint32_t kVectorBytes = 16;

/// Of a piece, in device memory. Level 0 is the outermost; a level of one step has a divisor that no offset reaches.
struct PieceEntry {
  std::uint64_t engine = 0;  ///< address of the piece in page 0
  std::uint64_t engine_stride_bytes[3] = {};
  Divisor block_stride[3];
  std::uint32_t page_level = 0;  ///< at which the step is a page id
  std::uint32_t first_byte = 0;
  std::uint32_t end_byte = 0;
  std::uint32_t access_bytes = 1;  ///< the widest that is aligned on both sides: 1, 2, 4, 8 or 16
};

/// Of one launch: its parameters may take 4 KiB.
inline constexpr std::uint32_t kMaxStagePages = 960;

struct StageParams {
  std::uint64_t stage = 0;  ///< address, aligned to a vector
  const PieceEntry* pieces = nullptr;
  std::uint32_t piece_count = 0;
  std::uint32_t pages_per_block = 0;
  std::uint32_t part_bytes = 0;
  Divisor block_bytes;
  Divisor piece_bytes;           ///< of every piece, if uniform
  std::uint32_t uniform = 0;     ///< 1: piece number = offset / piece_bytes
  std::uint32_t begin = 0;       ///< of the stage in its first block; a multiple of a vector
  std::uint32_t bytes = 0;       ///< of the stage; a multiple of a vector
  std::uint32_t page_count = 0;  ///< ids in `pages`: of the first block and those after it
  std::uint32_t pages[kMaxStagePages] = {};
};
static_assert(sizeof(StageParams) <= 4096, "parameters of a launch");

/// Where a vector of the stage begins in its block, and that block's pages.
struct VectorPlace {
  const std::uint32_t* pages = nullptr;
  std::uint32_t offset = 0;  ///< packed; may lie in the padding behind the part
};

[[nodiscard]] TIERCEL_ON_GPU VectorPlace place_of(const StageParams& params, std::uint32_t vector) noexcept {
  const std::uint32_t at = params.begin + vector * kVectorBytes;
  const std::uint32_t block = params.block_bytes.divide(at);
  return {params.pages + block * params.pages_per_block, at - block * params.block_bytes.value};
}

/// The piece that holds a packed offset of the part.
[[nodiscard]] TIERCEL_ON_GPU const PieceEntry& piece_at(const StageParams& params, std::uint32_t offset) noexcept {
  if (params.uniform != 0) return params.pieces[params.piece_bytes.divide(offset)];
  std::uint32_t low = 0;
  std::uint32_t high = params.piece_count;
  while (high - low > 1) {
    const std::uint32_t middle = (low + high) / 2;
    if (params.pieces[middle].first_byte <= offset) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return params.pieces[low];
}

[[nodiscard]] TIERCEL_ON_GPU std::uint64_t engine_address(const PieceEntry& piece, const std::uint32_t* pages,
                                                          std::uint32_t offset) noexcept {
  std::uint32_t left = offset - piece.first_byte;
  std::uint64_t address = piece.engine;
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
  for (std::uint32_t level = 0; level < 3; ++level) {
    const Divisor stride = piece.block_stride[level];
    const std::uint32_t step = stride.divide(left);
    left -= step * stride.value;
    const std::uint64_t index = level == piece.page_level ? pages[step] : step;
    address += index * piece.engine_stride_bytes[level];
  }
  return address + left;
}

template <class T>
TIERCEL_ON_GPU void move_one(std::uint64_t to, std::uint64_t from) noexcept {
#if defined(__CUDA_ARCH__)
  *reinterpret_cast<T*>(to) = *reinterpret_cast<const T*>(from);
#else
  TIERCEL_CHECK(to % sizeof(T) == 0 && from % sizeof(T) == 0, "an access that the GPU would refuse");
  // NOLINTNEXTLINE(performance-no-int-to-ptr): addresses are numbers, as a launch's parameters carry them
  std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), sizeof(T));
#endif
}

/// `bytes`: 1, 2, 4 or 8; both sides are aligned to it.
TIERCEL_ON_GPU void move_small(std::uint64_t to, std::uint64_t from, std::uint32_t bytes) noexcept {
  if (bytes == 8) return move_one<std::uint64_t>(to, from);
  if (bytes == 4) return move_one<std::uint32_t>(to, from);
  if (bytes == 2) return move_one<std::uint16_t>(to, from);
  move_one<std::uint8_t>(to, from);
}

/// A vector that is not one aligned access on the engine's side: it may even lie in several pieces.
template <bool kGather>
TIERCEL_ON_GPU void move_in_parts(const StageParams& params, const VectorPlace& place, std::uint64_t stage) noexcept {
  for (std::uint32_t done = 0; done < kVectorBytes && place.offset + done < params.part_bytes;) {
    const PieceEntry& piece = piece_at(params, place.offset + done);
    const std::uint32_t bytes = piece.access_bytes < 8 ? piece.access_bytes : 8;
    const std::uint64_t engine = engine_address(piece, place.pages, place.offset + done);
    if constexpr (kGather) {
      move_small(stage + done, engine, bytes);
    } else {
      move_small(engine, stage + done, bytes);
    }
    done += bytes;
  }
}

}  // namespace tiercel::gpu
