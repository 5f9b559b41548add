#include "cache/layer_ranges.h"

#include "base/try.h"

#include <fmt/format.h>

#include <algorithm>

namespace tiercel {
namespace {

/// The part of a tensor that lies in [first, end): of one over several layers a slice.
std::vector<EngineTensor> slices(const std::vector<EngineTensor>& tensors, std::uint64_t first, std::uint64_t end) {
  std::vector<EngineTensor> found;
  for (const EngineTensor& tensor : tensors) {
    const std::uint64_t begin = std::max<std::uint64_t>(first, tensor.first_layer);
    const std::uint64_t stop = std::min(end, tensor.first_layer + tensor.axis(Axis::kLayer).size);
    if (begin >= stop) continue;
    EngineTensor slice = tensor;
    const std::uint64_t before = begin - tensor.first_layer;
    const std::uint64_t skipped = before * static_cast<std::uint64_t>(tensor.axis(Axis::kLayer).stride_bytes);
    slice.base += skipped;
    slice.storage_bytes -= std::min(skipped, slice.storage_bytes);
    slice.first_layer = static_cast<std::uint32_t>(begin);
    for (TensorAxis& axis : slice.axes) {
      if (axis.axis == Axis::kLayer) axis.size = stop - begin;
    }
    found.push_back(std::move(slice));
  }
  return found;
}

}  // namespace

Result<LayerRanges> LayerRanges::make(RunTable table, std::span<const EngineTensor> tensors, const RankPart& part) {
  TIERCEL_TRY_ASSIGN(CopyGeometry whole, CopyGeometry::make(table, tensors, part));
  auto state =
      std::make_unique<State>(std::move(table), std::vector<EngineTensor>(tensors.begin(), tensors.end()), part);
  state->whole = std::make_shared<const CopyGeometry>(std::move(whole));
  return LayerRanges(std::move(state));
}

Result<std::shared_ptr<const CopyGeometry>> LayerRanges::of(std::uint32_t first, std::uint32_t end) {
  const auto asked = std::pair{first, end};
  first = std::max(first, state_->part.first_layer);
  end = std::min(end, state_->part.end_layer);
  if (first == state_->part.first_layer && end == state_->part.end_layer) return state_->whole;
  const MutexLock lock(state_->mutex);
  if (const auto known = state_->ranges.find({first, end}); known != state_->ranges.end()) return known->second;
  const auto tensors = slices(state_->tensors, first, end);
  if (tensors.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("layers {} to {}: this rank's tensors hold none of them", asked.first, asked.second));
  }
  RankPart part = state_->part;
  part.first_layer = first;
  part.end_layer = end;
  TIERCEL_TRY_ASSIGN(CopyGeometry geometry, CopyGeometry::make(state_->table, tensors, part));
  auto made = std::make_shared<const CopyGeometry>(std::move(geometry));
  if (state_->ranges.size() < kKept) state_->ranges.emplace(std::pair{first, end}, made);
  return made;
}

}  // namespace tiercel
