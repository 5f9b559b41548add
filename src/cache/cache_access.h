// CacheAccess: the core behind a Cache, for the node service, whose clients share it.
#pragma once

#include <tiercel/cache.h>

#include <memory>

namespace tiercel::detail {

struct CacheAccess {
  /// As Cache::open; `arena_later`: Environment::arena_later; `held` (-1: none) is duplicated: of SystemFileSystem.
  [[nodiscard]] static Result<Cache> open(const Config& config, bool arena_later, int held = -1);
  [[nodiscard]] static const std::shared_ptr<CacheCore>& core(const Cache& cache) noexcept { return cache.core_; }
};

}  // namespace tiercel::detail
