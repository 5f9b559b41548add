// PagedPool: an engine's KV pool on the GPU in the layout of a known model, and an arena in pinned memory, at random
// places.
#pragma once

#include "cuda/bench/pool_shape.h"
#include "cuda/cuda_handles.h"
#include "transfer/copy_plan.h"

#include <tiercel/result.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tiercel::gpu {

enum class PoolLayout : std::uint8_t {
  kHnd,         ///< Qwen3-8B as vLLM 0.26 packs it: 36 tensors, 64 KiB a page of 16 tokens, straight
  kNhd,         ///< the same, token major: rows of 512 bytes are transposed in the copy
  kCrossLayer,  ///< the same in one tensor over all layers, 2.25 MiB a page
  kHeads,       ///< one of four tensor-parallel ranks of kHnd: 2 of 8 heads
  kLatent,      ///< DeepSeek-V3: 61 layers of 18 KiB a page
};

[[nodiscard]] std::string layout_name(PoolLayout layout);
[[nodiscard]] PoolShape shape_of(PoolLayout layout);

/// Memory for pools of any layout, taken once.
struct PoolMemory {
  DeviceMemory gpu;
  std::uint64_t gpu_bytes = 0;
  PinnedMemory arena;
  std::uint64_t arena_bytes = 0;
  [[nodiscard]] static Result<PoolMemory> make(std::uint64_t gpu_bytes, std::uint64_t arena_bytes);
};

class PagedPool {
 public:
  PagedPool(const PoolMemory& memory, PoolLayout layout) : PagedPool(memory, shape_of(layout)) {}
  PagedPool(const PoolMemory& memory, PoolShape shape);

  /// That a plan may have in all.
  [[nodiscard]] std::size_t blocks() const noexcept { return blocks_; }
  [[nodiscard]] const CopyGeometry& geometry() const noexcept { return *geometry_; }
  /// Blocks [first, first + count) of a random order: pages anywhere in the pool, slots anywhere in the arena.
  [[nodiscard]] CopyPlan plan(std::size_t first, std::size_t count) const;
  [[nodiscard]] const PoolShape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::byte* slot(std::size_t block) const;
  /// The page of one layer that the block lies in.
  [[nodiscard]] std::byte* page(std::size_t block, std::uint32_t layer) const;

 private:
  const PoolMemory& memory_;
  PoolShape shape_;
  std::shared_ptr<const CopyGeometry> geometry_;
  std::size_t blocks_ = 0;
  std::vector<std::uint32_t> pages_;
  std::vector<std::uint32_t> slots_;
};

}  // namespace tiercel::gpu
