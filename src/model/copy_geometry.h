// CopyGeometry: how the pages of an engine's tensors map to the bytes of a block, as a few small strided copies.
//
// Made once a session and rank from the run table and the tensors. For each run that the rank holds (or a part of its
// heads) there is one RunPiece: what one page gives to one block, as rows under at most two levels. Levels that are
// contiguous on both sides are merged into the row, and neighbouring pieces into one, so that a straight layout becomes
// one copy a layer and state kind, or one a block. Size: O(layers), whatever the number of pages and blocks.
//
// A block takes pages_per_block pages: page i of a block holds its tokens [i, i + 1) * page_tokens.
// A value without access to the memory it describes; reading it from several threads is safe.
// Errors are kInvalidArgument and name tensor, axis and what would be right.
#pragma once

#include "model/engine_tensor.h"
#include "model/run_table.h"

#include <tiercel/result.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tiercel {

/// `count` steps with a stride on either side.
struct CopyLevel {
  std::uint64_t count = 1;
  std::uint64_t engine_stride_bytes = 0;
  std::uint64_t block_stride_bytes = 0;
  friend bool operator==(const CopyLevel&, const CopyLevel&) = default;
};

struct RunPiece {
  std::byte* engine = nullptr;  ///< the piece's first byte in page 0
  std::uint64_t engine_page_stride_bytes = 0;
  std::uint64_t block_offset_bytes = 0;       ///< of the block's page 0
  std::uint64_t block_page_stride_bytes = 0;  ///< from one page's part of the block to the next's
  std::uint64_t row_bytes = 0;                ///< contiguous on both sides
  CopyLevel outer;                            ///< heads, unless merged
  CopyLevel inner;                            ///< tokens, unless merged
  std::uint64_t first_byte = 0;               ///< bytes of the pieces before this one, over all pages of a block

  [[nodiscard]] std::uint64_t page_bytes() const noexcept { return row_bytes * inner.count * outer.count; }
  [[nodiscard]] bool straight() const noexcept { return inner.count == 1 && outer.count == 1; }
  friend bool operator==(const RunPiece&, const RunPiece&) = default;
};

class CopyGeometry {
 public:
  /// Every run of the part's layers must be held by exactly one tensor.
  [[nodiscard]] static Result<CopyGeometry> make(const RunTable& table, std::span<const EngineTensor> tensors,
                                                 const RankPart& part = {});

  /// In the order of the block's bytes.
  [[nodiscard]] const std::vector<RunPiece>& pieces() const noexcept { return pieces_; }
  [[nodiscard]] std::uint32_t pages_per_block() const noexcept { return pages_per_block_; }
  /// Pages that every tensor has: page ids are below.
  [[nodiscard]] std::uint64_t page_count() const noexcept { return page_count_; }
  /// Of the whole block, all ranks' parts.
  [[nodiscard]] std::uint64_t block_bytes() const noexcept { return block_bytes_; }
  /// That this rank moves for a block.
  [[nodiscard]] std::uint64_t part_bytes() const noexcept { return part_bytes_; }

 private:
  std::vector<RunPiece> pieces_;
  std::uint32_t pages_per_block_ = 0;
  std::uint64_t page_count_ = 0;
  std::uint64_t block_bytes_ = 0;
  std::uint64_t part_bytes_ = 0;
};

}  // namespace tiercel
