#include "cuda/stage_cutter.h"

#include "base/check.h"

#include <algorithm>

namespace tiercel::gpu {

StageCutter::StageCutter(const PieceTable& table, std::size_t blocks, std::uint64_t stage_bytes)
    : block_bytes_(table.block_bytes()),
      stage_bytes_(stage_bytes / kVectorBytes * kVectorBytes),
      max_blocks_(kMaxStagePages / table.pages_per_block()),
      end_(blocks * block_bytes_) {
  TIERCEL_CHECK(stage_bytes_ > 0, "stages smaller than a vector");
}

StageRange StageCutter::next() noexcept {
  const std::uint64_t begin = position_;
  const std::uint64_t last_block_end = (begin / block_bytes_ + max_blocks_) * block_bytes_;
  position_ = std::min({end_, last_block_end, begin + stage_bytes_});
  return {begin, position_};
}

void fill_params(const PieceTable& table, const CopyPlan& plan, const StageRange& range, std::uint64_t stage,
                 const PieceEntry* pieces, StageParams& params) {
  const std::uint64_t first = range.begin / table.block_bytes();
  const std::uint64_t end = (range.end + table.block_bytes() - 1) / table.block_bytes();
  const std::uint64_t pages = (end - first) * table.pages_per_block();
  TIERCEL_CHECK(pages <= kMaxStagePages, "more pages than a launch takes");
  params.stage = stage;
  params.pieces = pieces;
  params.piece_count = static_cast<std::uint32_t>(table.pieces().size());
  params.pages_per_block = table.pages_per_block();
  params.part_bytes = table.part_bytes();
  params.block_bytes = Divisor::of(table.block_bytes());
  params.uniform = table.piece_bytes() != 0 ? 1 : 0;
  params.piece_bytes = Divisor::of(std::max(1U, table.piece_bytes()));
  params.begin = static_cast<std::uint32_t>(range.begin - first * table.block_bytes());
  params.bytes = static_cast<std::uint32_t>(range.bytes());
  params.page_count = static_cast<std::uint32_t>(pages);
  std::ranges::copy(plan.pages().subspan(first * table.pages_per_block(), pages), params.pages);
}

}  // namespace tiercel::gpu
