// KnownBlocks: which blocks a part of a recording has named, with number and depth: a hash table with linear probing
// that grows to a fixed size. Names are parts of SHA-256 hashes: their low bits are as good a hash as any. 16 bytes a
// slot, at most half of them in use. One thread.
#pragma once

#include "base/check.h"
#include "recording/request_ring.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace tiercel {

class KnownBlocks {
 public:
  struct Place {
    std::uint32_t number = 0;  ///< in the order of add()
    std::uint32_t depth = 0;   ///< blocks up to it, itself included
  };

  [[nodiscard]] std::optional<Place> find(RecordedBlock block) const {
    const Slot& slot = slots_[slot_of(block)];
    if (slot.place.depth == 0) return std::nullopt;
    return slot.place;
  }
  /// It must not be known; `depth` is at least 1.
  void add(RecordedBlock block, std::uint32_t depth) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    Slot& slot = slots_[slot_of(block)];
    TIERCEL_CHECK(slot.place.depth == 0 && depth > 0, "a block becomes known once");
    slot = {.block = block, .place = {.number = static_cast<std::uint32_t>(count_), .depth = depth}};
    ++count_;
  }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  void clear() {
    slots_.assign(kFirstSlots, Slot{});
    count_ = 0;
  }

 private:
  static constexpr std::size_t kFirstSlots = 1024;
  struct Slot {
    RecordedBlock block = 0;
    Place place{};  // depth 0: free
  };

  [[nodiscard]] std::size_t slot_of(RecordedBlock block) const {
    std::size_t at = block & (slots_.size() - 1);
    while (slots_[at].place.depth != 0 && slots_[at].block != block) at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  void grow() {
    std::vector<Slot> before(2 * slots_.size());
    before.swap(slots_);
    for (const Slot& slot : before) {
      if (slot.place.depth != 0) slots_[slot_of(slot.block)] = slot;
    }
  }

  std::vector<Slot> slots_ = std::vector<Slot>(kFirstSlots);
  std::size_t count_ = 0;
};

}  // namespace tiercel
