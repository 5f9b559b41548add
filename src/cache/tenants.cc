// Tenants as the core has them: who a namespace belongs to, what each may hold, and the work that follows from it,
// each a task of the executor that holds the lock for one slice a turn: what is above a lowered cap is evicted
// (trimming), and blocks on disk that were charged to nobody are charged to the tenant that a session has named since
// (charging).
#include "config/tenants.h"
#include "cache/core.h"
#include "model/namespace.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

namespace tiercel::detail {
namespace {

constexpr std::size_t kReportsPerSlice = 32;
constexpr std::size_t kEvictedMost = 16;  // by one slice of trimming

/// What is summed under one name has the limits of none.
void add(TenantReport& to, const TenantReport& more) {
  to.namespaces += more.namespaces;
  to.pinned_bytes += more.pinned_bytes;
  for (std::size_t tier = 0; tier < kTierCount; ++tier) {
    TenantTierReport& sum = to.tiers[tier];
    const TenantTierReport& part = more.tiers[tier];
    sum.used_bytes += part.used_bytes;
    sum.hit_blocks += part.hit_blocks;
    sum.hit_bytes += part.hit_bytes;
    sum.stored_blocks += part.stored_blocks;
    sum.stored_bytes += part.stored_bytes;
    sum.evicted_blocks += part.evicted_blocks;
    sum.evicted_bytes += part.evicted_bytes;
  }
}

bool stands_for_several(const TenantReport& report) {
  return report.name == kUnnamedTenants || report.name == kOtherTenantsName;
}

std::uint64_t held(const TenantReport& report) {
  std::uint64_t bytes = 0;
  for (const TenantTierReport& tier : report.tiers) bytes += tier.used_bytes + tier.hit_blocks + tier.stored_blocks;
  return bytes + report.namespaces + report.pinned_bytes;
}

}  // namespace

/// The root of the session's namespace, claimed for its tenant; made if `make` says so and there is room.
BlockId CacheCore::claim(const Space& space, std::uint64_t slot_bytes, bool make) {
  const BlockHash& fingerprint = space.fingerprint();
  BlockId root = store_.find_root(fingerprint);
  if (root == kNoBlock && !make) return kNoBlock;
  const bool known = root != kNoBlock && !store_.is_unclaimed(root);
  if (!known) root = store_.root_of(fingerprint, {.id = tenant_id(space.tenant()), .name = space.tenant()});
  if (store_.take_claimed()) charge_wanted_.store(true, std::memory_order_relaxed);
  if (root != kNoBlock) store_.prepare(slot_bytes, store_.table().tenant(root));
  return root;
}

// ---- settings

Status CacheCore::set_tenant(std::string_view name, const TenantConfig& config) {
  if (closed()) return fail(ErrorCode::kClosed, "the cache is closed");
  const std::string tenant(name.empty() ? kDefaultTenant : name);
  {
    MutexLock admin(tenants_mutex_);
    TenantConfigs changed = tenant_configs_;
    changed[tenant] = config;
    std::array<std::uint64_t, kChargedTiers> sizes{};
    {
      MutexLock lock(mutex_);
      sizes = store_.tenants().tier_bytes();
    }
    if (auto violation = config::first_violation(changed, {.host = sizes[0], .disk = sizes[1]})) {
      return tl::unexpected(std::move(violation->error));
    }
    std::optional<TenantNumber> number;
    {
      MutexLock lock(mutex_);
      number = store_.tenants().set(tenant, config, [this](TenantNumber other) TIERCEL_NO_THREAD_SAFETY_ANALYSIS {
        return store_.holds_nothing(other);
      });
    }
    if (!number) {
      return fail(ErrorCode::kLimit,
                  fmt::format("limits.tenants: {} tenants have an account, which is the limit; {} has none",
                              config_.limits.tenants, config::tenant_key(tenant)));
    }
    tenant_configs_ = std::move(changed);
  }
  kick_trimming();
  return {};
}

TenantConfig CacheCore::tenant_config(std::string_view name) {
  const MutexLock lock(tenants_mutex_);
  const auto found = tenant_configs_.find(name.empty() ? kDefaultTenant : name);
  return found == tenant_configs_.end() ? TenantConfig{} : found->second;
}

// ---- what is above a cap

void CacheCore::kick_trimming() noexcept {
  {
    MutexLock lock(mutex_);
    trimming_.wanted = true;
    if (trimming_.active) return;
    trimming_.active = true;
  }
  bool taken = false;
  try {
    taken = submit([self = shared_from_this()] { self->run_trimming(); });
  } catch (const std::bad_alloc&) {
  }
  if (taken) return;
  MutexLock lock(mutex_);
  trimming_.active = false;  // the tenant's own stores make the room then
}

void CacheCore::run_trimming() noexcept {
  std::vector<DiskPlace> evicted;
  bool more = true;
  try {
    evicted.reserve(kEvictedMost);
    MutexLock lock(mutex_);
    more = trim_slice(evicted);
  } catch (const std::bad_alloc&) {
    more = false;
  }
  try {
    for (const DiskPlace& place : evicted) disks_[place.directory]->tier().clear(place.slot);
  } catch (const std::bad_alloc&) {  // a header stays until its slot is used again: its block may be found once more
  }
  release_places(evicted);
  bool taken = false;
  try {
    taken = more && submit([self = shared_from_this()] { self->run_trimming(); });
  } catch (const std::bad_alloc&) {
  }
  if (taken) return;
  bool again = false;
  {
    MutexLock lock(mutex_);
    trimming_.active = false;
    again = !more && trimming_.wanted;  // since the slice
  }
  if (again) kick_trimming();
}

/// One tenant and tier after the other; an empty search is one look at two numbers. False: all were looked at.
bool CacheCore::trim_slice(std::vector<DiskPlace>& evicted) {
  constexpr std::uint32_t kLooks = 256;
  if (std::exchange(trimming_.wanted, false)) {
    trimming_.tenant = 0;
    trimming_.tier = 0;
    trimming_.room = {.left = UINT64_MAX};
  }
  TenantTable& tenants = store_.tenants();
  const std::uint64_t now = clock().now_ns();
  for (std::uint32_t looks = 0; trimming_.tenant < tenants.used_numbers(); ++looks) {
    if (looks >= kLooks) return true;
    const auto tenant = static_cast<TenantNumber>(trimming_.tenant);
    if (trimming_.tier == 0) {
      if (store_.is_above_cap(tenant)) return goes_on(store_.trim_some(tenant, now, trimming_.room));
    } else if (!disks_.empty() && disk_store_.is_above_cap(tenant)) {
      return goes_on(disk_store_.trim_some(tenant, now, evicted));
    }
    next_to_trim();
  }
  return trimming_.wanted;
}

/// After a slice of one tenant's: is there more to do?
bool CacheCore::goes_on(bool same) {
  if (!same) next_to_trim();
  return true;
}

void CacheCore::next_to_trim() {
  trimming_.room = {.left = UINT64_MAX};
  trimming_.tier = (trimming_.tier + 1) % kChargedTiers;
  if (trimming_.tier == 0) ++trimming_.tenant;
}

// ---- what is nobody's

void CacheCore::kick_charging() noexcept {
  if (!charge_wanted_.load(std::memory_order_relaxed) || disks_.empty()) return;
  if (!charge_wanted_.exchange(false, std::memory_order_relaxed)) return;
  {
    MutexLock lock(mutex_);
    charging_.wanted = true;
    if (charging_.active) return;
    charging_.active = true;
  }
  bool taken = false;
  try {
    taken = submit([self = shared_from_this()] { self->run_charging(); });
  } catch (const std::bad_alloc&) {
  }
  if (taken) return;
  MutexLock lock(mutex_);
  charging_.active = false;
  charge_wanted_.store(true, std::memory_order_relaxed);  // the next load or store asks again
}

void CacheCore::run_charging() noexcept {
  bool more = false;
  bool ended = false;
  {
    MutexLock lock(mutex_);
    if (std::exchange(charging_.wanted, false)) charging_.at = {};
    try {
      more = disk_store_.charge_claimed_some(charging_.at, clock().now_ns());
    } catch (const std::bad_alloc&) {  // of a list: the block keeps its place, charged to nobody
    }
    more = more || charging_.wanted;
    ended = !more;
  }
  bool taken = false;
  try {
    taken = more && submit([self = shared_from_this()] { self->run_charging(); });
  } catch (const std::bad_alloc&) {
  }
  if (taken) return;
  {
    MutexLock lock(mutex_);
    charging_.active = false;
    if (more || charging_.wanted) charge_wanted_.store(true, std::memory_order_relaxed);
  }
  if (ended) kick_trimming();
}

// ---- reports

std::vector<TenantReport> CacheCore::tenants() {
  std::vector<TenantReport> reports;
  TenantReport others[2];  // several under one name
  others[0].name = kOtherTenantsName;
  others[1].name = kUnnamedTenants;
  std::vector<TenantReport> slice(kReportsPerSlice);
  for (TenantReport& report : slice) report.name.reserve(config::kLongestTenantName);
  std::uint32_t numbers = kFirstTenant;
  for (std::uint32_t next = 0; next < numbers;) {
    std::size_t count = 0;
    {
      MutexLock lock(mutex_);
      const TenantTable& table = store_.tenants();
      numbers = table.used_numbers();
      for (; next < numbers && count < kReportsPerSlice; ++next) {
        const auto tenant = static_cast<TenantNumber>(next);
        if (!table.report(tenant, slice[count])) continue;
        slice[count].tiers[0].used_bytes = store_.slots().charged_bytes(tenant);
        slice[count].tiers[1].used_bytes = disk_store_.charged_bytes(tenant);
        ++count;
      }
    }
    for (const TenantReport& report : std::span(slice).first(count)) {
      if (stands_for_several(report)) {
        add(others[report.name == kUnnamedTenants ? 1 : 0], report);
      } else if (report.configured || held(report) > 0) {
        reports.push_back(report);
      }
    }
  }
  std::ranges::sort(reports, [](const TenantReport& a, const TenantReport& b) {
    if (a.configured != b.configured) return a.configured;
    const std::uint64_t of_a = a.configured ? 0 : held(a);
    const std::uint64_t of_b = b.configured ? 0 : held(b);
    return of_a != of_b ? of_a > of_b : a.name < b.name;
  });
  for (TenantReport& report : others) {
    if (held(report) > 0) reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace tiercel::detail
