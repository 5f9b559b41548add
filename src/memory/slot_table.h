// SlotTable: extents of one size, each cut into slots of one size, given back when empty, so that models of different
// block sizes share one budget. The bookkeeping of an arena (and of a disk file), without the bytes.
//
// A slot id is extent * slots_per_extent_max + position. One writer at a time: all calls but those on copy pins
// (retain, release) need the owner's lock. Copy pins are counted in one atomic word a slot together with a quarantine
// mark: a slot that is given back while pins live waits in quarantine, and the last release reports it, once, to be
// collected under the lock. 16 bytes a possible slot.
// Every used slot is charged to one tenant until it is free again, quarantine included: the charges sum up to
// used_bytes().
//
// Withheld: the table of an arena that others may still write into. It hands out nothing; claim() keeps what they name
// out of use beyond that time, and offer() ends it, extent by extent.
#pragma once

#include "base/check.h"
#include "base/tenant_number.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace tiercel {

using SlotId = std::uint32_t;
inline constexpr SlotId kNoSlot = UINT32_MAX;
using ExtentId = std::uint32_t;
inline constexpr ExtentId kNoExtent = UINT32_MAX;

class SlotTable {
 public:
  struct Options {
    std::uint32_t extents = 0;
    std::uint64_t extent_bytes = 0;
    std::uint64_t min_slot_bytes = 0;
    std::uint32_t tenants = kFirstTenant;  ///< their numbers lie below it
    bool withheld = false;
  };
  explicit SlotTable(const Options& options);

  /// Of a table that is still new: extents that are cut already, for slots of so many bytes each (0: free). All their
  /// slots count as used, by nobody (owner UINT32_MAX, kNoTenant), until set_owner or give_back. Allocates.
  void restore(std::span<const std::uint64_t> slot_bytes);

  enum class Claim : std::uint8_t {
    kClaimed,
    kConflict,  ///< no such slot, its extent is claimed with slots of another size, or is handed out
    kAgain,     ///< its last pin has just ended, and nobody has collected it yet
  };
  /// Of a slot in a withheld extent: `pins` copy pins more. It waits in quarantine until they have ended. Allocates as
  /// add_size.
  [[nodiscard]] Claim claim(SlotId slot, std::uint64_t slot_bytes, std::uint32_t pins);
  /// Ends the withholding of extents, with a look at about `budget` slots. True: none is left.
  bool offer(std::uint32_t budget);
  [[nodiscard]] bool withheld() const noexcept { return withheld_extents_ > 0; }

  /// Makes a size known. Besides restore the only call that may allocate, and then only for a new size; allocate does
  /// it where it was not done.
  void add_size(std::uint64_t slot_bytes) { (void)class_of(slot_bytes); }

  /// A slot of `slot_bytes` for `owner`, charged to `tenant`, from an extent that is cut so already, else from a free
  /// extent. Never from an extent that is being drained. Empty: neither exists.
  [[nodiscard]] std::optional<SlotId> allocate(std::uint64_t slot_bytes, std::uint32_t owner,
                                               TenantNumber tenant = kNoTenant);
  /// As allocate, but never cuts a free extent.
  [[nodiscard]] std::optional<SlotId> allocate_in_cut_extent(std::uint64_t slot_bytes, std::uint32_t owner,
                                                             TenantNumber tenant = kNoTenant);

  /// Gives a slot back. True: it is free. False: copy pins live, it waits in quarantine until `collect`.
  bool give_back(SlotId slot);
  /// After release() said so: frees the quarantined slot.
  void collect(SlotId slot);

  /// Adds a copy pin. Under the lock for a slot without pins; from anywhere for one that has some.
  void retain(SlotId slot) noexcept { meta_[slot].pins.fetch_add(1, std::memory_order_relaxed); }
  /// Ends a copy pin, from any thread. True: it was the last one of a quarantined slot, and the caller must `collect`.
  [[nodiscard]] bool release(SlotId slot) noexcept {
    // Release orders the copy's accesses before the slot's reuse; acquire pairs with it in the thread that collects.
    return meta_[slot].pins.fetch_sub(1, std::memory_order_acq_rel) == (kQuarantined | 1U);
  }
  [[nodiscard]] std::uint32_t copy_pins(SlotId slot) const noexcept {
    return meta_[slot].pins.load(std::memory_order_acquire) & ~kQuarantined;
  }

  void prefetch(SlotId slot) const noexcept { __builtin_prefetch(&meta_[slot], 1); }
  [[nodiscard]] std::uint32_t owner(SlotId slot) const noexcept { return meta_[slot].owner; }
  void set_owner(SlotId slot, std::uint32_t owner) noexcept { meta_[slot].owner = owner; }
  [[nodiscard]] TenantNumber tenant(SlotId slot) const noexcept { return meta_[slot].tenant; }
  /// Of a used slot: from now on another tenant is charged for it.
  void set_tenant(SlotId slot, TenantNumber tenant) noexcept;
  [[nodiscard]] std::uint32_t length(SlotId slot) const noexcept { return meta_[slot].length; }
  void set_length(SlotId slot, std::uint32_t bytes) noexcept { meta_[slot].length = bytes; }

