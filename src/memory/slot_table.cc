#include "memory/slot_table.h"

#include <algorithm>
#include <utility>

namespace tiercel {

SlotTable::SlotTable(const Options& options)
    : options_(options),
      slots_per_extent_max_(static_cast<std::uint32_t>(options.extent_bytes / options.min_slot_bytes)),
      meta_(std::make_unique<Meta[]>(std::size_t{options.extents} * slots_per_extent_max_)),
      extents_(options.extents),
      charged_bytes_(options.tenants) {
  static_assert(sizeof(Meta) == 16);
  TIERCEL_CHECK(std::uint64_t{options.extents} * slots_per_extent_max_ < kNoSlot, "slot ids fit 32 bits");
  free_.reserve(options.extents);
  if (options.withheld) {
    withheld_extents_ = options.extents;
    for (Extent& extent : extents_) extent.withheld = true;
  }
  for (ExtentId extent = options.extents; extent > withheld_extents_; --extent) free_.push_back(extent - 1);
  unclaimed_.reserve(options.extents);  // adding one does not allocate
  classes_.reserve(16);
}

void SlotTable::restore(std::span<const std::uint64_t> slot_bytes) {
  TIERCEL_CHECK(slot_bytes.size() == options_.extents && used_bytes_ == 0, "a new table is restored");
  free_.clear();
  for (ExtentId id = options_.extents; id > 0; --id) {
    const std::uint64_t bytes = slot_bytes[id - 1];
    if (bytes == 0) {
      free_.push_back(id - 1);
      continue;
    }
    add_size(bytes);
    Extent& extent = extents_[id - 1];
    extent.slot_bytes = bytes;
    extent.slots = extent.used = extent.untouched = static_cast<std::uint32_t>(options_.extent_bytes / bytes);
    used_bytes_ += extent.slots * bytes;
    charged_bytes_[kNoTenant] += extent.slots * bytes;
    for (std::uint32_t i = 0; i < extent.slots; ++i) {
      Meta& meta = meta_[slot_at(id - 1, i)];
      meta.state = State::kUsed;
      meta.owner = UINT32_MAX;
    }
  }
}

SlotTable::Claim SlotTable::claim(SlotId slot, std::uint64_t slot_bytes, std::uint32_t pins) {
  TIERCEL_CHECK(slot < slot_ids() && pins > 0 && slot_bytes >= options_.min_slot_bytes, "a claim is of a slot");
  Extent& extent = extents_[extent_of(slot)];
  const std::uint64_t slots = options_.extent_bytes / slot_bytes;
  if (!extent.withheld || slot - slot_at(extent_of(slot), 0) >= slots) return Claim::kConflict;
  if (extent.slot_bytes != 0 && extent.slot_bytes != slot_bytes) return Claim::kConflict;
  Meta& meta = meta_[slot];
  if (meta.state == State::kQuarantined) {
    std::uint32_t seen = meta.pins.load(std::memory_order_acquire);
    do {
      if (seen == kQuarantined) return Claim::kAgain;
    } while (!meta.pins.compare_exchange_weak(seen, seen + pins, std::memory_order_acq_rel));
    return Claim::kClaimed;
  }
  add_size(slot_bytes);
  extent.slot_bytes = slot_bytes;
  extent.slots = extent.untouched = static_cast<std::uint32_t>(slots);
  ++extent.used;
  used_bytes_ += slot_bytes;
  charged_bytes_[kNoTenant] += slot_bytes;
  ++quarantined_slots_;
  quarantined_bytes_ += slot_bytes;
  meta.state = State::kQuarantined;
  meta.tenant = kNoTenant;
  meta.owner = UINT32_MAX;
  meta.pins.store(kQuarantined | pins, std::memory_order_release);
  return Claim::kClaimed;
}

bool SlotTable::offer(std::uint32_t budget) {
  for (std::uint32_t looked = 0; withheld_extents_ > 0 && looked < budget; ++looked) {
    const ExtentId id = --withheld_extents_;
    Extent& extent = extents_[id];
    extent.withheld = false;
    if (extent.used == 0) {
      free_.push_back(id);
      continue;
    }
    for (std::uint32_t i = extent.slots; i > 0; --i) {
      Meta& meta = meta_[slot_at(id, i - 1)];
      if (meta.state != State::kFree) continue;
      meta.owner = extent.first_free;
      extent.first_free = slot_at(id, i - 1);
    }
    if (has_room(extent)) list(id);
    looked += extent.slots;
  }
  return withheld_extents_ == 0;
}

SlotTable::Class& SlotTable::class_of(std::uint64_t slot_bytes) {
  for (Class& known : classes_) {
    if (known.slot_bytes == slot_bytes) return known;
  }
  return classes_.emplace_back(Class{.slot_bytes = slot_bytes});
}

void SlotTable::list(ExtentId id) {
  Extent& extent = extents_[id];
  if (extent.listed) return;
  Class& group = class_of(extent.slot_bytes);
  extent.listed = true;
  extent.previous = group.tail;
  extent.next = kNoExtent;
  (group.tail == kNoExtent ? group.head : extents_[group.tail].next) = id;
  group.tail = id;
}

void SlotTable::unlist(ExtentId id) {
  Extent& extent = extents_[id];
  if (!extent.listed) return;
  Class& group = class_of(extent.slot_bytes);
  extent.listed = false;
  (extent.previous == kNoExtent ? group.head : extents_[extent.previous].next) = extent.next;
  (extent.next == kNoExtent ? group.tail : extents_[extent.next].previous) = extent.previous;
}

void SlotTable::cut(ExtentId id, std::uint64_t slot_bytes) {
  Extent& extent = extents_[id];
  extent.slot_bytes = slot_bytes;
  extent.slots = static_cast<std::uint32_t>(options_.extent_bytes / slot_bytes);
  extent.used = 0;
  extent.untouched = 0;
  extent.first_free = kNoSlot;
  list(id);
}

std::optional<SlotId> SlotTable::allocate(std::uint64_t slot_bytes, std::uint32_t owner, TenantNumber tenant) {
  TIERCEL_CHECK(slot_bytes >= options_.min_slot_bytes && slot_bytes <= options_.extent_bytes, "slot size in range");
  if (class_of(slot_bytes).head == kNoExtent) {
    if (free_.empty()) free_an_unclaimed_extent();
    if (free_.empty()) return std::nullopt;
    cut(free_.back(), slot_bytes);
    free_.pop_back();
  }
  return allocate_in_cut_extent(slot_bytes, owner, tenant);
}

std::optional<SlotId> SlotTable::allocate_in_cut_extent(std::uint64_t slot_bytes, std::uint32_t owner,
                                                        TenantNumber tenant) {
  const ExtentId id = class_of(slot_bytes).head;
  if (id == kNoExtent) return std::nullopt;
  Extent& extent = extents_[id];
  const bool again = extent.first_free != kNoSlot;
  const SlotId slot = again ? extent.first_free : slot_at(id, extent.untouched++);
  Meta& meta = meta_[slot];
  TIERCEL_CHECK(meta.state == State::kFree && meta.pins.load(std::memory_order_acquire) == 0, "a free slot is unused");
  if (again) extent.first_free = meta.owner;
  meta.state = State::kUsed;
  meta.owner = owner;
  meta.length = 0;
  meta.tenant = tenant;
  if (std::exchange(extent.unclaimed, false)) forget_unclaimed(id);
  ++extent.used;
  used_bytes_ += extent.slot_bytes;
  charged_bytes_[tenant] += extent.slot_bytes;
  if (!has_room(extent)) unlist(id);
  return slot;
}

void SlotTable::set_tenant(SlotId slot, TenantNumber tenant) noexcept {
  Meta& meta = meta_[slot];
  TIERCEL_CHECK(meta.state != State::kFree, "a free slot is nobody's");
  const std::uint64_t bytes = extents_[extent_of(slot)].slot_bytes;
  charged_bytes_[std::exchange(meta.tenant, tenant)] -= bytes;
  charged_bytes_[tenant] += bytes;
}

bool SlotTable::give_back(SlotId slot) {
  Meta& meta = meta_[slot];
  TIERCEL_CHECK(meta.state == State::kUsed, "only a used slot is given back");
  if (meta.pins.fetch_or(kQuarantined, std::memory_order_acq_rel) != 0) {
    meta.state = State::kQuarantined;
    ++quarantined_slots_;
    quarantined_bytes_ += extents_[extent_of(slot)].slot_bytes;
    return false;
  }
  free_slot(slot);
  return true;
}

void SlotTable::collect(SlotId slot) {
  TIERCEL_CHECK(meta_[slot].state == State::kQuarantined && copy_pins(slot) == 0, "collect after the last release");
  --quarantined_slots_;
  quarantined_bytes_ -= extents_[extent_of(slot)].slot_bytes;
  free_slot(slot);
}

void SlotTable::free_slot(SlotId slot) {
  const ExtentId id = extent_of(slot);
  Extent& extent = extents_[id];
  Meta& meta = meta_[slot];
  meta.pins.store(0, std::memory_order_release);
  meta.state = State::kFree;
  used_bytes_ -= extent.slot_bytes;
  charged_bytes_[meta.tenant] -= extent.slot_bytes;
  --extent.used;
  if (extent.withheld) {
    if (extent.used == 0) extent = Extent{.withheld = true};
    return;
  }
  meta.owner = extent.first_free;
  extent.first_free = slot;
  if (extent.draining) return;
  if (extent.used > 0) {
    list(id);
  } else {
    free_extent(id);
  }
}

void SlotTable::free_extent(ExtentId id) {
  unlist(id);
  if (extents_[id].unclaimed) forget_unclaimed(id);
  extents_[id] = Extent{};
  free_.push_back(id);
}

void SlotTable::set_draining(ExtentId id, bool draining) {
  Extent& extent = extents_[id];
  TIERCEL_CHECK(extent.slot_bytes != 0, "a free extent is not drained");
  extent.draining = draining;
  if (draining) {
    unlist(id);
  } else if (extent.used == 0) {
    free_extent(id);
  } else if (has_room(extent)) {
    list(id);
  }
}

void SlotTable::hand_over(ExtentId id, std::uint64_t slot_bytes) {
  TIERCEL_CHECK(extents_[id].draining && extents_[id].used == 0, "a drained extent is handed over");
  if (extents_[id].unclaimed) forget_unclaimed(id);
  extents_[id] = Extent{};
  cut(id, slot_bytes);
  extents_[id].unclaimed = true;
  unclaimed_.push_back(id);
}

void SlotTable::free_an_unclaimed_extent() {
  const auto found = std::ranges::find_if(unclaimed_, [this](ExtentId id) { return !extents_[id].draining; });
  if (found != unclaimed_.end()) free_extent(*found);
}

/// Few are unclaimed at a time: hand-overs come one by one, and each was asked for.
void SlotTable::forget_unclaimed(ExtentId id) { std::erase(unclaimed_, id); }

void SlotTable::check_consistency() const {
  std::uint64_t used_bytes = 0;
  std::uint64_t quarantined = 0;
  std::vector<std::uint64_t> charged(charged_bytes_.size());
  std::size_t free_extents = 0;
  for (ExtentId id = 0; id < options_.extents; ++id) {
    const Extent& extent = extents_[id];
    for (std::uint32_t i = extent.untouched; i < slots_per_extent_max_; ++i) {  // all of a free extent
      const Meta& meta = meta_[slot_at(id, i)];
      TIERCEL_CHECK(meta.state == State::kFree && meta.pins.load(std::memory_order_acquire) == 0,
                    "a slot that was never taken is unused");
    }
    if (extent.withheld) {
      TIERCEL_CHECK(id < withheld_extents_ && !extent.listed && extent.first_free == kNoSlot,
                    "nothing of it is listed");
      std::uint32_t claimed = 0;
      for (std::uint32_t i = 0; i < extent.slots; ++i) claimed += is_quarantined(slot_at(id, i)) ? 1U : 0U;
      TIERCEL_CHECK(claimed == extent.used && (claimed > 0) == (extent.slot_bytes != 0), "what is claimed is counted");
      used_bytes += claimed * extent.slot_bytes;
      charged[kNoTenant] += claimed * extent.slot_bytes;
      quarantined += claimed;
      continue;
    }
    TIERCEL_CHECK(extent.unclaimed == (std::ranges::count(unclaimed_, id) == 1), "unclaimed extents are listed once");
    if (extent.slot_bytes == 0) {
      ++free_extents;
      TIERCEL_CHECK(extent.untouched == 0 && extent.used == 0 && !extent.listed, "a free extent holds nothing");
      continue;
    }
    TIERCEL_CHECK(extent.untouched <= extent.slots, "no slot lies beyond the last");
    std::uint32_t used = 0;
    for (std::uint32_t i = 0; i < extent.slots; ++i) {
      used += meta_[slot_at(id, i)].state != State::kFree ? 1U : 0U;
      if (meta_[slot_at(id, i)].state != State::kFree) charged[meta_[slot_at(id, i)].tenant] += extent.slot_bytes;
      quarantined += meta_[slot_at(id, i)].state == State::kQuarantined ? 1U : 0U;
    }
    std::uint32_t listed_free = 0;
    for (SlotId slot = extent.first_free; slot != kNoSlot; slot = meta_[slot].owner) {
      TIERCEL_CHECK(extent_of(slot) == id && meta_[slot].state == State::kFree, "free list of the extent");
      TIERCEL_CHECK(slot < slot_at(id, extent.untouched), "only what was taken before is on the free list");
      ++listed_free;
      TIERCEL_CHECK(listed_free <= extent.slots, "free list has no loop");
    }
    TIERCEL_CHECK(used == extent.used && used + listed_free == extent.untouched, "every slot is counted once");
    TIERCEL_CHECK(extent.listed == (used < extent.slots && !extent.draining), "an extent with room is listed");
    used_bytes += used * extent.slot_bytes;
  }
  TIERCEL_CHECK(free_extents == free_.size(), "every free extent is on the list");
  TIERCEL_CHECK(charged == charged_bytes_, "every used slot is charged to one tenant");
  TIERCEL_CHECK(used_bytes == used_bytes_ && quarantined == quarantined_slots_, "gauges agree with the slots");
}

}  // namespace tiercel
