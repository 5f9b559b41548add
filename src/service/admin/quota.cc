#include "service/admin/quota.h"

#include "base/try.h"
#include "config/setting_value.h"
#include "config/tenants.h"

#include <fmt/format.h>

#include <utility>

namespace tiercel::service {

Result<Quotas> take_quota(Cache& cache, detail::CacheCore& core, const Fields& fields) {
  const auto name = fields.text("tenant");
  TenantConfig wanted = core.tenant_config(name.value_or(""));
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
  Quotas quotas;
  if (!changes.empty()) {
    TIERCEL_TRY(cache.set_tenant(*name, wanted));
    quotas.done = fmt::format("tenant {}: {}", config::shown(*name), changes);
  }
  for (TenantReport& tenant : cache.tenants()) {
    if (!name || tenant.name == *name) quotas.tenants.push_back(std::move(tenant));
  }
  if (name && quotas.tenants.empty()) {
    return fail(ErrorCode::kNotFound, fmt::format("tenant: nothing of \"{}\" is known", config::shown(*name)));
  }
  return quotas;
}

}  // namespace tiercel::service
