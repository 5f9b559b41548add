#include "tier/disk/slot_order.h"

#include "base/check.h"

#include <algorithm>
#include <utility>

namespace tiercel::disk {

bool SlotOrder::may_run(const Extent& extent, const SlotJob& job) {
  if (extent.running.empty()) return true;
  return extent.slot_bytes == job.slot_bytes && !extent.running.contains(job.slot);
}

bool SlotOrder::begin(const SlotJob& job) {
  Extent& extent = extents_[job.extent];
  // Behind one that waits only what conflicts with none that waits may pass: another slot of the same cut.
  const bool passes = std::all_of(extent.waiting.begin(), extent.waiting.end(), [&](const SlotJob& other) {
    return other.slot_bytes == job.slot_bytes && other.slot != job.slot;
  });
  if (!passes || !may_run(extent, job)) {
    extent.waiting.push_back(job);
    ++waiting_;
    return false;
  }
  extent.slot_bytes = job.slot_bytes;
  extent.running.insert(job.slot);
  return true;
}

std::vector<std::uint32_t> SlotOrder::end(const SlotJob& job) {
  const auto found = extents_.find(job.extent);
  TIERCEL_CHECK(found != extents_.end() && found->second.running.erase(job.slot) == 1, "the slot was not the job's");
  Extent& extent = found->second;
  std::vector<std::uint32_t> ready;
  std::deque<SlotJob> still;
  std::unordered_set<std::uint32_t> passed;  // slots of jobs that go on waiting
  bool cut_waits = false;
  for (const SlotJob& next : extent.waiting) {
    if (!cut_waits && !passed.contains(next.slot) && may_run(extent, next)) {
      extent.slot_bytes = next.slot_bytes;
      extent.running.insert(next.slot);
      ready.push_back(next.id);
      --waiting_;
      continue;
    }
    cut_waits = cut_waits || next.slot_bytes != extent.slot_bytes;
    passed.insert(next.slot);
    still.push_back(next);
  }
  extent.waiting = std::move(still);
  if (extent.running.empty()) extents_.erase(found);
  return ready;
}

std::uint64_t SlotOrder::cut_of(std::uint32_t extent) const {
  const auto found = extents_.find(extent);
  if (found == extents_.end()) return 0;
  return found->second.waiting.empty() ? found->second.slot_bytes : found->second.waiting.back().slot_bytes;
}

std::vector<std::uint32_t> SlotOrder::take_waiting() {
  std::vector<std::uint32_t> ids;
  for (auto& [number, extent] : extents_) {
    for (const SlotJob& job : extent.waiting) ids.push_back(job.id);
    extent.waiting.clear();
  }
  std::sort(ids.begin(), ids.end());
  waiting_ = 0;
  return ids;
}

}  // namespace tiercel::disk
