// DmaWalker: the DMA operations of a stage, of a plan without a stage, or of a plain range, one after another.
//
// Of a stage: ranges of slots, joined where blocks and slots follow each other, and rows at one pitch where a rank has
// a part of each run. Without a stage: the tiles of PlanWalker between pages and slots. No operation is longer than the
// caller allows, and none crosses an address that is a multiple of the boundary on the host's side: memory that was
// registered apart must not meet in one copy. Reads the plan; owns nothing; one thread.
#pragma once

#include "cuda/piece_table.h"
#include "cuda/stage_cutter.h"
#include "transfer/copy_plan.h"
#include "transfer/plan_walker.h"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace tiercel::gpu {

/// rows of `bytes`.
struct Dma {
  std::byte* host = nullptr;
  std::byte* device = nullptr;
  std::uint64_t bytes = 0;
  std::uint64_t rows = 1;
  std::uint64_t host_pitch_bytes = 0;
  std::uint64_t device_pitch_bytes = 0;

  [[nodiscard]] std::uint64_t total_bytes() const noexcept { return bytes * rows; }
};

class DmaWalker {
 public:
  /// `host_boundary_bytes`: a power of two, or 0 for none.
  explicit DmaWalker(std::uint64_t host_boundary_bytes) : boundary_(host_boundary_bytes) {}

  void of_stage(const CopyPlan& plan, const PieceTable& table, const StageRange& range, std::byte* stage);
  /// Between the pages and the slots.
  void of_plan(const CopyPlan& plan);
  void of_range(std::byte* host, std::byte* device, std::uint64_t bytes);

  /// False at the end. `limit_bytes` > 0: the most that the operation may move; a single row may be cut.
  [[nodiscard]] bool next(Dma& dma, std::uint64_t limit_bytes);
  [[nodiscard]] bool ended();

 private:
  bool refill();
  bool take_rows(Dma& dma, std::uint64_t limit_bytes);
  Dma take_bytes(std::uint64_t limit_bytes);
  bool next_of_stage(Dma& dma);
  bool next_of_plan(Dma& dma);
  [[nodiscard]] std::uint64_t until_boundary(const std::byte* host, std::uint64_t bytes) const noexcept;

  std::uint64_t boundary_;
  Dma left_;  // what has been found and not given out
  bool has_left_ = false;
  Dma rest_{.rows = 0};  // rows behind left_, if any

  const CopyPlan* plan_ = nullptr;
  const PieceTable* table_ = nullptr;
  StageRange range_;
  std::byte* stage_ = nullptr;
  std::uint64_t position_ = 0;  // in the range's coordinates
  std::size_t span_ = 0;

  std::optional<PlanWalker> tiles_;
  Tile tile_;
  std::uint64_t outer_ = 0;
  bool has_tile_ = false;
};

/// Mean length of the copies that of_plan() would give, from the first tiles of the plan.
[[nodiscard]] std::uint64_t mean_run_bytes(const CopyPlan& plan);

}  // namespace tiercel::gpu
