// Room in the disk tier: whose block goes, in which slice; part of DiskStore. As host_room.cc, by slots of one
// directory; a search that has not ended says so (`again`) and goes on in the next slice where it was.
#include "base/check.h"
#include "cache/disk_store.h"

#include <algorithm>
#include <utility>

namespace tiercel {
namespace {

constexpr TierId kDisk = TierId::kDisk;
constexpr int kEvictionsPerSlot = 8;
constexpr std::uint32_t kExtentsPerSearch = 8;  // times kSlotsPerValue entries of about 100 ns: half a slice
constexpr std::uint32_t kSlotsPerValue = 32;
constexpr std::uint32_t kSlotsPerSlice = DiskStore::kWorthPerSlice;  // of walks that only look

}  // namespace

std::size_t DiskStore::size_of(Directory& directory, std::uint64_t slot_bytes) {
  const std::size_t size = directory.lists.add(slot_bytes);
  if (size < directory.waiting_counts.size()) return size;
  directory.slots->add_size(slot_bytes);
  directory.waiting_counts.push_back(0);
  return size;
}

PolicyList DiskStore::list_of(Directory& directory, std::uint64_t slot_bytes, TenantNumber tenant) {
  return directory.lists.make(size_of(directory, slot_bytes), tenant, *directory.policy);
}

bool DiskStore::evictable(const Directory& directory, SlotId slot) const noexcept {
  const BlockId id = directory.slots->owner(slot);
  return table_.state(id, kDisk) == CopyState::kReady && table_.can_lose(id, kDisk) &&
         directory.slots->copy_pins(slot) == 0;
}

/// Of those that take writes (`without` those that have a bit there), the one with the most bytes that are free or
/// would give way first; else in turn.
std::uint32_t DiskStore::choose_directory(std::uint64_t slot_bytes, std::uint64_t without) const noexcept {
  std::uint32_t best = UINT32_MAX;
  std::uint64_t best_free = 0;
  const auto count = static_cast<std::uint32_t>(directories_.size());
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t index = (turn_ + i) % count;
    const Directory& directory = directories_[index];
    if (!directory.slots || directory.recovering || !directory.writes) continue;
    if (((without >> index) & 1U) != 0) continue;
    const SlotTable::Options& options = directory.slots->options();
    if (std::max(slot_bytes, options.min_slot_bytes) > options.extent_bytes) continue;
    const std::uint64_t free =
        options.extents * options.extent_bytes - directory.slots->used_bytes() + directory.waiting_bytes;
    if (best != UINT32_MAX && free <= best_free) continue;
    best = index;
    best_free = free;
  }
  turn_ = count == 0 ? 0 : (turn_ + 1) % count;
  return best;
}

void DiskStore::evict(std::uint32_t index, SlotId slot, std::vector<DiskPlace>& evicted, bool pinned) {
  Directory& directory = directories_[index];
  const BlockId id = directory.slots->owner(slot);
  ++counters_.evicted_blocks;
  counters_.evicted_bytes += directory.slots->length(slot);
  tenants_.count_evicted(kDisk, directory.slots->tenant(slot), directory.slots->length(slot));
  detach(id);
  if (pinned) directory.slots->retain(slot);  // it waits in quarantine until its header is cleared
  (void)directory.slots->give_back(slot);
  evicted.push_back({.directory = index, .slot = slot, .incarnation = directory.incarnation});
  table_.erase_if_unused(id);
}

std::uint64_t DiskStore::charged_bytes(TenantNumber tenant) const noexcept {
  std::uint64_t bytes = 0;
  for (const Directory& directory : directories_) {
    if (directory.slots) bytes += directory.slots->charged_bytes(tenant);
  }
  return bytes;
}

bool DiskStore::may_lose(TenantNumber tenant, std::uint64_t bytes) const noexcept {
  const std::uint64_t guarantee = tenants_.guarantee(kDisk, tenant);
  return guarantee == 0 || charged_bytes(tenant) >= guarantee + bytes;
}

std::optional<Victim> DiskStore::victim_for(const Directory& directory, std::size_t size, const RoomRequest& request,
                                            const TenantSet& exhausted) const {
  const std::uint64_t bytes = directory.lists.slot_bytes(size);
  const std::uint64_t guarantee = tenants_.guarantee(kDisk, request.tenant);
  return choose_victim(
      {.policy = *directory.policy,
       .lists = directory.lists.lists(size),
       .tenant = request.tenant,
       .within_guarantee = guarantee > 0 && charged_bytes(request.tenant) + request.slot_bytes <= guarantee,
       .tenants = tenants_.used_numbers(),
       .may_lose = [&](TenantNumber tenant) { return may_lose(tenant, bytes); },
       .exhausted = exhausted,
       .now_ns = request.now_ns},
      victim_turn_);
}

