// CopyPlan: which pages of an engine and which slots of the arena a transfer moves, and CopyJob: a plan or a plain
// range of bytes with its direction and completion.
//
// A plan holds page ids, slot addresses and a shared geometry: O(blocks), never a list of pieces. It owns none of the
// memory; whoever submits it keeps pages and slots valid and unshared until the completion (a copy pin can live inside
// the completion). Values; one thread at a time.
#pragma once

#include "model/copy_geometry.h"
#include "transfer/queued_ahead.h"

#include <tiercel/result.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <variant>
#include <vector>

namespace tiercel {

enum class CopyDirection : std::uint8_t {
  kStore = 0,  ///< from the engine into blocks
  kLoad = 1,   ///< from blocks into the engine
};

class CopyPlan {
 public:
  /// `pages`: pages_per_block ids for each block, in the order of its tokens. `slots`: the first byte of each block, of
  /// geometry->block_bytes() bytes. On a load no page may occur twice, on a store no slot may (not checked).
  /// kInvalidArgument: lengths that do not agree, a page outside the tensors, a null slot.
  [[nodiscard]] static Result<CopyPlan> make(std::shared_ptr<const CopyGeometry> geometry,
                                             std::vector<std::uint32_t> pages, std::vector<std::byte*> slots);

  [[nodiscard]] const CopyGeometry& geometry() const noexcept { return *geometry_; }
  [[nodiscard]] const std::shared_ptr<const CopyGeometry>& shared_geometry() const noexcept { return geometry_; }
  [[nodiscard]] std::span<const std::uint32_t> pages() const noexcept { return pages_; }
  [[nodiscard]] std::span<std::byte* const> slots() const noexcept { return slots_; }
  [[nodiscard]] std::size_t blocks() const noexcept { return slots_.size(); }
  /// That the plan moves.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return slots_.size() * geometry_->part_bytes(); }

 private:
  std::shared_ptr<const CopyGeometry> geometry_;
  std::vector<std::uint32_t> pages_;
  std::vector<std::byte*> slots_;
};

/// A plain copy of a range; the two ranges do not overlap.
struct ByteCopy {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  std::uint64_t bytes = 0;
};

/// Called exactly once, without a lock, on the engine's executor. An error: nothing may be assumed about the target.
using CopyDone = std::function<void(const Status&)>;

struct CopyJob {
  std::variant<ByteCopy, CopyPlan> work;
  CopyDirection direction = CopyDirection::kStore;  ///< decides the job's rank: loads go before stores
  CopyDone done{};
  /// A cudaEvent_t of the engine's GPU, recorded before submit(): its pages are touched after it only. It may be
  /// recorded again once submit() has returned. Null: at once. An engine that knows no GPU must not be given one.
  void* after_event = nullptr;
  /// Of the clock of an engine that has one: a job that has not begun by then completes with kTimeout and has touched
  /// nothing. What has begun ends by itself.
  std::uint64_t deadline_ns = UINT64_MAX;
  /// Of a load that a stream is to wait for (GpuCopyEngine::wait_in_stream). An engine that knows no GPU must not be
  /// given one.
  std::shared_ptr<QueuedAhead> ahead{};

  [[nodiscard]] std::uint64_t bytes() const noexcept;
};

}  // namespace tiercel
