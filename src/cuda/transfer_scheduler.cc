#include "cuda/transfer_scheduler.h"

#include "base/check.h"

#include <algorithm>

namespace tiercel::gpu {

std::uint64_t TransferScheduler::store_rate() const noexcept {
  const std::uint64_t pace = limits_.store_bytes_per_second;
  if (!loads_active_ || limits_.store_floor_percent >= 100) return pace;
  const std::uint64_t floor =
      std::max<std::uint64_t>(1, limits_.link_bytes_per_second / 100 * limits_.store_floor_percent);
  return pace == 0 ? floor : std::min(pace, floor);
}

bool TransferScheduler::may_start(CopyDirection direction, std::uint64_t now_ns) const noexcept {
  if (queued(direction) >= limits_.depth) return false;
  return direction == CopyDirection::kLoad || store_rate() == 0 || now_ns >= next_store_ns_;
}

void TransferScheduler::started(CopyDirection direction, std::uint64_t bytes, std::uint64_t now_ns) noexcept {
  ++queued_[index(direction)];
  if (direction == CopyDirection::kLoad) return;
  const std::uint64_t rate = store_rate();
  if (rate == 0) return;
  __extension__ using Wide = unsigned __int128;
  const auto takes_ns = static_cast<std::uint64_t>(Wide{bytes} * 1'000'000'000U / rate);
  // Who looks a little late keeps the pace; who comes after a pause may be one chunk ahead, not more.
  const std::uint64_t earliest = now_ns > takes_ns ? now_ns - takes_ns : 0;
  next_store_ns_ = std::max(next_store_ns_, earliest) + takes_ns;
}

void TransferScheduler::ended(CopyDirection direction) noexcept {
  TIERCEL_CHECK(queued(direction) > 0, "a chunk ended that never started");
  --queued_[index(direction)];
}

}  // namespace tiercel::gpu
