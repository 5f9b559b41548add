// TenantLists: which list of an eviction policy holds the blocks of one slot size and one tenant. Lists are made when
// their first block comes, so that the policy has as many as there are pairs in use. One owner, under its lock.
#pragma once

#include "base/check.h"
#include "base/tenant_number.h"
#include "policy/eviction.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace tiercel {

class TenantLists {
 public:
  static constexpr PolicyList kNone = UINT32_MAX;
  explicit TenantLists(std::uint32_t tenants = 0) : tenants_(tenants) {}

  [[nodiscard]] std::size_t sizes() const noexcept { return sizes_.size(); }
  [[nodiscard]] std::uint64_t slot_bytes(std::size_t size) const noexcept { return sizes_[size].slot_bytes; }
  [[nodiscard]] std::optional<std::size_t> find(std::uint64_t slot_bytes) const noexcept {
    for (std::size_t size = 0; size < sizes_.size(); ++size) {
      if (sizes_[size].slot_bytes == slot_bytes) return size;
    }
    return std::nullopt;
  }
  [[nodiscard]] std::size_t size_of(std::uint64_t slot_bytes) const noexcept {
    const auto size = find(slot_bytes);
    TIERCEL_CHECK(size.has_value(), "a slot size is added before it is used");
    return *size;
  }
  /// Allocates for a new size.
  std::size_t add(std::uint64_t slot_bytes) {
    if (const auto known = find(slot_bytes)) return *known;
    sizes_.push_back({.slot_bytes = slot_bytes, .lists = std::vector<PolicyList>(tenants_, kNone)});
    return sizes_.size() - 1;
  }

  /// kNone: it has no blocks and had none.
  [[nodiscard]] PolicyList list(std::size_t size, TenantNumber tenant) const noexcept {
    return sizes_[size].lists[tenant];
  }
  /// By tenant.
  [[nodiscard]] std::span<const PolicyList> lists(std::size_t size) const noexcept { return sizes_[size].lists; }
  /// Allocates for a new pair.
  PolicyList make(std::size_t size, TenantNumber tenant, EvictionPolicy& policy) {
    PolicyList& list = sizes_[size].lists[tenant];
    if (list != kNone) return list;
    if (pairs_.size() == pairs_.capacity()) pairs_.reserve(2 * pairs_.size() + 8);
    policy.add_list(static_cast<PolicyList>(pairs_.size()));
    list = static_cast<PolicyList>(pairs_.size());
    pairs_.push_back({.size = size, .tenant = tenant});
    return list;
  }
  struct Pair {
    std::size_t size = 0;
    TenantNumber tenant = kNoTenant;
  };
  /// All lists that were made, by number.
  [[nodiscard]] std::span<const Pair> pairs() const noexcept { return pairs_; }
  void clear() noexcept {
    sizes_.clear();
    pairs_.clear();
  }

 private:
  struct Size {
    std::uint64_t slot_bytes = 0;
    std::vector<PolicyList> lists;
  };
  std::uint32_t tenants_;
  std::vector<Size> sizes_;
  std::vector<Pair> pairs_;
};

}  // namespace tiercel
