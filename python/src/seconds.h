// Times as Python gives them: seconds, as a float.
#pragma once

#include "errors.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>

namespace tiercel::python {

/// Below 0: at once. No call waits longer than a year. InvalidArgumentError: not a number.
template <class Duration = std::chrono::nanoseconds>
[[nodiscard]] Duration to_duration(double seconds, const char* what) {
  constexpr double kLongest = 365.0 * 24 * 3600;
  if (std::isnan(seconds)) raise(ErrorCode::kInvalidArgument, std::string(what) + ": is not a number of seconds");
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(std::clamp(seconds, 0.0, kLongest)));
}

}  // namespace tiercel::python
