// The admin call `quota`: what tenants are promised and allowed, and what they hold; changed while the service runs.
#include "base/try.h"
#include "config/setting_value.h"
#include "config/tenants.h"
#include "service/admin/answer.h"

#include <fmt/format.h>

#include <algorithm>

namespace tiercel::service {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostListed = 1000;

Json json_of(const TenantReport& tenant) {
  const auto tier = [&](TierId id) {
    const TenantTierReport& report = tenant.tiers[static_cast<std::size_t>(id)];
    return Json{{"used_bytes", report.used_bytes},
                {"guarantee_bytes", report.guarantee_bytes},
                {"cap_bytes", report.cap_bytes}};
  };
  return {{"tenant", tenant.name},
          {"configured", tenant.configured},
          {"host", tier(TierId::kHost)},
          {"disk", tier(TierId::kDisk)},
          {"pinned_bytes", tenant.pinned_bytes},
          {"pinned_cap_bytes", tenant.pinned_cap_bytes}};
}

}  // namespace

/// Without a tenant: all of them. What is not named of a tenant's settings stays as it is; a restart or a reload that
/// changes them begins with those of the file.
Result<AdminCalls::Answer> AdminCalls::quota(const Fields& fields) {
  const auto name = fields.text("tenant");
  TenantConfig wanted = core_->tenant_config(name.value_or(""));
  std::string changes;
  for (const config::TenantSetting& setting : config::tenant_settings()) {
    const auto text = fields.text(setting.key);
    if (!text) continue;
    if (!name) return fail(ErrorCode::kInvalidArgument, "tenant: is missing; it says whose quota is to be set");
    TIERCEL_TRY_ASSIGN(const TierShare share, config::parse_share(setting.key, *text));
    changes += fmt::format("{}{} {} (was {})", changes.empty() ? "" : ", ", setting.key, config::format_share(share),
                           config::format_share(wanted.*setting.share));
    wanted.*setting.share = share;
  }
  Answer answer;
  if (!changes.empty()) {
    TIERCEL_TRY(parts_.cache.set_tenant(*name, wanted));
    answer.log = fmt::format("tenant {}: {}", config::shown(*name), changes);
    answer.json["done"] = answer.log;
  }
  Json& list = answer.json["tenants"] = Json::array();
  for (const TenantReport& tenant : parts_.cache.tenants()) {
    if ((!name || tenant.name == *name) && list.size() < kMostListed) list.push_back(json_of(tenant));
  }
  if (name && list.empty()) {
    return fail(ErrorCode::kNotFound, fmt::format("tenant: nothing of \"{}\" is known", config::shown(*name)));
  }
  return answer;
}

}  // namespace tiercel::service
