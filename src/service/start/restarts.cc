#include "service/start/restarts.h"

#include <algorithm>

namespace tiercel::service::start {
namespace {
constexpr std::uint64_t kLongestPauseMs = 600'000;
}

std::vector<std::uint64_t> within_the_hour(std::vector<std::uint64_t> times, std::uint64_t now_ms) {
  std::erase_if(times, [&](std::uint64_t time) { return time > now_ms || now_ms - time >= kHourMs; });
  std::ranges::sort(times);
  return times;
}

std::uint64_t next_restart_ms(const std::vector<std::uint64_t>& times, std::uint64_t now_ms, std::uint32_t most) {
  if (most == 0) return UINT64_MAX;
  if (times.empty()) return now_ms;
  const std::uint64_t doublings = 2 * std::min<std::uint64_t>(times.size() - 1, 5);
  std::uint64_t next = times.back() + std::min<std::uint64_t>(1'000U << doublings, kLongestPauseMs);
  if (times.size() >= most) next = std::max(next, times[times.size() - most] + kHourMs);
  return std::max(next, now_ms);
}

}  // namespace tiercel::service::start
