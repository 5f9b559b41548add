// GrantTable: what one member may still touch in the arena: for each slot, how many copy pins the service holds for it.
//
// A grant begins with a reply that names a place, and ends by the member's word, or when its process is proved gone.
// One thread at a time. Whatever is left ends with the table.
#pragma once

#include "cache/core.h"

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>

namespace tiercel::service {

class GrantTable {
 public:
  explicit GrantTable(std::shared_ptr<detail::CacheCore> core) : core_(std::move(core)) {}
  GrantTable(GrantTable&& other) noexcept : core_(other.core_), counts_(std::exchange(other.counts_, {})) {}
  GrantTable& operator=(GrantTable&&) = delete;
  ~GrantTable() { clear(); }

  /// Of a slot that has a copy pin of somebody else's now.
  void add(SlotId slot) {
    ++counts_[slot];  // may throw, and then nothing is held
    core_->retain(slot);
  }
  /// False: there are not so many.
  [[nodiscard]] bool release(SlotId slot, std::uint32_t count) noexcept {
    const auto found = counts_.find(slot);
    if (found == counts_.end() || found->second < count || count == 0) return false;
    found->second -= count;
    if (found->second == 0) counts_.erase(found);
    for (; count > 0; --count) core_->release(slot);
    return true;
  }
  /// Takes over what another table holds.
  void merge(GrantTable&& other) {
    for (const auto& [slot, count] : other.counts_) counts_[slot] += count;
    other.counts_.clear();
  }
  /// Ends what is held beyond `count` of a slot.
  void shrink_to(SlotId slot, std::uint32_t count) noexcept {
    const auto found = counts_.find(slot);
    if (found != counts_.end() && found->second > count) (void)release(slot, found->second - count);
  }
  /// Ends without a release: the slots are never used again. For a server that ends while a process may still write.
  void forget() noexcept { counts_.clear(); }
  void clear() noexcept {
    for (const auto& [slot, count] : std::exchange(counts_, {})) {
      for (std::uint32_t i = 0; i < count; ++i) core_->release(slot);
    }
  }
  [[nodiscard]] bool empty() const noexcept { return counts_.empty(); }
  [[nodiscard]] std::size_t slots() const noexcept { return counts_.size(); }
  template <class Visit>
  void visit(Visit&& visit) const {
    for (const auto& [slot, count] : counts_) visit(slot, count);
  }

 private:
  std::shared_ptr<detail::CacheCore> core_;
  std::unordered_map<SlotId, std::uint32_t> counts_;
};

}  // namespace tiercel::service
