// CacheAccess: the core behind a Cache, for the node service, whose clients share it.
#pragma once

#include <tiercel/cache.h>

#include <memory>

namespace tiercel::detail {

struct CacheAccess {
  [[nodiscard]] static const std::shared_ptr<CacheCore>& core(const Cache& cache) noexcept { return cache.core_; }
};

}  // namespace tiercel::detail
