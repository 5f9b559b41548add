#include "transfer/plan_walker.h"

#include <algorithm>

namespace tiercel {

PlanWalker::PlanWalker(const CopyPlan& plan, const ByteRange& range)
    : plan_(plan), position_(range.begin), end_(std::min(range.end, plan.bytes())) {
  if (position_ < end_) {
    const CopyGeometry& geometry = plan.geometry();
    block_ = position_ / geometry.part_bytes();
    const std::uint64_t in_block = position_ % geometry.part_bytes();
    const auto& pieces = geometry.pieces();
    const auto after = std::ranges::upper_bound(pieces, in_block, {}, &RunPiece::first_byte);
    piece_ = static_cast<std::size_t>(after - pieces.begin()) - 1;  // the first piece begins at 0
    const std::uint64_t in_piece = in_block - pieces[piece_].first_byte;
    page_ = in_piece / pieces[piece_].page_bytes();
    in_tile_ = in_piece % pieces[piece_].page_bytes();
  }
  has_ahead_ = step(ahead_);
}

bool PlanWalker::next(Tile& tile) {
  if (!has_ahead_) return false;
  tile = ahead_;
  while ((has_ahead_ = step(ahead_))) {
    const bool joins = tile.straight() && ahead_.straight() && tile.engine + tile.row_bytes == ahead_.engine &&
                       tile.block + tile.row_bytes == ahead_.block;
    if (!joins) break;
    tile.row_bytes += ahead_.row_bytes;
  }
  return true;
}

bool PlanWalker::step(Tile& tile) {
  const CopyGeometry& geometry = plan_.geometry();
  while (position_ < end_) {
    const RunPiece& piece = geometry.pieces()[piece_];
    const std::uint64_t left = piece.page_bytes() - in_tile_;
    if (!piece.straight() && in_tile_ != 0) {  // began in an earlier range
      position_ += left;
      advance_page();
      continue;
    }
    const std::uint64_t page = plan_.pages()[block_ * geometry.pages_per_block() + page_];
    tile.engine = piece.engine + page * piece.engine_page_stride_bytes;
    tile.block = plan_.slots()[block_] + piece.block_offset_bytes + page_ * piece.block_page_stride_bytes;
    tile.row_bytes = piece.row_bytes;
    tile.outer = piece.outer;
    tile.inner = piece.inner;
    if (!piece.straight()) {
      position_ += left;
      advance_page();
      return true;
    }
    const std::uint64_t take = std::min(left, end_ - position_);
    tile.engine += in_tile_;
    tile.block += in_tile_;
    tile.row_bytes = take;
    position_ += take;
    in_tile_ += take;
    if (take == left) advance_page();
    return true;
  }
  return false;
}

void PlanWalker::advance_page() noexcept {
  in_tile_ = 0;
  if (++page_ < plan_.geometry().pages_per_block()) return;
  page_ = 0;
  if (++piece_ < plan_.geometry().pieces().size()) return;
  piece_ = 0;
  ++block_;
}

}  // namespace tiercel
