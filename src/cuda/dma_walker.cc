#include "cuda/dma_walker.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace tiercel::gpu {
namespace {

constexpr int kSampledTiles = 64;
constexpr Dma kNothing{.rows = 0};

bool joins(const Dma& a, const Dma& b) {
  return a.rows == 1 && b.rows == 1 && a.host + a.bytes == b.host && a.device + a.bytes == b.device;
}

}  // namespace

void DmaWalker::of_stage(const CopyPlan& plan, const PieceTable& table, const StageRange& range, std::byte* stage) {
  plan_ = &plan;
  table_ = &table;
  range_ = range;
  stage_ = stage;
  position_ = range.begin;
  const std::uint64_t in_block = position_ % table.block_bytes();
  const auto after = std::ranges::upper_bound(table.spans(), in_block, {}, &SlotSpan::packed_offset);
  span_ = static_cast<std::size_t>(after - table.spans().begin()) - 1;
  tiles_.reset();
  has_left_ = false;
  rest_ = kNothing;
}

void DmaWalker::of_plan(const CopyPlan& plan) {
  plan_ = &plan;
  table_ = nullptr;
  tiles_.emplace(plan, ByteRange{0, plan.bytes()});
  has_tile_ = tiles_->next(tile_);
  outer_ = 0;
  has_left_ = false;
  rest_ = kNothing;
}

void DmaWalker::of_range(std::byte* host, std::byte* device, std::uint64_t bytes) {
  plan_ = nullptr;
  table_ = nullptr;
  tiles_.reset();
  left_ = {.host = host, .device = device, .bytes = bytes};
  has_left_ = bytes > 0;
  rest_ = kNothing;
}

bool DmaWalker::next_of_stage(Dma& dma) {
  const std::uint64_t block_bytes = table_->block_bytes();
  if (position_ >= range_.end) return false;
  const std::uint64_t block = position_ / block_bytes;
  const std::uint64_t in_block = position_ % block_bytes;
  const std::uint64_t end = std::min(range_.end - block * block_bytes, std::uint64_t{table_->part_bytes()});
  if (in_block >= end) return false;  // the range ends in the padding behind its last block
  const SlotSpan& span = table_->spans()[span_];
  const std::uint64_t in_span = in_block - span.packed_offset;
  dma.host = plan_->slots()[block] + span.slot_offset + in_span;
  dma.device = stage_ + (position_ - range_.begin);
  std::uint64_t rows = in_span == 0 ? std::min(span.rows, (end - in_block) / span.bytes) : 0;
  if (rows >= 2) {
    dma.bytes = span.bytes;
    dma.rows = rows;
    dma.host_pitch_bytes = span.pitch_bytes;
    dma.device_pitch_bytes = span.bytes;
    span_ += rows;
  } else {
    dma.bytes = std::min(end - in_block, span.bytes - in_span);
    dma.rows = 1;
    if (in_span + dma.bytes == span.bytes) ++span_;
  }
  position_ += dma.total_bytes();
  if (span_ == table_->spans().size()) {  // on to the next block
    span_ = 0;
    position_ = (block + 1) * block_bytes;
  }
  return true;
}

bool DmaWalker::next_of_plan(Dma& dma) {
  if (!has_tile_) return false;
  dma.host = tile_.block + outer_ * tile_.outer.block_stride_bytes;
  dma.device = tile_.engine + outer_ * tile_.outer.engine_stride_bytes;
  dma.bytes = tile_.row_bytes;
  dma.rows = tile_.inner.count;
  dma.host_pitch_bytes = tile_.inner.block_stride_bytes;
  dma.device_pitch_bytes = tile_.inner.engine_stride_bytes;
  if (++outer_ == tile_.outer.count) {
    outer_ = 0;
    has_tile_ = tiles_->next(tile_);
  }
  return true;
}

bool DmaWalker::refill() {
  if (has_left_) return true;
  if (rest_.rows > 0) {
    left_ = std::exchange(rest_, kNothing);
    has_left_ = true;
  } else if (table_ != nullptr) {
    has_left_ = next_of_stage(left_);
  } else if (tiles_) {
    has_left_ = next_of_plan(left_);
  }
  return has_left_;
}

bool DmaWalker::ended() { return !refill(); }

std::uint64_t DmaWalker::until_boundary(const std::byte* host, std::uint64_t bytes) const noexcept {
  if (boundary_ == 0) return bytes;
  return std::min(bytes, boundary_ - (std::bit_cast<std::uintptr_t>(host) & (boundary_ - 1)));
}

/// As many rows as fit under the limit and before the boundary; false if that is not at least two.
bool DmaWalker::take_rows(Dma& dma, std::uint64_t limit_bytes) {
  if (left_.rows < 2 || left_.bytes > limit_bytes) return false;
  std::uint64_t rows = std::min(left_.rows, limit_bytes / left_.bytes);
  const std::uint64_t extent = (rows - 1) * left_.host_pitch_bytes + left_.bytes;
  const std::uint64_t room = until_boundary(left_.host, extent);
  if (room < extent) rows = room < left_.bytes ? 0 : (room - left_.bytes) / left_.host_pitch_bytes + 1;
  if (rows < 2) return false;
  dma = left_;
  dma.rows = rows;
  left_.host += rows * left_.host_pitch_bytes;
  left_.device += rows * left_.device_pitch_bytes;
  left_.rows -= rows;
  has_left_ = left_.rows > 0;
  return true;
}

/// The begin of left_, which is one row.
Dma DmaWalker::take_bytes(std::uint64_t limit_bytes) {
  const Dma dma{.host = left_.host,
                .device = left_.device,
                .bytes = until_boundary(left_.host, std::min(left_.bytes, limit_bytes))};
  left_.host += dma.bytes;
  left_.device += dma.bytes;
  left_.bytes -= dma.bytes;
  has_left_ = left_.bytes > 0;
  return dma;
}

bool DmaWalker::next(Dma& dma, std::uint64_t limit_bytes) {
  if (!refill()) return false;
  if (take_rows(dma, limit_bytes)) return true;
  if (left_.rows > 1) {  // one row goes by itself, perhaps in parts
    rest_ = left_;
    rest_.host += left_.host_pitch_bytes;
    rest_.device += left_.device_pitch_bytes;
    --rest_.rows;
    left_.rows = 1;
  }
  dma = take_bytes(limit_bytes);
  const auto on_boundary = [this](const std::byte* host) {
    return boundary_ != 0 && until_boundary(host, boundary_) == boundary_;
  };
  while (dma.bytes < limit_bytes && refill() && joins(dma, left_) && !on_boundary(left_.host)) {
    dma.bytes += take_bytes(limit_bytes - dma.bytes).bytes;
  }
  return true;
}

std::uint64_t mean_run_bytes(const CopyPlan& plan) {
  PlanWalker walker(plan, {0, plan.bytes()});
  std::uint64_t bytes = 0;
  std::uint64_t runs = 0;
  Tile tile;
  for (int i = 0; i < kSampledTiles && walker.next(tile); ++i) {
    bytes += tile.bytes();
    runs += tile.inner.count * tile.outer.count;
  }
  return runs == 0 ? 0 : bytes / runs;
}

}  // namespace tiercel::gpu
