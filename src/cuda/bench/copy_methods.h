// Ways to move the pieces of a plan that others use, to compare with: a loop of copies, the driver's batch copy, a
// kernel on mapped host memory, and the bound: one contiguous copy of as many bytes. Each only queues; the caller
// waits.
#pragma once

#include "cuda/bench/paged_pool.h"
#include "cuda/cuda_handles.h"
#include "transfer/copy_plan.h"

#include <tiercel/result.h>

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <vector>

namespace tiercel::gpu {

/// The pieces of a plan, as lists: what Tiercel itself never makes.
struct PieceList {
  std::vector<void*> to;
  std::vector<const void*> from;
  std::vector<std::size_t> bytes;

  /// Straight pieces alone; empty if the plan has others.
  [[nodiscard]] static PieceList of(const CopyPlan& plan, CopyDirection direction);
  /// Blocks [first, first + count), `pieces` of each, all alike: its layers, or 1 where a block's layers lie together.
  /// Rows that the engine would transpose keep their order, as others store them.
  [[nodiscard]] static PieceList of_pages(const PagedPool& pool, std::size_t first, std::size_t count,
                                          std::uint64_t pieces, CopyDirection direction);
};

/// A stream a direction.
class DirectionStreams {
 public:
  [[nodiscard]] static Result<DirectionStreams> make();
  [[nodiscard]] cudaStream_t of(CopyDirection direction) const {
    return streams_[static_cast<std::size_t>(direction)].get();
  }
  /// Until all that was queued has ended.
  [[nodiscard]] Status wait() const;

 private:
  std::array<CudaStream, 2> streams_;
};

/// A call for each 32,768 pieces: more than that is not tried on any driver.
[[nodiscard]] Status copy_as_batch(PieceList& list, cudaStream_t stream);
[[nodiscard]] Status copy_in_loop(const PieceList& list, cudaStream_t stream);

/// Copies by a kernel that reads or writes host memory in place.
class MappedKernel {
 public:
  [[nodiscard]] static Result<MappedKernel> make(const PieceList& list);
  [[nodiscard]] Status run(std::uint32_t blocks, cudaStream_t stream) const;

 private:
  DeviceMemory lists_;
  std::uint64_t count_ = 0;
  std::uint64_t piece_bytes_ = 0;
};

[[nodiscard]] cudaError_t launch_mapped(const std::uint64_t* to, const std::uint64_t* from, std::uint64_t count,
                                        std::uint64_t piece_bytes, std::uint32_t blocks, cudaStream_t stream) noexcept;
[[nodiscard]] cudaError_t launch_nothing(cudaStream_t stream) noexcept;

}  // namespace tiercel::gpu
