// What people do to a running cache: modes, settings that may change, what there is to pin or to delete.
#include "cache/core.h"
#include "cache/local_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace tiercel::detail {

void CacheCore::reconfigure(const Config& config) {
  limits_.sessions.store(config.limits.sessions, std::memory_order_relaxed);
  limits_.pin_max_ttl_ms.store(static_cast<std::uint64_t>(config.limits.pin_max_ttl.count()),
                               std::memory_order_relaxed);
  limits_.pinned_percent.store(config.limits.pinned_percent, std::memory_order_relaxed);
  std::unique_ptr<AdmissionPolicy> admission = make_admission(config.disk.admission);
  MutexLock lock(mutex_);
  store_.set_max_pinned_bytes(config_.host.capacity * config.limits.pinned_percent / 100);
  if (disks_.empty() || config.disk.admission == admitting_) return;
  admitting_ = config.disk.admission;
  admission_.swap(admission);  // the old one is freed after the lock: it is declared before it
}

Result<std::vector<BlockHash>> CacheCore::run_to(const BlockHash& last, std::size_t most) {
  std::vector<BlockHash> run;  // tail first
  BlockHash at = last;
  for (bool more = true; more;) {
    if (run.size() >= most) {
      return fail(ErrorCode::kLimit, fmt::format("block: the run that ends with it has more than {} blocks", most));
    }
    run.reserve(run.size() + kSlice);
    MutexLock lock(mutex_);
    // Looked up anew in each slice: between two of them the entry may have gone.
    BlockId id = store_.table().find(at, 0);
    if (id == kNoBlock || store_.table()[id].is_root) {
      return fail(ErrorCode::kNotFound, fmt::format("block: {} is not in the cache", to_hex(at)));
    }
    for (std::size_t i = 0; i < kSlice && more; ++i) {
      run.push_back(store_.table()[id].hash);
      id = store_.table()[id].parent;
      more = id != kNoBlock && !store_.table()[id].is_root;
      if (more) at = store_.table()[id].hash;
    }
  }
  std::ranges::reverse(run);
  return run;
}

std::vector<NamespaceReport> CacheCore::namespaces() {
  std::vector<NamespaceReport> reports;
  std::array<BlockHash, kSlice> some{};
  BlockHash after{};
  for (std::size_t count = kSlice; count == kSlice;) {
    {
      MutexLock lock(mutex_);
      count = store_.roots_after(after, some);
    }
    for (std::size_t i = 0; i < count; ++i) reports.push_back(namespace_names_.of(some[i]));
    if (count > 0) after = some[count - 1];
  }
  return reports;
}

std::optional<BlockHash> CacheCore::namespace_of(const BlockHash& hash) {
  MutexLock lock(mutex_);
  const BlockId id = store_.table().find(hash, 0);
  if (id == kNoBlock || store_.table()[id].is_root) return std::nullopt;
  return store_.table()[store_.table()[id].space].hash;
}

}  // namespace tiercel::detail