/// A block of the slot size of `request`, whosever may go.
DiskStore::Evicted DiskStore::evict_for(std::uint32_t index, const RoomRequest& request,
                                        std::vector<DiskPlace>& evicted) {
  Directory& directory = directories_[index];
  const std::size_t size = size_of(directory, request.slot_bytes);
  Search& search = directory.search;
  if (search.asked_for.size != size || search.asked_for.tenant != request.tenant) {
    search = {.asked_for = {.size = size, .tenant = request.tenant}};
  }
  for (;;) {
    if (!search.victim) {
      const auto victim = victim_for(directory, size, request, search.exhausted);
      if (!victim) break;
      search.victim = victim->tenant;
      search.asked = 0;
    }
    const TenantNumber tenant = *search.victim;
    const PolicyList list = directory.lists.list(size, tenant);
    const bool may = list != TenantLists::kNone && (tenant == request.tenant || may_lose(tenant, request.slot_bytes));
    if (may && search.asked < directory.policy->asks_for_all(list)) {
      const auto slot = directory.policy->victim(list, [&](SlotId one) { return evictable(directory, one); });
      if (slot) {
        search.victim.reset();
        search.exhausted.reset();
        evict(index, *slot, evicted);
        return Evicted::kOne;
      }
      search.asked += EvictionPolicy::kSearch;
      return Evicted::kAgain;  // with this list, or with the next
    }
    search.victim.reset();
    search.exhausted.set(tenant);
  }
  search.exhausted.reset();
  return Evicted::kNone;
}

/// A block of the tenant's own, of whatever slot size: in this directory first.
DiskStore::Evicted DiskStore::evict_own(std::uint32_t index, const RoomRequest& request,
                                        std::vector<DiskPlace>& evicted, bool pinned) {
  if (own_.tenant != request.tenant) own_ = {.tenant = request.tenant, .first = index};
  const auto count = static_cast<std::uint32_t>(directories_.size());
  for (; own_.directories_done < count; ++own_.directories_done, own_.sizes_done = 0) {
    const std::uint32_t at = (own_.first + own_.directories_done) % count;
    Directory& directory = directories_[at];
    if (!directory.slots || directory.recovering) continue;
    for (; own_.sizes_done < directory.lists.sizes(); ++own_.sizes_done, own_.asked = 0) {
      const PolicyList list = directory.lists.list(own_.sizes_done, request.tenant);
      if (list == TenantLists::kNone || own_.asked >= directory.policy->asks_for_all(list)) continue;
      const auto slot = directory.policy->victim(list, [&](SlotId one) { return evictable(directory, one); });
      if (slot) {
        own_ = {};
        evict(at, *slot, evicted, pinned);
        return Evicted::kOne;
      }
      own_.asked += EvictionPolicy::kSearch;
      return Evicted::kAgain;
    }
  }
  own_ = {};
  return Evicted::kNone;
}

std::optional<SlotId> DiskStore::take_slot(std::uint32_t index, const RoomRequest& request, bool& again,
                                           std::vector<DiskPlace>& evicted) {
  Directory& directory = directories_[index];
  SlotTable& slots = *directory.slots;
  const std::uint64_t slot_bytes = request.slot_bytes;
  (void)list_of(directory, slot_bytes, request.tenant);
  for (int i = 0; !has_room_below_cap(request); ++i) {
    const Evicted own = i < kEvictionsPerSlot ? evict_own(index, request, evicted) : Evicted::kNone;
    again = own == Evicted::kAgain;
    if (own != Evicted::kOne) return std::nullopt;
  }
  if (const auto slot = slots.allocate(slot_bytes, kNoBlock, request.tenant)) return slot;
  evict_waiting(index, slot_bytes, again, evicted);
  if (again) return std::nullopt;
  if (const auto slot = slots.allocate(slot_bytes, kNoBlock, request.tenant)) return slot;
  if (directory.draining == kNoExtent) choose_extent_to_drain(directory, request);
  if (directory.draining != kNoExtent) {
    again = drain_some(index, evicted);
    if (const auto slot = slots.allocate(slot_bytes, kNoBlock, request.tenant)) return slot;
    if (again) return std::nullopt;
  }
  for (int i = 0; i < kEvictionsPerSlot; ++i) {
    const Evicted answer = evict_for(index, request, evicted);
    again = answer == Evicted::kAgain;
    if (answer != Evicted::kOne) return std::nullopt;
    if (const auto slot = slots.allocate(slot_bytes, kNoBlock, request.tenant)) return slot;
  }
  return std::nullopt;
}

