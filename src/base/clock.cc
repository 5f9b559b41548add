#include "base/clock.h"

#include <chrono>

namespace tiercel {

std::uint64_t SteadyClock::now_ns() const noexcept {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

}  // namespace tiercel
