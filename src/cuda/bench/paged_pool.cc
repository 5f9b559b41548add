#include "cuda/bench/paged_pool.h"

#include "base/random.h"
#include "model/run_table.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace tiercel::gpu {
namespace {

constexpr std::uint32_t kBlockTokens = 16;
constexpr std::uint64_t kHeads = 8;
constexpr std::uint64_t kRowBytes = 512;  // K and V of one head and token: 128 values of 2 bytes each
constexpr std::uint64_t kLatentRowBytes = 1152;
constexpr std::uint64_t kHeadsOfRank = 2;

std::int64_t stride(std::uint64_t bytes) { return static_cast<std::int64_t>(bytes); }

struct LayoutShape {
  std::uint32_t layers = 36;
  std::uint64_t page_bytes = kHeads * kBlockTokens * kRowBytes;  // of a layer
};

LayoutShape shape_of(PoolLayout layout) {
  if (layout == PoolLayout::kLatent) return {.layers = 61, .page_bytes = kBlockTokens * kLatentRowBytes};
  if (layout == PoolLayout::kHeads) return {.page_bytes = kHeadsOfRank * kBlockTokens * kRowBytes};
  return {};
}

Group group_of(PoolLayout layout) {
  Group group;
  const bool latent = layout == PoolLayout::kLatent;
  for (std::uint32_t layer = 0; layer < shape_of(layout).layers; ++layer) {
    group.runs.push_back(
        latent ? Run{.layer = layer, .kind = StateKind::kLatent, .opaque_bytes = kBlockTokens * kLatentRowBytes}
               : Run{.layer = layer, .heads = kHeads, .bytes_per_head_token = kRowBytes});
  }
  return group;
}

std::vector<TensorAxis> axes_of(PoolLayout layout, std::uint64_t pages) {
  const LayoutShape shape = shape_of(layout);
  const auto head_major = [&](std::uint64_t page_stride, std::uint64_t heads) {
    return std::vector<TensorAxis>{{Axis::kPage, pages, stride(page_stride)},
                                   {Axis::kHead, heads, stride(kBlockTokens * kRowBytes)},
                                   {Axis::kToken, kBlockTokens, stride(kRowBytes)},
                                   {Axis::kInner, kRowBytes, 1}};
  };
  switch (layout) {
    case PoolLayout::kNhd:
      return {{Axis::kPage, pages, stride(shape.page_bytes)},
              {Axis::kToken, kBlockTokens, stride(kHeads * kRowBytes)},
              {Axis::kHead, kHeads, stride(kRowBytes)},
              {Axis::kInner, kRowBytes, 1}};
    case PoolLayout::kCrossLayer: {
      auto axes = head_major(shape.layers * shape.page_bytes, kHeads);
      axes.push_back({Axis::kLayer, shape.layers, stride(shape.page_bytes)});
      return axes;
    }
    case PoolLayout::kHeads:
      return head_major(shape.page_bytes, kHeadsOfRank);
    case PoolLayout::kLatent:
      return {{Axis::kPage, pages, stride(shape.page_bytes)},
              {Axis::kToken, kBlockTokens, stride(kLatentRowBytes)},
              {Axis::kInner, kLatentRowBytes, 1}};
    case PoolLayout::kHnd:
      break;
  }
  return head_major(shape.page_bytes, kHeads);
}

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

PagedPool::PagedPool(const PoolMemory& memory, PoolLayout layout) : memory_(memory) {
  const LayoutShape shape = shape_of(layout);
  const RunTable table = RunTable::make(group_of(layout), kBlockTokens).value();
  const std::uint64_t pages = std::min<std::uint64_t>(memory.gpu_bytes / (shape.layers * shape.page_bytes), 8192);
  const bool one_tensor = layout == PoolLayout::kCrossLayer;
  std::vector<EngineTensor> tensors;
  for (std::uint32_t layer = 0; layer < (one_tensor ? 1 : shape.layers); ++layer) {
    tensors.push_back({.name = "layer",
                       .base = memory.gpu.data() + layer * pages * shape.page_bytes,
                       .storage_bytes = (one_tensor ? shape.layers : 1) * pages * shape.page_bytes,
                       .axes = axes_of(layout, pages),
                       .kind = layout == PoolLayout::kLatent ? StateKind::kLatent : StateKind::kKeyValue,
                       .first_layer = layer,
                       .first_head = layout == PoolLayout::kHeads ? static_cast<std::uint32_t>(kHeadsOfRank) : 0});
  }
  geometry_ = std::make_shared<const CopyGeometry>(CopyGeometry::make(table, tensors).value());
  blocks_ = std::min<std::uint64_t>(pages, memory.arena_bytes / table.block_bytes());
  pages_ = shuffled(pages, 1);
  slots_ = shuffled(blocks_, 2);
}

CopyPlan PagedPool::plan(std::size_t first, std::size_t count) const {
  std::vector<std::uint32_t> pages(pages_.begin() + static_cast<std::ptrdiff_t>(first),
                                   pages_.begin() + static_cast<std::ptrdiff_t>(first + count));
  std::vector<std::byte*> slots;
  for (std::size_t i = first; i < first + count; ++i)
    slots.push_back(memory_.arena.data() + slots_[i] * geometry_->block_bytes());
  return CopyPlan::make(geometry_, std::move(pages), std::move(slots)).value();
}

}  // namespace tiercel::gpu
