// TenantNumber: a tenant as index, slots and policy know it: a small number that the cache gave its name
// (cache/tenant_table.h). Plain data.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tiercel {

using TenantNumber = std::uint16_t;
/// Nobody's: what is found on disk before its tenant is known, and the target of a move within the arena.
inline constexpr TenantNumber kNoTenant = 0;
/// Those together that got no number of their own.
inline constexpr TenantNumber kOtherTenants = 1;
inline constexpr TenantNumber kFirstTenant = 2;
/// Numbers lie below this, whatever limits.tenants says.
inline constexpr std::size_t kMostTenants = 1024 + kFirstTenant;

}  // namespace tiercel
