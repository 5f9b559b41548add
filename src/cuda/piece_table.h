// PieceTable: a CopyGeometry in the form that a stage kernel reads, and the ranges of a slot that its DMA moves.
//
// The part of a block that a rank moves is numbered in the order of the slot's bytes, without gaps: the packed offset.
// A piece with all its pages is one range of it, [first_byte, first_byte + page_bytes * pages), because a rank's part
// of a run is contiguous in the block. Inside, three levels (page, outer, inner) and the row are a mixed-radix number,
// so that any offset is found by at most three divisions: no list, no loop over pieces. O(pieces) memory.
// A value; reading it from several threads is safe.
#pragma once

#include "cuda/stage_move.h"
#include "model/copy_geometry.h"

#include <tiercel/result.h>

#include <cstdint>
#include <vector>

namespace tiercel::gpu {

/// A contiguous range of a slot, as long as the packed offsets it holds; `rows` of the same length follow at one pitch.
struct SlotSpan {
  std::uint64_t packed_offset = 0;
  std::uint64_t slot_offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t rows = 1;  ///< spans from this one on that are alike, this one included
  std::uint64_t pitch_bytes = 0;
};

class PieceTable {
 public:
  /// kUnsupported: a part of a block of 1 GiB or more, or of pages that do not fit a launch (StageParams). Such a
  /// geometry is copied without a stage.
  [[nodiscard]] static Result<PieceTable> make(const CopyGeometry& geometry);

  [[nodiscard]] const std::vector<PieceEntry>& pieces() const noexcept { return pieces_; }
  [[nodiscard]] const std::vector<SlotSpan>& spans() const noexcept { return spans_; }
  [[nodiscard]] std::uint32_t part_bytes() const noexcept { return part_bytes_; }
  [[nodiscard]] std::uint32_t pages_per_block() const noexcept { return pages_per_block_; }
  /// From one block to the next in a stage: part_bytes() up to the next vector.
  [[nodiscard]] std::uint32_t block_bytes() const noexcept { return block_bytes_; }
  /// Of every piece, if all are alike; else 0.
  [[nodiscard]] std::uint32_t piece_bytes() const noexcept { return piece_bytes_; }

 private:
  std::vector<PieceEntry> pieces_;
  std::vector<SlotSpan> spans_;
  std::uint32_t part_bytes_ = 0;
  std::uint32_t pages_per_block_ = 0;
  std::uint32_t block_bytes_ = 0;
  std::uint32_t piece_bytes_ = 0;
};

}  // namespace tiercel::gpu