bool DiskStore::trim_some(TenantNumber tenant, std::uint64_t now_ns, std::vector<DiskPlace>& evicted) {
  const RoomRequest request{.tenant = tenant, .now_ns = now_ns};
  const std::uint64_t cap = tenants_.cap(kDisk, tenant);
  std::uint64_t going = 0;  // charged until its headers are cleared
  for (int i = 0; i < kEvictionsPerSlot; ++i) {
    if (charged_bytes(tenant) <= cap + going) return false;
    const Evicted own = evict_own(0, request, evicted, true);
    if (own != Evicted::kOne) return own == Evicted::kAgain;
    const DiskPlace& place = evicted.back();
    const SlotTable& slots = *directories_[place.directory].slots;
    going += slots.slot_bytes(slots.extent_of(place.slot));
  }
  return true;
}

/// An extent of another size changes sides if this size has no block to give way, or if the other's coldest is worth
/// less than half of this one's (as in the host tier: two sizes that are used alike do not trade extents). Not one with
/// a block of a tenant that would fall below its guarantee.
void DiskStore::choose_extent_to_drain(Directory& directory, const RoomRequest& request) {
  static const TenantSet kNobody;
  SlotTable& slots = *directory.slots;
  const std::uint64_t slot_bytes = request.slot_bytes;
  const auto mine = victim_for(directory, size_of(directory, slot_bytes), request, kNobody);
  const double bound = mine ? mine->value / 2 : 2;
  ExtentId best = kNoExtent;
  double least = bound;
  for (std::uint32_t i = 0; i < std::min(kExtentsPerSearch, slots.extents()); ++i) {
    const ExtentId extent = (turn_++) % slots.extents();
    if (slots.slot_bytes(extent) == 0 || slots.slot_bytes(extent) == slot_bytes) continue;
    double sum = 0;
    std::uint32_t looked = 0;
    bool pinned = false;
    for (; looked < std::min(slots.slots(extent), kSlotsPerValue) && !pinned; ++looked) {
      const SlotId slot = slots.slot_at(extent, looked);
      pinned = slots.is_quarantined(slot) || (slots.is_used(slot) && slots.copy_pins(slot) > 0);
      if (!slots.is_used(slot) || slots.owner(slot) == kNoBlock) continue;
      const TenantNumber tenant = slots.tenant(slot);
      pinned = pinned || (tenant != request.tenant && !may_lose(tenant, slots.slot_bytes(extent)));
      sum += directory.policy->value(slot, request.now_ns);
    }
    const double mean = looked == 0 ? 0 : sum / looked;
    if (pinned || mean >= least) continue;
    least = mean;
    best = extent;
  }
  if (best == kNoExtent) return;
  slots.set_draining(best, true);
  directory.draining = best;
  directory.draining_for = slot_bytes;
  directory.draining_as = request.tenant;
}

/// Evicts what is in the extent that is drained, and before each block what continues it on disk. True: not done yet.
bool DiskStore::drain_some(std::uint32_t index, std::vector<DiskPlace>& evicted) {
  Directory& directory = directories_[index];
  SlotTable& slots = *directory.slots;
  const ExtentId extent = directory.draining;
  std::uint32_t budget = kSlice;
  for (std::uint32_t i = 0; i < slots.slots(extent) && slots.used_slots(extent) > 0 && budget > 0;) {
    const SlotId slot = slots.slot_at(extent, i);
    if (!slots.is_used(slot)) {
      ++i;
      continue;
    }
    if (directory.waiting[slot]) {
      --budget;
      evict_one_waiting(index, slot, evicted);
      continue;
    }
    BlockId id = slots.owner(slot);
    for (std::uint32_t left = kSlotsPerSlice; table_.children_in(id, kDisk) > 0 && left > 0;) {  // to a leaf
      BlockId child = table_.links(id).first_child;
      for (; !is_present(table_.state(child, kDisk)) && left > 0; --left) child = table_.links(child).next_sibling;
      if (left == 0) break;  // `id` has a child: it is not evictable
      id = child;
      --left;
    }
    --budget;
    const DiskPlace place = place_of(id);
    const SlotTable& its_slots = *directories_[place.directory].slots;
    const TenantNumber tenant = its_slots.tenant(place.slot);
    const std::uint64_t bytes = its_slots.slot_bytes(its_slots.extent_of(place.slot));
    const bool may = tenant == directory.draining_as || may_lose(tenant, bytes);
    if (!may || !evictable(directories_[place.directory], place.slot)) {
      slots.set_draining(extent, false);  // something in it is in use, or guaranteed: another time
      directory.draining = kNoExtent;
      return false;
    }
    evict(place.directory, place.slot, evicted);
  }
  if (slots.used_slots(extent) > 0) return true;
  slots.hand_over(extent, directory.draining_for);
  directory.draining = kNoExtent;
  return false;
}

}  // namespace tiercel
