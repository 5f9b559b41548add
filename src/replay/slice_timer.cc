#include "replay/slice_timer.h"

#include <algorithm>
#include <cmath>
#include <ctime>

namespace tiercel {
namespace {
constexpr std::uint64_t kLong_ns = 50'000;
}  // namespace

std::uint64_t thread_cpu_ns() {
  timespec time{};
  (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

SliceTimer::SliceTimer() : clock_ns_(UINT64_MAX) {
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t start = thread_cpu_ns();
    clock_ns_ = std::min(clock_ns_, thread_cpu_ns() - start);
  }
}

void SliceTimer::run(FunctionRef<void()> slice) {
  const std::uint64_t start = thread_cpu_ns();
  slice();
  const std::uint64_t took = thread_cpu_ns() - start;
  const std::uint64_t ns = took - std::min(took, clock_ns_);
  ++times_.slices;
  times_.longest_ns = std::max(times_.longest_ns, ns);
  times_.over_50_us += ns > kLong_ns ? 1U : 0U;
  ++by_length_.at(static_cast<std::size_t>(std::log2(static_cast<double>(ns) + 1) * kSteps));
}

SliceTimes SliceTimer::times() const {
  SliceTimes times = times_;
  std::uint64_t left = times.slices / 10'000;  // that may be longer
  std::size_t step = by_length_.size() - 1;
  for (; step > 0 && by_length_.at(step) <= left; --step) left -= by_length_.at(step);
  times.p9999_ns =
      std::min(times.longest_ns, static_cast<std::uint64_t>(std::exp2(static_cast<double>(step + 1) / kSteps)));
  return times;
}

}  // namespace tiercel
