// The end of the directories of a cache: what waits is written as far as the deadline allows, the order of use is
// noted, and the files are closed. And the sign by which those who wait for that end know that a device still answers.
#include "base/log.h"
#include "base/make_room.h"
#include "cache/core.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace tiercel::detail {

/// What waits to be written is written, as far as the deadline allows; then the directories take no more, and what has
/// not begun by then is given up. The last part of the time is for what is in flight, and for closing the files.
void CacheCore::close_disks(std::uint64_t end_ns, std::uint64_t wait_ns) {
  if (disks_.empty()) return;
  constexpr std::uint64_t kOrderlyEndNs = 500'000'000;
  kick_demotion();
  const bool written = environment_.executor.wait_until(
      [this] {
        MutexLock lock(mutex_);
        const bool opening = !std::ranges::all_of(disk_progress_, &DiskProgress::settled);
        return writes_in_flight_ == 0 && (demotions_.empty() || (!opening && !disk_store_.takes_writes()));
      },
      end_ns - std::min(wait_ns / 4, kOrderlyEndNs));
  checkpoint_disks(end_ns);
  for (const auto& disk : disks_) {
    disk->tier().close();
    if (!written) disk->tier().hurry();
    disk->tier().wake();
  }
}

std::uint64_t CacheCore::disk_sign_of_life(std::size_t index) const {
  constexpr std::uint64_t kStates = 8;
  const DiskTier& tier = disks_[index]->tier();
  // Indexing is long work between two operations, and where one driver is at it others wait for it.
  const std::uint64_t work = indexed_slices_.load(std::memory_order_relaxed) + tier.counters().ended_operations;
  return work * kStates + static_cast<std::uint64_t>(tier.state());
}

/// Recency, as the next start will want it, as far as the deadline leaves time for it: it is advice.
void CacheCore::checkpoint_disks(std::uint64_t limit_ns) {
  constexpr std::uint64_t kAlwaysNs = 50'000'000;
  limit_ns = std::max(limit_ns, deadline_after(clock().now_ns(), kAlwaysNs));
  for (std::uint32_t index = 0; index < disks_.size(); ++index) {
    if (checkpoint_disk(index, limit_ns)) continue;
    log_line(LogLevel::kWarn, "disk_checkpoint",
             disks_[index]->path() +
                 ": there was no time to note which blocks were used last; the next start takes them "
                 "all for equally old");
  }
}

/// Values are read in slices, so it is what it was within a second or so. False: the time was not enough.
bool CacheCore::checkpoint_disk(std::uint32_t index, std::uint64_t limit_ns) {
  constexpr std::uint64_t kSortNs = 250;  // a slot, of ten millions
  std::vector<DiskStore::Worth> worth;
  const std::uint64_t now = clock().now_ns();
  for (std::uint32_t cursor = 0;;) {
    if (clock().now_ns() + worth.size() * kSortNs > limit_ns) return false;
    make_room(worth, DiskStore::kWorthPerSlice);  // nothing is allocated under the lock
    MutexLock lock(mutex_);
    if (!disk_store_.list_worth_some(index, cursor, now, worth)) break;
  }
  std::ranges::sort(worth, {}, &DiskStore::Worth::value);
  std::vector<std::uint32_t> coldest_first;
  coldest_first.reserve(worth.size());
  for (const DiskStore::Worth& one : worth) coldest_first.push_back(one.slot);
  (void)disks_[index]->tier().checkpoint(std::move(coldest_first));  // refused is well
  return true;
}

}  // namespace tiercel::detail
