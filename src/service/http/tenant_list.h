// Which tenants people are shown: those with settings, those that hold most, and the rest as one. Metrics, /status, the
// page and the commands show the same. Pure.
#pragma once

#include <tiercel/stats.h>

#include <cstddef>
#include <span>
#include <vector>

namespace tiercel::service {

/// As many are shown by themselves: labels of metrics and the bytes of /status are bounded by it.
inline constexpr std::size_t kMostTenantsShown = 64;

/// Tenants with a slot are charged for it in host and disk: the first tiers, by their number.
inline constexpr std::size_t kTenantTiers = 2;

/// Is it a sum (kOtherTenantsName, kUnnamedTenants)? Such a one has no cap: each of its tenants has its own.
[[nodiscard]] bool stands_for_several(const TenantReport& tenant) noexcept;

/// `tenants` in the order of Cache::tenants(). What those beyond kMostTenantsShown have is summed under
/// kOtherTenantsName; so at most kMostTenantsShown + 2.
[[nodiscard]] std::vector<TenantReport> shown_tenants(std::span<const TenantReport> tenants);

}  // namespace tiercel::service
