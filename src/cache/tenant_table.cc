#include "cache/tenant_table.h"

#include "base/check.h"
#include "config/tenants.h"

#include <algorithm>

namespace tiercel {

TenantTable::TenantTable(const Options& options) : tier_bytes_(options.tier_bytes) {
  TIERCEL_CHECK(options.most + kFirstTenant <= kMostTenants, "limits.tenants is checked before");
  records_.resize(options.most + kFirstTenant);
  for (auto& limits : limits_) limits.resize(records_.size());
  hits_ = std::make_unique<Hits[]>(records_.size());
  records_[kNoTenant].name = kUnnamedTenants;
  records_[kOtherTenants].name = kOtherTenantsName;
  records_[kNoTenant].in_use = records_[kOtherTenants].in_use = true;
  const auto holds_nothing = [](TenantNumber) { return false; };
  for (const auto& [name, config] : options.tenants) (void)set(name, config, holds_nothing);
}

std::optional<TenantNumber> TenantTable::find(const TenantId& id) const {
  const auto found = numbers_.find(id);
  if (found == numbers_.end()) return std::nullopt;
  return found->second;
}

TenantNumber TenantTable::admit(const Tenant& tenant, FunctionRef<bool(TenantNumber)> holds_nothing) {
  if (const auto known = find(tenant.id)) {
    // Found on disk, and named now.
    if (records_[*known].name.empty() && !tenant.name.empty()) records_[*known].name = tenant.name;
    return *known;
  }
  if (!tenant.name.empty() && !config::is_tenant_name(tenant.name)) return kOtherTenants;
  const auto number = free_number(holds_nothing);
  if (!number) return kOtherTenants;
  give(*number, tenant);
  return *number;
}

/// One that was never used, or of a tenant without settings, namespaces and bytes.
std::optional<TenantNumber> TenantTable::free_number(FunctionRef<bool(TenantNumber)> holds_nothing) const {
  if (used_ < records_.size()) return static_cast<TenantNumber>(used_);
  for (std::size_t number = kFirstTenant; number < records_.size(); ++number) {
    const Record& record = records_[number];
    const auto tenant = static_cast<TenantNumber>(number);
    if (!record.configured && record.namespaces == 0 && record.pinned_bytes == 0 && holds_nothing(tenant))
      return tenant;
  }
  return std::nullopt;
}

void TenantTable::give(TenantNumber number, const Tenant& tenant) {
  const auto place = numbers_.emplace(tenant.id, number).first;  // first: these may run out of memory
  std::string name;
  try {
    name = tenant.name;
  } catch (...) {
    numbers_.erase(place);
    throw;
  }
  Record& record = records_[number];
  if (record.in_use) numbers_.erase(record.id);
  record = Record{.id = tenant.id, .in_use = true};
  record.name.swap(name);
  for (std::size_t tier = 0; tier < kChargedTiers; ++tier) {
    hits_[number].blocks[tier].store(0, std::memory_order_relaxed);
    hits_[number].bytes[tier].store(0, std::memory_order_relaxed);
  }
  for (auto& limits : limits_) limits[number] = {};
  used_ = std::max<std::uint32_t>(used_, number + 1U);
}

std::optional<TenantNumber> TenantTable::set(const std::string& name, const TenantConfig& config,
                                             FunctionRef<bool(TenantNumber)> holds_nothing) {
  const Tenant tenant{.id = tenant_id(name), .name = name};
  const TenantNumber number = admit(tenant, holds_nothing);
  if (number == kOtherTenants) return std::nullopt;
  records_[number].configured = true;
  apply(number, config);
  return number;
}

void TenantTable::apply(TenantNumber number, const TenantConfig& config) noexcept {
  limits_[0][number] = {.guarantee = config.host_guarantee.bytes_of(tier_bytes_[0]),
                        .cap = config.host_cap.bytes_of(tier_bytes_[0])};
  limits_[1][number] = {.guarantee = config.disk_guarantee.bytes_of(tier_bytes_[1]),
                        .cap = config.disk_cap.bytes_of(tier_bytes_[1])};
  records_[number].pinned_cap = config.pinned_cap.bytes_of(tier_bytes_[0]);
}

bool TenantTable::report(TenantNumber tenant, TenantReport& to) const {
  const Record& record = records_[tenant];
  if (!record.in_use) return false;
  to.name.assign(record.name.empty() ? kUnnamedTenants : std::string_view(record.name));
  to.configured = record.configured;
  to.namespaces = record.namespaces;
  to.pinned_bytes = record.pinned_bytes;
  to.pinned_cap_bytes = std::min(record.pinned_cap, tier_bytes_[0]);
  for (std::size_t tier = 0; tier < kChargedTiers; ++tier) {
    TenantTierReport& part = to.tiers[tier];
    part.guarantee_bytes = limits_[tier][tenant].guarantee;
    part.cap_bytes = std::min(limits_[tier][tenant].cap, tier_bytes_[tier]);
    part.hit_blocks = hits_[tenant].blocks[tier].load(std::memory_order_relaxed);
    part.hit_bytes = hits_[tenant].bytes[tier].load(std::memory_order_relaxed);
    part.stored_blocks = record.counters[tier].stored_blocks;
    part.stored_bytes = record.counters[tier].stored_bytes;
    part.evicted_blocks = record.counters[tier].evicted_blocks;
    part.evicted_bytes = record.counters[tier].evicted_bytes;
  }
  return true;
}

}  // namespace tiercel
