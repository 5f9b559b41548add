#include "cuda/bench/pool_shape.h"

#include "base/try.h"
#include "model/run_table.h"

#include <vector>

namespace tiercel::gpu {
namespace {

std::int64_t stride(std::uint64_t bytes) { return static_cast<std::int64_t>(bytes); }

Group group_of(const PoolShape& shape) {
  Group group;
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
    group.runs.push_back(shape.order == PageOrder::kLatent
                             ? Run{.layer = layer,
                                   .kind = StateKind::kLatent,
                                   .opaque_bytes = std::uint64_t{shape.tokens} * shape.row_bytes}
                             : Run{.layer = layer, .heads = shape.heads, .bytes_per_head_token = shape.row_bytes});
  }
  return group;
}

std::vector<TensorAxis> axes_of(const PoolShape& shape, std::uint64_t pages) {
  const std::uint64_t row = shape.row_bytes;
  const std::uint64_t heads = shape.held_heads();
  switch (shape.order) {
    case PageOrder::kLatent:
      return {{Axis::kPage, pages, stride(shape.page_bytes())},
              {Axis::kToken, shape.tokens, stride(row)},
              {Axis::kInner, row, 1}};
    case PageOrder::kTokens:
      return {{Axis::kPage, pages, stride(shape.page_bytes())},
              {Axis::kToken, shape.tokens, stride(heads * row)},
              {Axis::kHead, heads, stride(row)},
              {Axis::kInner, row, 1}};
    case PageOrder::kHeads:
    case PageOrder::kCrossLayer:
      break;
  }
  const bool one_tensor = shape.order == PageOrder::kCrossLayer;
  std::vector<TensorAxis> axes = {
      {Axis::kPage, pages, stride(one_tensor ? shape.layers * shape.page_bytes() : shape.page_bytes())},
      {Axis::kHead, heads, stride(shape.tokens * row)},
      {Axis::kToken, shape.tokens, stride(row)},
      {Axis::kInner, row, 1}};
  if (one_tensor) axes.push_back({Axis::kLayer, shape.layers, stride(shape.page_bytes())});
  return axes;
}

}  // namespace

std::string PoolShape::layout() const {
  switch (order) {
    case PageOrder::kHeads:
      return "hnd";
    case PageOrder::kTokens:
      return "nhd";
    case PageOrder::kCrossLayer:
      return "cross-layer";
    case PageOrder::kLatent:
      return "mla";
  }
  return "";
}

Result<CopyGeometry> pool_geometry(const PoolShape& shape, std::byte* base, std::uint64_t pages) {
  TIERCEL_TRY_ASSIGN(const RunTable table, RunTable::make(group_of(shape), shape.tokens));
  const bool one_tensor = shape.order == PageOrder::kCrossLayer;
  std::vector<EngineTensor> tensors;
  for (std::uint32_t layer = 0; layer < (one_tensor ? 1 : shape.layers); ++layer) {
    tensors.push_back({.name = "layer",
                       .base = base + page_offset(shape, pages, layer, 0),
                       .storage_bytes = (one_tensor ? shape.layers : 1) * pages * shape.page_bytes(),
                       .axes = axes_of(shape, pages),
                       .kind = shape.order == PageOrder::kLatent ? StateKind::kLatent : StateKind::kKeyValue,
                       .first_layer = layer,
                       .first_head = shape.first_head});
  }
  return CopyGeometry::make(table, tensors);
}

std::uint64_t page_offset(const PoolShape& shape, std::uint64_t pages, std::uint32_t layer,
                          std::uint64_t page) noexcept {
  if (shape.order == PageOrder::kCrossLayer) return (page * shape.layers + layer) * shape.page_bytes();
  return (layer * pages + page) * shape.page_bytes();
}

}  // namespace tiercel::gpu
