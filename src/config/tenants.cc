#include "config/tenants.h"

#include "config/setting_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace tiercel::config {
namespace {

constexpr std::uint64_t kMostBytes = 1024_TiB;  // as disk.capacity

constexpr std::array kTenantSettings = {
    TenantSetting{"host_guarantee", "part of the host tier that no other tenant's stores and loads take from it",
                  "`0%`", &TenantConfig::host_guarantee},
    TenantSetting{"host_cap", "the most of the host tier that it may hold; at its cap its own coldest blocks go first",
                  "`100%`", &TenantConfig::host_cap},
    TenantSetting{"disk_guarantee", "part of the disk tier that no other tenant's blocks take from it", "`0%`",
                  &TenantConfig::disk_guarantee},
    TenantSetting{"disk_cap", "the most of the disk tier that it may hold", "`100%`", &TenantConfig::disk_cap},
    TenantSetting{"pinned_cap",
                  "the most of the host tier that its logical pins may hold; limits.pinned_percent is "
                  "the limit of all together",
                  "`100%`", &TenantConfig::pinned_cap},
};

tl::unexpected<Error> complain(std::string_view key, std::string_view message) {
  return fail(ErrorCode::kInvalidArgument, fmt::format("{}: {}", key, message));
}

bool is_bare(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

/// One pair of guarantee and cap of a tier.
struct Pair {
  std::string_view tier;
  std::string_view guarantee;
  std::string_view cap;
  std::uint64_t tier_bytes;
};

/// -1, 0, 1; empty: bytes against a percentage of an unknown size.
std::optional<int> compare(const TierShare& a, const TierShare& b, std::uint64_t tier_bytes) {
  const bool same = a.percent == b.percent;
  if (!same && tier_bytes == 0) return std::nullopt;
  const std::uint64_t left = same ? a.amount : a.bytes_of(tier_bytes);
  const std::uint64_t right = same ? b.amount : b.bytes_of(tier_bytes);
  return left < right ? -1 : left > right ? 1 : 0;
}

std::optional<TenantViolation> violation(std::string key, std::string_view message) {
  Error error = complain(key, message).value();
  return TenantViolation{.key = std::move(key), .error = std::move(error)};
}

std::optional<TenantViolation> check_one(const std::string& name, const TenantConfig& tenant,
                                         std::span<const Pair> pairs) {
  if (!is_tenant_name(name)) {
    return violation(tenant_key(name),
                     fmt::format("no name of a tenant; valid is text of 1 to {} bytes without control characters that "
                                 "does not begin with \"(\"",
                                 kLongestTenantName));
  }
  for (const TenantSetting& setting : kTenantSettings) {
    const TierShare& share = tenant.*setting.share;
    if (share.percent && share.amount > 100) {
      return violation(tenant_key(name, setting.key), fmt::format("{} is outside 0% to 100%", format_share(share)));
    }
    if (!share.percent && share.amount > kMostBytes) {
      return violation(tenant_key(name, setting.key), fmt::format("{} is more than {}, the largest size of a tier",
                                                                  format_share(share), format_bytes(kMostBytes)));
    }
  }
  for (const Pair& pair : pairs) {
    const TierShare& guarantee = tenant.*find_tenant_setting(pair.guarantee)->share;
    const TierShare& cap = tenant.*find_tenant_setting(pair.cap)->share;
    if (compare(cap, guarantee, pair.tier_bytes).value_or(0) < 0) {
      return violation(tenant_key(name, pair.cap),
                       fmt::format("{} is below {}, {}; raise the cap or lower the guarantee", format_share(cap),
                                   pair.guarantee, format_share(guarantee)));
    }
  }
  return std::nullopt;
}

}  // namespace

std::span<const TenantSetting> tenant_settings() noexcept { return kTenantSettings; }

const TenantSetting* find_tenant_setting(std::string_view key) noexcept {
  const auto* found = std::ranges::find(kTenantSettings, key, &TenantSetting::key);
  return found == kTenantSettings.end() ? nullptr : found;
}

std::string tenant_key(std::string_view tenant, std::string_view key) {
  const std::string_view quote = is_bare(tenant) ? "" : "\"";
  const std::string text = fmt::format("{}.{}{}{}", kTenantsTable, quote, shown(tenant), quote);
  return key.empty() ? text : fmt::format("{}.{}", text, key);
}

Result<TierShare> parse_share(std::string_view key, std::string_view text) {
  constexpr std::string_view kNeeds = "a percentage of the tier such as \"20%\", or a byte count such as \"8GiB\"";
  if (text.ends_with('%')) {
    const std::string_view digits = text.substr(0, text.size() - 1);
    std::uint64_t percent = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), percent);
    if (code != std::errc() || end != digits.data() + digits.size() || percent > 100) {
      return complain(key, fmt::format("\"{}\" is not a whole percentage from 0% to 100%", shown(text)));
    }
    return TierShare::of_percent(percent);
  }
  const auto bytes = parse_bytes(text);
  if (!bytes) return complain(key, fmt::format("needs {}, not \"{}\"", kNeeds, shown(text)));
  return TierShare::of_bytes(*bytes);
}

std::string format_share(const TierShare& share) {
  return share.percent ? fmt::format("{}%", share.amount) : format_bytes(share.amount);
}

bool is_tenant_name(std::string_view name) noexcept {
  if (name.empty() || name.size() > kLongestTenantName || name.front() == '(') return false;
  return is_plain_text(name);
}

std::optional<TenantViolation> first_violation(const TenantConfigs& tenants, const TierBytes& tiers) {
  const std::array pairs = {
      Pair{.tier = "host", .guarantee = "host_guarantee", .cap = "host_cap", .tier_bytes = tiers.host},
      Pair{.tier = "disk", .guarantee = "disk_guarantee", .cap = "disk_cap", .tier_bytes = tiers.disk}};
  for (const auto& [name, tenant] : tenants) {
    if (auto found = check_one(name, tenant, pairs)) return found;
  }
  for (const Pair& pair : pairs) {
    std::uint64_t percent = 0;
    std::uint64_t bytes = 0;
    for (const auto& [name, tenant] : tenants) {
      const TierShare& guarantee = tenant.*find_tenant_setting(pair.guarantee)->share;
      percent += guarantee.percent ? guarantee.amount : 0;
      bytes += guarantee.bytes_of(pair.tier_bytes);
      if (percent > 100) {
        return violation(tenant_key(name, pair.guarantee),
                         fmt::format("with {} the guarantees of all tenants are {}% of the {} tier; lower one of them",
                                     format_share(guarantee), percent, pair.tier));
      }
      if (pair.tier_bytes != 0 && bytes > pair.tier_bytes) {
        return violation(
            tenant_key(name, pair.guarantee),
            fmt::format("with {} the guarantees of all tenants are {}, more than the {} tier has, {}; "
                        "lower one of them",
                        format_share(guarantee), format_bytes(bytes), pair.tier, format_bytes(pair.tier_bytes)));
      }
    }
  }
  return std::nullopt;
}

}  // namespace tiercel::config
