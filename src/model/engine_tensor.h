// What is checked of an EngineTensor (tiercel/tensor.h) before anything is derived from it.
#pragma once

#include <tiercel/result.h>
#include <tiercel/tensor.h>

#include <cstddef>

namespace tiercel {

inline constexpr std::size_t kAxisCount = 6;

/// kInvalidArgument, with tensor and axis named: an axis twice, missing or of size 0; a stride that is negative or lets
/// elements overlap; an inner stride other than 1; a kKv axis that is not 2; elements outside the storage.
[[nodiscard]] Status check_tensor(const EngineTensor& tensor);

}  // namespace tiercel
