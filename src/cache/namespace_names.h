// NamespaceNames: which model and tenant a fingerprint stands for, as far as sessions of this run have named it. For
// people: what is found on disk has a fingerprint alone. Bounded; safe from any thread; the mutex is a leaf.
#pragma once

#include "base/mutex.h"

#include <tiercel/block.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace tiercel::detail {

/// One namespace that the cache knows.
struct NamespaceReport {
  BlockHash fingerprint;
  std::string model;  ///< empty, like the tenant: no session of this run has named it
  std::string tenant;
};

class NamespaceNames {
 public:
  static constexpr std::size_t kLongest = 256;

  explicit NamespaceNames(std::size_t most) : most_(most) {}

  /// Of more than `most`, the later ones stay without a name, and so do those with names longer than kLongest.
  void note(const BlockHash& fingerprint, const std::string& model, const std::string& tenant) {
    if (tenant.size() > kLongest) return;
    const MutexLock lock(mutex_);
    if (names_.size() >= most_ && !names_.contains(fingerprint)) return;
    names_.insert_or_assign(
        fingerprint, NamespaceReport{.fingerprint = fingerprint, .model = model.substr(0, kLongest), .tenant = tenant});
  }
  /// With empty names where it has none.
  [[nodiscard]] NamespaceReport of(const BlockHash& fingerprint) const {
    const MutexLock lock(mutex_);
    const auto found = names_.find(fingerprint);
    return found == names_.end() ? NamespaceReport{.fingerprint = fingerprint, .model = {}, .tenant = {}}
                                 : found->second;
  }

 private:
  const std::size_t most_;
  mutable Mutex mutex_;
  std::map<BlockHash, NamespaceReport> names_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel::detail
