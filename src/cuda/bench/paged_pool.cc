#include "cuda/bench/paged_pool.h"

#include "base/random.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace tiercel::gpu {
namespace {

std::vector<std::uint32_t> shuffled(std::uint64_t count, std::uint64_t seed) {
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0U);
  Random random(seed);
  for (std::uint64_t i = count; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

}  // namespace

std::string layout_name(PoolLayout layout) {
  switch (layout) {
    case PoolLayout::kHnd:
      return "qwen3-8b hnd";
    case PoolLayout::kNhd:
      return "qwen3-8b nhd";
    case PoolLayout::kCrossLayer:
      return "qwen3-8b cross-layer";
    case PoolLayout::kHeads:
      return "qwen3-8b hnd, rank of 4";
    case PoolLayout::kLatent:
      return "deepseek-v3 mla";
  }
  return "";
}

PoolShape shape_of(PoolLayout layout) {
  switch (layout) {
    case PoolLayout::kHnd:
      return {};
    case PoolLayout::kNhd:
      return {.order = PageOrder::kTokens};
    case PoolLayout::kCrossLayer:
      return {.order = PageOrder::kCrossLayer};
    case PoolLayout::kHeads:
      return {.first_head = 2, .rank_heads = 2};
    case PoolLayout::kLatent:
      return {.model = "deepseek-v3", .order = PageOrder::kLatent, .layers = 61, .heads = 1, .row_bytes = 1152};
  }
  return {};
}

Result<PoolMemory> PoolMemory::make(std::uint64_t gpu_bytes, std::uint64_t arena_bytes) {
  PoolMemory memory;
  memory.gpu_bytes = gpu_bytes;
  memory.arena_bytes = arena_bytes;
  TIERCEL_TRY_ASSIGN(memory.gpu, DeviceMemory::make(gpu_bytes));
  TIERCEL_TRY_ASSIGN(memory.arena, PinnedMemory::make(arena_bytes));
  TIERCEL_CUDA_TRY(cudaMemset(memory.gpu.get(), 0x5a, gpu_bytes));
  std::memset(memory.arena.data(), 0xa5, arena_bytes);
  TIERCEL_CUDA_TRY(cudaDeviceSynchronize());
  return memory;
}

PagedPool::PagedPool(const PoolMemory& memory, PoolShape shape) : memory_(memory), shape_(std::move(shape)) {
  const std::uint64_t pages = std::min<std::uint64_t>(memory.gpu_bytes / shape_.block_bytes(), 8192);
  geometry_ = std::make_shared<const CopyGeometry>(pool_geometry(shape_, memory.gpu.data(), pages).value());
  blocks_ = std::min<std::uint64_t>(pages, memory.arena_bytes / geometry_->block_bytes());
  pages_ = shuffled(pages, 1);
  slots_ = shuffled(blocks_, 2);
}

CopyPlan PagedPool::plan(std::size_t first, std::size_t count) const {
  std::vector<std::uint32_t> pages(pages_.begin() + static_cast<std::ptrdiff_t>(first),
                                   pages_.begin() + static_cast<std::ptrdiff_t>(first + count));
  std::vector<std::byte*> slots;
  for (std::size_t i = first; i < first + count; ++i) slots.push_back(slot(i));
  return CopyPlan::make(geometry_, std::move(pages), std::move(slots)).value();
}

std::byte* PagedPool::slot(std::size_t block) const {
  return memory_.arena.data() + slots_[block] * geometry_->block_bytes();
}

std::byte* PagedPool::page(std::size_t block, std::uint32_t layer) const {
  return memory_.gpu.data() + page_offset(shape_, pages_.size(), layer, pages_[block]);
}

}  // namespace tiercel::gpu
