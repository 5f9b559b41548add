#include "cuda/piece_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <functional>

namespace tiercel::gpu {
namespace {

constexpr std::uint64_t kMaxPartBytes = std::uint64_t{1} << 30U;

struct Level {
  std::uint64_t count = 1;
  std::uint64_t block_stride_bytes = 0;
  std::uint64_t engine_stride_bytes = 0;
  bool page = false;
};

/// The largest power of two, at most a vector, that divides all of it.
std::uint32_t alignment_of(std::uint64_t bits) {
  return static_cast<std::uint32_t>(std::uint64_t{1} << std::min(4, std::countr_zero(bits | kVectorBytes)));
}

/// False: the levels do not fill the piece without gaps (no geometry of a run table does that).
bool fill_levels(const RunPiece& piece, std::uint64_t pages, PieceEntry& entry) {
  const std::uint64_t bytes = piece.page_bytes() * pages;
  std::array<Level, 3> levels = {
      Level{pages, piece.block_page_stride_bytes, piece.engine_page_stride_bytes, true},
      Level{piece.outer.count, piece.outer.block_stride_bytes, piece.outer.engine_stride_bytes, false},
      Level{piece.inner.count, piece.inner.block_stride_bytes, piece.inner.engine_stride_bytes, false}};
  for (Level& level : levels) {
    if (level.count == 1) level.block_stride_bytes = bytes;  // no offset reaches it: the step is always 0
  }
  std::ranges::sort(levels, std::greater{}, &Level::block_stride_bytes);
  std::uint64_t inside = piece.row_bytes;
  for (auto level = levels.rbegin(); level != levels.rend(); ++level) {
    if (level->count == 1) continue;
    if (level->block_stride_bytes != inside) return false;
    inside *= level->count;
  }
  if (inside != bytes) return false;
  // A page level of one step still adds the page's address.
  std::uint64_t bits =
      std::bit_cast<std::uintptr_t>(piece.engine) | piece.row_bytes | piece.first_byte | piece.engine_page_stride_bytes;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    entry.engine_stride_bytes[i] = levels[i].engine_stride_bytes;
    entry.block_stride[i] = Divisor::of(static_cast<std::uint32_t>(levels[i].block_stride_bytes));
    if (levels[i].page) entry.page_level = static_cast<std::uint32_t>(i);
    if (levels[i].count > 1) bits |= levels[i].engine_stride_bytes | levels[i].block_stride_bytes;
  }
  entry.access_bytes = alignment_of(bits);
  return true;
}

std::vector<SlotSpan> spans_of(const CopyGeometry& geometry) {
  std::vector<SlotSpan> spans;
  for (const RunPiece& piece : geometry.pieces()) {
    const std::uint64_t bytes = piece.page_bytes() * geometry.pages_per_block();
    if (!spans.empty() && spans.back().slot_offset + spans.back().bytes == piece.block_offset_bytes) {
      spans.back().bytes += bytes;
    } else {
      spans.push_back({.packed_offset = piece.first_byte, .slot_offset = piece.block_offset_bytes, .bytes = bytes});
    }
  }
  for (std::size_t i = spans.size() - 1; i-- > 0;) {
    const SlotSpan& next = spans[i + 1];
    if (spans[i].bytes != next.bytes) continue;
    spans[i].pitch_bytes = next.slot_offset - spans[i].slot_offset;
    spans[i].rows = next.rows == 1 || next.pitch_bytes == spans[i].pitch_bytes ? next.rows + 1 : 2;
  }
  return spans;
}

}  // namespace

Result<PieceTable> PieceTable::make(const CopyGeometry& geometry) {
  if (geometry.part_bytes() >= kMaxPartBytes) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("a part of {} bytes a block; stages take less than 1 GiB", geometry.part_bytes()));
  }
  if (geometry.pages_per_block() > kMaxStagePages) {
    return fail(ErrorCode::kUnsupported, fmt::format("{} pages a block; a stage kernel takes at most {}",
                                                     geometry.pages_per_block(), kMaxStagePages));
  }
  PieceTable table;
  table.part_bytes_ = static_cast<std::uint32_t>(geometry.part_bytes());
  table.pages_per_block_ = geometry.pages_per_block();
  table.block_bytes_ = (table.part_bytes_ + kVectorBytes - 1) / kVectorBytes * kVectorBytes;
  for (const RunPiece& piece : geometry.pieces()) {
    PieceEntry entry;
    const std::uint64_t bytes = piece.page_bytes() * geometry.pages_per_block();
    entry.engine = std::bit_cast<std::uintptr_t>(piece.engine);
    entry.first_byte = static_cast<std::uint32_t>(piece.first_byte);
    entry.end_byte = static_cast<std::uint32_t>(piece.first_byte + bytes);
    if (!fill_levels(piece, geometry.pages_per_block(), entry)) {
      return fail(ErrorCode::kUnsupported, "a piece with gaps in the block");
    }
    table.piece_bytes_ = table.pieces_.empty() || table.piece_bytes_ == bytes ? static_cast<std::uint32_t>(bytes) : 0;
    table.pieces_.push_back(entry);
  }
  table.spans_ = spans_of(geometry);
  return table;
}

}  // namespace tiercel::gpu
