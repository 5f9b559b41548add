// TenantId: a tenant's name in 16 bytes, as the disk file keeps it beside each namespace, so that after a restart the
// blocks of a namespace that no session has opened yet are charged to, and deleted with, their tenant.
// docs/formats.md, "Tenant id". Pure.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <string_view>

namespace tiercel {

struct TenantId {
  std::array<std::byte, 16> bytes{};
  /// False: all zeros, which stands for a tenant that is not known.
  [[nodiscard]] bool known() const noexcept { return *this != TenantId{}; }
  friend bool operator==(const TenantId&, const TenantId&) = default;
  friend auto operator<=>(const TenantId&, const TenantId&) = default;
};

/// Of a tenant's name; "" is the default tenant.
[[nodiscard]] TenantId tenant_id(std::string_view name);

}  // namespace tiercel
