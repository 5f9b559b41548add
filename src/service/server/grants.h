// GrantTable: what one member may still touch in the arena: for each slot, how many copy pins the service holds for it.
//
// A grant begins with a reply that names a place, and ends by the member's word, or when its process is proved gone.
// One thread at a time.
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
  GrantTable(GrantTable&& other) noexcept : core_(std::move(other.core_)), counts_(std::exchange(other.counts_, {})) {}
  GrantTable& operator=(GrantTable&&) = delete;
  /// What is left then is never released: a slot that is lost is better than one that is used twice.
  ~GrantTable() = default;

  /// Of a slot that has a copy pin of somebody else's now. False: the member has enough of this one.
  [[nodiscard]] bool add(SlotId slot) {
    std::uint32_t& count = counts_[slot];  // may throw, and then nothing is held
    if (count == kMostOfOne) return false;
    ++count;
    core_->retain(slot);
    return true;
  }
  /// Of `count` copy pins that are there and nobody's yet. May throw, and then they are never released.
  void adopt(SlotId slot, std::uint32_t count) { counts_[slot] += count; }
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
  /// Its process can touch nothing any more.
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

  static constexpr std::uint32_t kMostOfOne = 1U << 16U;  ///< of all members together they fit into a slot's count

 private:
  std::shared_ptr<detail::CacheCore> core_;
  std::unordered_map<SlotId, std::uint32_t> counts_;
};

}  // namespace tiercel::service
