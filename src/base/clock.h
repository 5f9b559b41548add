// Clock: monotonic time as a dependency, so that tests and the simulator own it.
//
// Clock::now_ns is safe from any thread. SteadyClock is the system's; ManualClock moves only when told.
#pragma once

#include <atomic>
#include <cstdint>

namespace tiercel {

class Clock {
 public:
  virtual ~Clock() = default;
  /// Nanoseconds since an arbitrary point that stays the same for the life of the clock.
  [[nodiscard]] virtual std::uint64_t now_ns() const noexcept = 0;
};

class SteadyClock final : public Clock {
 public:
  [[nodiscard]] std::uint64_t now_ns() const noexcept override;
};

class ManualClock final : public Clock {
 public:
  [[nodiscard]] std::uint64_t now_ns() const noexcept override { return now_ns_.load(std::memory_order_acquire); }
  void advance(std::uint64_t delta_ns) noexcept { now_ns_.fetch_add(delta_ns, std::memory_order_acq_rel); }

 private:
  std::atomic<std::uint64_t> now_ns_{1};  // pairs: advance (release) with now_ns (acquire)
};

/// `now + delta` without wrapping: a far deadline stays far.
[[nodiscard]] constexpr std::uint64_t deadline_after(std::uint64_t now_ns, std::uint64_t delta_ns) noexcept {
  return delta_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + delta_ns;
}

}  // namespace tiercel
