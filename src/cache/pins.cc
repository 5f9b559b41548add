// Logical pins: they forbid eviction until they are dropped or their time is over.
#include "cache/core.h"
#include "config/tenants.h"

#include <fmt/format.h>

#include <utility>

namespace tiercel::detail {

Result<std::shared_ptr<PinRecord>> CacheCore::pin(const BlockHash& fingerprint, std::span<const BlockHash> hashes,
                                                  std::uint64_t expires_ns) {
  expire_pins();
  auto record = std::make_shared<PinRecord>();
  record->expires_ns = expires_ns;
  record->names.reserve(hashes.size());
  PinsByEnd staged;  // made first: once blocks are pinned nothing may throw
  staged.emplace(expires_ns, record);
  bool limit = false;
  bool miss = false;
  TenantReport of_tenant;  // of the tenant that is at its limit
  of_tenant.name.reserve(config::kLongestTenantName);
  for (std::size_t done = 0; done < hashes.size() && !limit && !miss;) {
    const std::size_t end = std::min(done + kSlice, hashes.size());
    MutexLock lock(mutex_);
    const BlockId root = store_.find_root(fingerprint);
    for (; done < end && !limit && !miss; ++done) {
      const BlockId id = store_.table().find(hashes[done], 0);
      miss = id == kNoBlock || store_.table().root_of(id) != root;  // of another namespace: not this caller's
      if (miss) break;
      BlockName name;
      const auto outcome = store_.pin(hashes[done], 0, name);
      const bool at_cap = outcome == HostStore::PinOutcome::kTenantLimit;
      if (at_cap) (void)store_.tenants().report(store_.table().tenant(id), of_tenant);
      limit = at_cap || outcome == HostStore::PinOutcome::kLimit;
      miss = outcome == HostStore::PinOutcome::kMiss;
      if (outcome == HostStore::PinOutcome::kPinned) record->names.push_back(name);
    }
  }
  if (limit) {
    unpin(*record);
    if (!of_tenant.name.empty()) {
      return fail(
          ErrorCode::kLimit,
          fmt::format("{}: tenant \"{}\" has {} pinned, of at most {}; these {} blocks would exceed it",
                      config::tenant_key(of_tenant.name, "pinned_cap"), of_tenant.name,
                      format_bytes(of_tenant.pinned_bytes), format_bytes(of_tenant.pinned_cap_bytes), hashes.size()));
    }
    return fail(ErrorCode::kLimit, fmt::format("limits.pinned_percent: {} % of the host tier may be pinned, and these "
                                               "{} blocks would exceed it",
                                               limits_.pinned_percent.load(std::memory_order_relaxed), hashes.size()));
  }
  MutexLock lock(mutex_);
  record->blocks = record->names.size();
  record->place = pins_.insert(staged.extract(staged.begin()));
  return record;
}

void CacheCore::unpin(PinRecord& record) {
  for (bool more = true; more;) {
    MutexLock lock(mutex_);
    if (record.place) pins_.erase(*std::exchange(record.place, std::nullopt));
    for (std::size_t i = 0; i < kSlice && !record.names.empty(); ++i) {
      store_.unpin(record.names.back());
      record.names.pop_back();
    }
    more = !record.names.empty();
    record.ended = !more;
  }
}

bool CacheCore::has_ended(const PinRecord& record) {
  MutexLock lock(mutex_);
  return record.ended;
}

std::size_t CacheCore::pin_records() {
  MutexLock lock(mutex_);
  return pins_.size();
}

void CacheCore::expire_pins() {
  const std::uint64_t now = clock().now_ns();
  for (;;) {
    std::shared_ptr<PinRecord> record;
    {
      MutexLock lock(mutex_);
      if (pins_.empty() || pins_.begin()->first > now) return;
      record = pins_.begin()->second;
      pins_.erase(*std::exchange(record->place, std::nullopt));
    }
    unpin(*record);
    counters_.expired_pins.add();
  }
}

}  // namespace tiercel::detail
