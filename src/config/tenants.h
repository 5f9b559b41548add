// The settings of tenants: tables of one form each, named by whoever writes them, `[tenants.NAME]`. They stand beside
// the table of settings, which is for fixed keys: TOML alone sets them, a command line has no flags for them.
//
// Pure functions. Errors are sentences that begin with the key: "tenants.search.host_cap: ...".
#pragma once

#include <tiercel/config.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::config {

inline constexpr std::string_view kTenantsTable = "tenants";
inline constexpr std::size_t kLongestTenantName = 128;

struct TenantSetting {
  std::string_view key = {};  ///< "host_cap"
  std::string_view meaning = {};
  std::string_view standard = {};  ///< its default, for the reference
  TierShare TenantConfig::* share = nullptr;
};
[[nodiscard]] std::span<const TenantSetting> tenant_settings() noexcept;
[[nodiscard]] const TenantSetting* find_tenant_setting(std::string_view key) noexcept;

/// "tenants.search.host_cap"; a name that is no bare key of TOML in quotes.
[[nodiscard]] std::string tenant_key(std::string_view tenant, std::string_view key = {});

/// "20%" or "8GiB".
[[nodiscard]] Result<TierShare> parse_share(std::string_view key, std::string_view text);
/// The text that parse_share reads back.
[[nodiscard]] std::string format_share(const TierShare& share);

/// May a tenant with settings have this name? UTF-8 without control characters, 1 to kLongestTenantName bytes, and not
/// what reports call several together. A client's tenant with another name has no account of its own.
[[nodiscard]] bool is_tenant_name(std::string_view name) noexcept;

/// Of what size the tiers are; 0: not known yet, or there is none.
struct TierBytes {
  std::uint64_t host = 0;
  std::uint64_t disk = 0;
};
struct TenantViolation {
  std::string key;
  Error error;
};
/// Names, ranges, cap >= guarantee, and that guarantees leave no tier promised twice. Where a tier's size is not known,
/// bytes are compared with bytes and percentages with percentages.
[[nodiscard]] std::optional<TenantViolation> first_violation(const TenantConfigs& tenants, const TierBytes& tiers);

}  // namespace tiercel::config
