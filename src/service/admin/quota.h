// What tenants are promised and allowed, and what they hold: read, or changed while the service runs. For the admin
// call `quota`. Pure but for the cache that it changes; safe from any thread.
#pragma once

#include "cache/core.h"
#include "service/admin/fields.h"

#include <tiercel/cache.h>

#include <string>
#include <vector>

namespace tiercel::service {

struct Quotas {
  std::string done = {};  ///< what was changed, as a sentence; empty: nothing
  std::vector<TenantReport> tenants{};
};

/// Of the tenant that is named, or of all. What is not named of its settings stays as it is; a restart, or a reload
/// that changes them, begins with those of the file. Errors as Cache::set_tenant; kNotFound: nothing is known of it.
[[nodiscard]] Result<Quotas> take_quota(Cache& cache, detail::CacheCore& core, const Fields& fields);

}  // namespace tiercel::service