  /// Bytes from the start of the arena or of the file's data region.
  [[nodiscard]] std::uint64_t offset(SlotId slot) const noexcept {
    const ExtentId extent = extent_of(slot);
    return extent * options_.extent_bytes + (slot - extent * slots_per_extent_max_) * extents_[extent].slot_bytes;
  }
  /// The slot that begins at an offset, in an extent that is cut.
  [[nodiscard]] SlotId slot_of(std::uint64_t offset) const noexcept {
    const auto extent = static_cast<ExtentId>(offset / options_.extent_bytes);
    return slot_at(extent, static_cast<std::uint32_t>(offset % options_.extent_bytes / extents_[extent].slot_bytes));
  }
  [[nodiscard]] ExtentId extent_of(SlotId slot) const noexcept { return slot / slots_per_extent_max_; }

  // Extents.
  [[nodiscard]] std::uint32_t extents() const noexcept { return options_.extents; }
  /// Slot ids lie below this.
  [[nodiscard]] std::uint32_t slot_ids() const noexcept { return options_.extents * slots_per_extent_max_; }
  [[nodiscard]] std::uint32_t free_extents() const noexcept { return static_cast<std::uint32_t>(free_.size()); }
  /// 0 while the extent is free.
  [[nodiscard]] std::uint64_t slot_bytes(ExtentId extent) const noexcept { return extents_[extent].slot_bytes; }
  [[nodiscard]] std::uint32_t slots(ExtentId extent) const noexcept { return extents_[extent].slots; }
  [[nodiscard]] std::uint32_t used_slots(ExtentId extent) const noexcept { return extents_[extent].used; }
  [[nodiscard]] SlotId slot_at(ExtentId extent, std::uint32_t position) const noexcept {
    return extent * slots_per_extent_max_ + position;
  }
  [[nodiscard]] bool is_used(SlotId slot) const noexcept { return meta_[slot].state == State::kUsed; }
  [[nodiscard]] bool is_quarantined(SlotId slot) const noexcept { return meta_[slot].state == State::kQuarantined; }
  /// While drained, an extent gives no slots, and stays cut when its last slot is given back.
  void set_draining(ExtentId extent, bool draining);
  /// Ends the draining of an extent without used slots: it is cut anew, for slots of `slot_bytes`. Until one of them is
  /// taken, another size that finds nothing else may take the extent.
  void hand_over(ExtentId extent, std::uint64_t slot_bytes);
  [[nodiscard]] bool draining(ExtentId extent) const noexcept { return extents_[extent].draining; }

  // Gauges.
  [[nodiscard]] std::uint64_t used_bytes() const noexcept { return used_bytes_; }
  /// Of one tenant, quarantined slots included.
  [[nodiscard]] std::uint64_t charged_bytes(TenantNumber tenant) const noexcept { return charged_bytes_[tenant]; }
  [[nodiscard]] std::uint64_t quarantined_slots() const noexcept { return quarantined_slots_; }
  [[nodiscard]] std::uint64_t quarantined_bytes() const noexcept { return quarantined_bytes_; }
  [[nodiscard]] const Options& options() const noexcept { return options_; }

  /// Walks everything and aborts on a contradiction. For tests.
  void check_consistency() const;

 private:
  static constexpr std::uint32_t kQuarantined = 1U << 31U;
  enum class State : std::uint8_t { kFree, kUsed, kQuarantined };

  struct Meta {
    std::uint32_t owner = 0;  // while free: the next free slot of the extent
    std::uint32_t length = 0;
    std::atomic<std::uint32_t> pins{0};  // copy pins and the quarantine mark; give_back pairs with release (acq_rel)
    State state = State::kFree;
    TenantNumber tenant = kNoTenant;
  };

  struct Extent {
    std::uint64_t slot_bytes = 0;
    std::uint32_t slots = 0;
    std::uint32_t used = 0;         // quarantined ones included
    std::uint32_t untouched = 0;    // positions from here on were not taken since the cut, so that a cut writes nothing
    SlotId first_free = kNoSlot;    // of those before
    ExtentId previous = kNoExtent;  // in its class's list of extents with room
    ExtentId next = kNoExtent;
    bool draining = false;
    bool listed = false;
    bool unclaimed = false;  // handed over, and no slot of it taken yet
    bool withheld = false;   // its free slots are on no list; without used ones it is not cut
  };

  /// Extents of one slot size that have room, as a list.
  struct Class {
    std::uint64_t slot_bytes = 0;
    ExtentId head = kNoExtent;
    ExtentId tail = kNoExtent;
  };

  Class& class_of(std::uint64_t slot_bytes);
  void cut(ExtentId extent, std::uint64_t slot_bytes);
  void list(ExtentId extent);
  void unlist(ExtentId extent);
  void free_slot(SlotId slot);
  void free_extent(ExtentId extent);
  void free_an_unclaimed_extent();
  void forget_unclaimed(ExtentId extent);
  [[nodiscard]] static bool has_room(const Extent& extent) noexcept {
    return extent.first_free != kNoSlot || extent.untouched < extent.slots;
  }

  Options options_;
  std::uint32_t slots_per_extent_max_;
  std::unique_ptr<Meta[]> meta_;
  std::vector<Extent> extents_;
  std::vector<ExtentId> free_;  // the back is taken first: the lowest address
  std::vector<Class> classes_;
  std::vector<ExtentId> unclaimed_;
  std::uint64_t used_bytes_ = 0;
  std::vector<std::uint64_t> charged_bytes_;  // by tenant
  std::uint64_t quarantined_slots_ = 0;
  std::uint64_t quarantined_bytes_ = 0;
  std::uint32_t withheld_extents_ = 0;  // those from 0 on: offer() takes the last one
};

}  // namespace tiercel
