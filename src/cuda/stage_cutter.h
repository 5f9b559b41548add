// StageCutter: cuts a plan into stages, each filled by one kernel launch.
//
// Stages are full but for the last one, and for those whose blocks have more pages than a launch takes: a stage may
// begin and end inside of a block. O(pages of the stage) for each. Reads plan and table; owns nothing; one thread.
#pragma once

#include "cuda/piece_table.h"
#include "cuda/stage_move.h"
#include "transfer/copy_plan.h"

#include <cstddef>
#include <cstdint>

namespace tiercel::gpu {

/// In bytes of PieceTable::block_bytes() a block; both are multiples of a vector.
struct StageRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  [[nodiscard]] std::uint64_t bytes() const noexcept { return end - begin; }
};

class StageCutter {
 public:
  /// `stage_bytes`: at least a vector.
  StageCutter(const PieceTable& table, std::size_t blocks, std::uint64_t stage_bytes);

  [[nodiscard]] bool ended() const noexcept { return position_ == end_; }
  /// Not once ended.
  [[nodiscard]] StageRange next() noexcept;

 private:
  std::uint64_t block_bytes_;
  std::uint64_t stage_bytes_;
  std::uint64_t max_blocks_;  // whose pages fit a launch
  std::uint64_t position_ = 0;
  std::uint64_t end_;
};

/// The launch that fills or empties a stage at `stage`; `pieces` is the table's copy on the device.
void fill_params(const PieceTable& table, const CopyPlan& plan, const StageRange& range, std::uint64_t stage,
                 const PieceEntry* pieces, StageParams& params);

}  // namespace tiercel::gpu
