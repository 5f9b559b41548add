// PoolShape: the pages of a model's KV cache as an engine lays them out, without the memory that they lie in.
//
// One page a block, bf16; K and V of a head and token side by side, as vLLM 0.26 packs them. Values; knows no CUDA.
#pragma once

#include "model/copy_geometry.h"

#include <tiercel/result.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace tiercel::gpu {

/// How the axes of a page follow each other in the engine's tensors.
enum class PageOrder : std::uint8_t {
  kHeads,       ///< "hnd": a tensor a layer, head by head: the order of a block's bytes
  kTokens,      ///< "nhd": a tensor a layer, token by token: rows are transposed in the copy
  kCrossLayer,  ///< "cross-layer": one tensor, all layers of a page together
  kLatent,      ///< "mla": a tensor a layer, one row a token for all heads
};

struct PoolShape {
  std::string model = "qwen3-8b";
  PageOrder order = PageOrder::kHeads;
  std::uint32_t layers = 36;
  std::uint32_t heads = 8;        ///< of a block
  std::uint32_t first_head = 0;   ///< that this rank holds
  std::uint32_t rank_heads = 0;   ///< so many; 0: all
  std::uint32_t row_bytes = 512;  ///< of a token: of one head; of all where they are one (kLatent)
  std::uint32_t tokens = 16;      ///< a page and block

  [[nodiscard]] std::uint32_t held_heads() const noexcept { return rank_heads == 0 ? heads : rank_heads; }
  /// Of a layer.
  [[nodiscard]] std::uint64_t page_bytes() const noexcept { return std::uint64_t{held_heads()} * tokens * row_bytes; }
  /// That a block moves.
  [[nodiscard]] std::uint64_t block_bytes() const noexcept { return layers * page_bytes(); }
  /// Pieces of a block that are contiguous on both sides, were no row transposed.
  [[nodiscard]] std::uint64_t block_pieces() const noexcept { return order == PageOrder::kCrossLayer ? 1 : layers; }
  /// "hnd", "nhd", "cross-layer", "mla".
  [[nodiscard]] std::string layout() const;
  friend bool operator==(const PoolShape&, const PoolShape&) = default;
};

/// Of a pool of so many pages that begins at `base`, tensor behind tensor. The memory is not touched.
[[nodiscard]] Result<CopyGeometry> pool_geometry(const PoolShape& shape, std::byte* base, std::uint64_t pages);
/// Where a page of a layer begins in that pool.
[[nodiscard]] std::uint64_t page_offset(const PoolShape& shape, std::uint64_t pages, std::uint32_t layer,
                                        std::uint64_t page) noexcept;

}  // namespace tiercel::gpu
