#include "model/engine_tensor.h"

#include "base/try.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>

namespace tiercel {
namespace {

Status invalid(const EngineTensor& tensor, std::string_view what) {
  return fail(ErrorCode::kInvalidArgument, fmt::format("tensor {}: {}", tensor.name, what));
}

Status check_axis(const EngineTensor& tensor, const TensorAxis& axis) {
  const std::string_view name = axis_name(axis.axis);
  if (axis.size == 0) return invalid(tensor, fmt::format("axis {} has size 0; it needs at least 1", name));
  if (axis.axis == Axis::kKv && axis.size != 2) {
    return invalid(tensor, fmt::format("axis kv has size {}; it must be 2, K and V", axis.size));
  }
  if (axis.axis == Axis::kInner) {
    if (axis.size == 1 || axis.stride_bytes == 1) return {};
    return invalid(tensor, fmt::format("axis inner has a stride of {} bytes; it must be 1: the bytes of one head and "
                                       "token lie side by side",
                                       axis.stride_bytes));
  }
  if (axis.size > 1 && axis.stride_bytes <= 0) {
    return invalid(tensor,
                   fmt::format("axis {} has a stride of {} bytes; it must be above 0", name, axis.stride_bytes));
  }
  return {};
}

/// Axes by stride, the innermost first: each step must clear what the axes inside it span. The sum is what the tensor
/// spans in all.
Status check_span(const EngineTensor& tensor) {
  std::vector<TensorAxis> axes;
  for (const TensorAxis& axis : tensor.axes) {
    if (axis.size > 1 && axis.axis != Axis::kInner) axes.push_back(axis);
  }
  std::ranges::sort(axes, {}, &TensorAxis::stride_bytes);
  std::uint64_t span = tensor.axis(Axis::kInner).size;
  for (const TensorAxis& axis : axes) {
    const auto stride = static_cast<std::uint64_t>(axis.stride_bytes);
    if (stride < span) {
      return invalid(tensor,
                     fmt::format("axis {} has a stride of {} bytes, less than the {} bytes that the axes inside "
                                 "it span; elements would overlap",
                                 axis_name(axis.axis), stride, span));
    }
    std::uint64_t reach = 0;
    if (__builtin_mul_overflow(axis.size - 1, stride, &reach) || __builtin_add_overflow(span, reach, &span)) {
      return invalid(tensor, fmt::format("axis {} of size {} and stride {} spans more than 2^64 bytes",
                                         axis_name(axis.axis), axis.size, stride));
    }
    if (span > tensor.storage_bytes) {
      return invalid(tensor, fmt::format("axis {} of size {} and stride {} reaches byte {} of a storage of {} bytes",
                                         axis_name(axis.axis), axis.size, stride, span, tensor.storage_bytes));
    }
  }
  if (span > tensor.storage_bytes) {
    return invalid(tensor, fmt::format("axis inner of {} bytes does not fit in a storage of {} bytes", span,
                                       tensor.storage_bytes));
  }
  return {};
}

}  // namespace

std::string_view axis_name(Axis axis) noexcept {
  static constexpr std::array<std::string_view, kAxisCount> kNames = {"page", "layer", "kv", "head", "token", "inner"};
  const auto index = static_cast<std::size_t>(axis);
  return index < kNames.size() ? kNames[index] : "unknown";
}

TensorAxis EngineTensor::axis(Axis which) const noexcept {
  const auto it = std::ranges::find(axes, which, &TensorAxis::axis);
  if (it == axes.end()) return {.axis = which, .size = 1, .stride_bytes = 0};
  TensorAxis found = *it;
  if (found.size == 1) found.stride_bytes = 0;  // engines leave any number there
  return found;
}

bool EngineTensor::has(Axis which) const noexcept {
  return std::ranges::find(axes, which, &TensorAxis::axis) != axes.end();
}

Status check_tensor(const EngineTensor& tensor) {
  if (tensor.base == nullptr) return invalid(tensor, "base is null");
  if (tensor.storage_bytes > UINT64_MAX - std::bit_cast<std::uintptr_t>(tensor.base)) {
    return invalid(tensor,
                   fmt::format("a storage of {} bytes at its base passes the end of memory", tensor.storage_bytes));
  }
  std::array<bool, kAxisCount> seen{};
  for (const TensorAxis& axis : tensor.axes) {
    const auto index = static_cast<std::size_t>(axis.axis);
    if (index >= kAxisCount) return invalid(tensor, fmt::format("axis {} is unknown; valid are 0 to 5", index));
    if (seen[index]) return invalid(tensor, fmt::format("axis {} is given twice", axis_name(axis.axis)));
    seen[index] = true;
    TIERCEL_TRY(check_axis(tensor, axis));
  }
  for (const Axis required : {Axis::kPage, Axis::kInner}) {
    if (!tensor.has(required)) return invalid(tensor, fmt::format("axis {} is missing", axis_name(required)));
  }
  return check_span(tensor);
}

}  // namespace tiercel
