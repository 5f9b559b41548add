// PlanWalker: the tiles of a part of a copy plan, one after another, neighbours joined.
//
// A plan's bytes are numbered block by block, piece by piece, page by page, so that any range [begin, end) can be found
// by division and several workers share a plan without a list. Straight tiles are cut at the ends of the range; a
// strided tile belongs whole to the range that holds its first byte. Straight tiles that follow each other on both
// sides (adjacent pages in adjacent places, adjacent slots) come out as one. Reads the plan; owns nothing; one thread.
#pragma once

#include "transfer/copy_plan.h"

#include <cstddef>
#include <cstdint>

namespace tiercel {

struct ByteRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// A strided copy at its place; straight if both levels have one step.
struct Tile {
  std::byte* engine = nullptr;
  std::byte* block = nullptr;
  std::uint64_t row_bytes = 0;
  CopyLevel outer;
  CopyLevel inner;

  [[nodiscard]] bool straight() const noexcept { return inner.count == 1 && outer.count == 1; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return row_bytes * inner.count * outer.count; }
};

class PlanWalker {
 public:
  PlanWalker(const CopyPlan& plan, const ByteRange& range);

  /// False at the end of the range.
  [[nodiscard]] bool next(Tile& tile);

 private:
  [[nodiscard]] bool step(Tile& tile);
  void advance_page() noexcept;

  const CopyPlan& plan_;
  std::uint64_t position_;
  std::uint64_t end_;
  std::size_t block_ = 0;
  std::size_t piece_ = 0;
  std::size_t page_ = 0;       // of the block
  std::uint64_t in_tile_ = 0;  // bytes of the tile that are behind position_
  Tile ahead_;
  bool has_ahead_ = false;
};

}  // namespace tiercel
