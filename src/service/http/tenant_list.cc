#include "service/http/tenant_list.h"

#include <string>
#include <utility>

namespace tiercel::service {
namespace {

void add(TenantReport& to, const TenantReport& more) {
  to.namespaces += more.namespaces;
  to.pinned_bytes += more.pinned_bytes;
  for (std::size_t tier = 0; tier < kTierCount; ++tier) {
    TenantTierReport& sum = to.tiers[tier];
    const TenantTierReport& part = more.tiers[tier];
    sum.used_bytes += part.used_bytes;
    sum.guarantee_bytes += part.guarantee_bytes;
    sum.hit_blocks += part.hit_blocks;
    sum.hit_bytes += part.hit_bytes;
    sum.stored_blocks += part.stored_blocks;
    sum.stored_bytes += part.stored_bytes;
    sum.evicted_blocks += part.evicted_blocks;
    sum.evicted_bytes += part.evicted_bytes;
  }
}

}  // namespace

bool stands_for_several(const TenantReport& tenant) noexcept {
  return tenant.name == kOtherTenantsName || tenant.name == kUnnamedTenants;
}

std::vector<TenantReport> shown_tenants(std::span<const TenantReport> tenants) {
  std::vector<TenantReport> shown;
  std::vector<TenantReport> unnamed;
  TenantReport rest{.name = std::string(kOtherTenantsName)};
  bool any = false;
  for (const TenantReport& tenant : tenants) {
    if (tenant.name == kUnnamedTenants) {
      unnamed.push_back(tenant);
    } else if (tenant.name != kOtherTenantsName && shown.size() < kMostTenantsShown) {
      shown.push_back(tenant);
    } else {
      add(rest, tenant);
      any = true;
    }
  }
  if (any) shown.push_back(std::move(rest));
  for (TenantReport& tenant : unnamed) shown.push_back(std::move(tenant));
  return shown;
}

}  // namespace tiercel::service
