// Room in the host tier: whose block goes, in which slice; part of HostStore.
//
// A reserve, a promotion and a hand-over search alike: a tenant at its cap gives up its own (evict_own), else
// choose_victim says whose coldest goes (evict_for), and that tenant's list is searched to its end before another's.
// Each question, each entry that a cascade frees and each look at another tenant counts as work of the slice.
#include "base/check.h"
#include "cache/host_store.h"

#include <algorithm>
#include <utility>

namespace tiercel {
namespace {

constexpr TierId kHost = TierId::kHost;
constexpr std::uint32_t kLooksPerStep = 8;  // at the coldest block of a tenant: mostly cached, as they recur

}  // namespace

bool HostStore::evictable(BlockId id) const noexcept {
  const BlockEntry& entry = table_[id];
  return table_.state(id, kHost) == CopyState::kReady && entry.logical_pins == 0 && table_.can_lose(id, kHost) &&
         slots_.copy_pins(table_.slot(id, kHost)) == 0;
}

void HostStore::add_slot_size(std::uint64_t slot_bytes) {
  slots_.add_size(slot_bytes);
  (void)lists_.add(slot_bytes);
}

std::uint64_t HostStore::slot_bytes_of(BlockId id) const noexcept {
  return slots_.slot_bytes(slots_.extent_of(table_.slot(id, kHost)));
}

/// Of a block with a slot here, which its tenant was charged for when the list was made.
PolicyList HostStore::list_of(BlockId id) const noexcept {
  const SlotId slot = table_.slot(id, kHost);
  return lists_.list(lists_.size_of(slot_bytes_of(id)), slots_.tenant(slot));
}

/// Takes the copy out of entry and policy and gives its slot back; the entry may be gone afterwards, and ancestors with
/// it. Answers how many entries went.
int HostStore::give_up_copy(BlockId id) {
  const SlotId slot = table_.slot(id, kHost);
  if (is_readable(table_.state(id, kHost))) --counters_.ready_blocks;
  if (table_.state(id, kHost) == CopyState::kFilling) filling_bytes_ -= slot_bytes_of(id);
  end_pins(id);
  policy_->erase(id);
  table_.set_state(id, kHost, CopyState::kAbsent);
  table_.set_slot(id, kHost, kNoSlot);
  if (demotions_ != nullptr) demotions_->remove(slot);
  (void)slots_.give_back(slot);
  return table_.erase_if_unused(id);
}

void HostStore::begin_slice(RoomSearch& room) {
  room.in_slice = kStepsPerSlice - table_.collect(kCollectPerSlice);
  room.spent = false;
}

/// False: no block of the list may go (as far as the bound of the search lets us know), or the slice is spent.
bool HostStore::evict_one(PolicyList list, RoomSearch& room) {
  if (std::exchange(room.list, list) != list) room.asked = 0;
  while (room.left > 0 && room.asked < policy_->asks_for_all(list)) {
    room.spent = room.in_slice <= 0;
    if (room.spent) return false;
    std::uint64_t asked = 0;
    const auto victim = policy_->victim(list, [&](BlockId id) {
      ++asked;
      return evictable(id);
    });
    asked = std::max<std::uint64_t>(asked, 1);
    room.asked += asked;
    room.left -= std::min(room.left, asked);
    room.in_slice -= static_cast<std::int64_t>(asked);
    if (!victim) continue;
    ++counters_.evicted_blocks;
    const SlotId slot = table_.slot(*victim, kHost);
    counters_.evicted_bytes += slots_.length(slot);
    tenants_.count_evicted(kHost, slots_.tenant(slot), slots_.length(slot));
    room.in_slice -= give_up_copy(*victim);
    room.asked = 0;
    return true;
  }
  room.asked = 0;
  return false;
}

/// Lists take their turn: each is searched to its end before the next. Tenants within their guarantee lose nothing.
bool HostStore::evict_for_entry(TenantNumber tenant, RoomSearch& room) {
  const std::uint64_t before = table_.entries();
  room.in_slice -= table_.collect(kCollectPerSlice);
  const std::size_t lists = lists_.pairs().size();
  for (int evictions = 0; table_.entries() == before && room.entry_done < lists && evictions < kEvictionsPerFill;) {
    const auto list = static_cast<PolicyList>(entry_list_ % lists);
    const TenantLists::Pair pair = lists_.pairs()[list];
    room.spent = --room.in_slice <= 0;
    if (room.spent || room.left == 0) return false;
    --room.left;
    const bool may = pair.tenant == tenant || may_lose(pair.tenant, lists_.slot_bytes(pair.size));
    if (may && evict_one(list, room)) {
      ++evictions;  // an entry with a copy elsewhere or a child stays
      room.entry_done = 0;
    } else if (room.spent) {
      return false;
    } else {
      ++room.entry_done;
      ++entry_list_;
    }
  }
  return table_.entries() < before;
}

bool HostStore::may_lose(TenantNumber tenant, std::uint64_t bytes) const noexcept {
  return slots_.charged_bytes(tenant) >= tenants_.guarantee(kHost, tenant) + bytes;
}

std::optional<Victim> HostStore::victim_for(std::size_t size, const RoomRequest& request,
                                            const TenantSet& exhausted) const {
  const std::uint64_t bytes = lists_.slot_bytes(size);
  return choose_victim({.policy = *policy_,
                        .lists = lists_.lists(size),
                        .tenant = request.tenant,
                        .within_guarantee = slots_.charged_bytes(request.tenant) + request.slot_bytes <=
                                            tenants_.guarantee(kHost, request.tenant),
                        .tenants = tenants_.used_numbers(),
                        .may_lose = [&](TenantNumber tenant) { return may_lose(tenant, bytes); },
                        .exhausted = exhausted,
                        .now_ns = request.now_ns},
                       victim_turn_);
}

/// Is the coldest block of some other size worth less than half of this size's coldest? Then an extent should change
/// sides; the factor keeps two sizes that are used alike from trading extents back and forth.
bool HostStore::others_are_colder(const RoomRequest& request) const {
  static const TenantSet kNobody;
  const std::size_t size = lists_.size_of(request.slot_bytes);
  const auto mine = victim_for(size, request, kNobody);
  if (!mine) return true;
  for (std::size_t other = 0; other < lists_.sizes(); ++other) {
    if (other == size) continue;
    const auto theirs = victim_for(other, request, kNobody);
    if (theirs && 2 * theirs->value < mine->value) return true;
  }
  return false;
}

/// Evicts a block of one slot size, whosever may go. False: nobody's (as far as the bound of the search lets us know),
/// or the slice is spent.
bool HostStore::evict_for(std::size_t size, const RoomRequest& request, RoomSearch& room) {
  while (room.left > 0) {
    if (!room.has_victim) {
      room.in_slice -= 1 + std::min(tenants_.used_numbers(), kMostLooked) / kLooksPerStep;
      const auto victim = victim_for(size, request, room.exhausted);
      if (!victim) return false;
      room.victim = victim->tenant;
      room.has_victim = true;
    }
    const bool may = room.victim == request.tenant || may_lose(room.victim, lists_.slot_bytes(size));
    const PolicyList list = lists_.list(size, room.victim);
    if (may && list != TenantLists::kNone && evict_one(list, room)) {
      room.has_victim = false;
      return true;
    }
    if (room.spent) return false;
    room.exhausted.set(room.victim);
    room.has_victim = false;
  }
  return false;
}

/// Evicts a block of the tenant itself, of whatever slot size: its coldest size first, each searched to its end.
bool HostStore::evict_own(const RoomRequest& request, RoomSearch& room) {
  const std::size_t sizes = lists_.sizes();
  if (!std::exchange(room.own_begun, true)) {
    double coldest = 2;  // values are at most 1
    room.own_done = 0;
    for (std::size_t size = 0; size < sizes; ++size) {
      const PolicyList list = lists_.list(size, request.tenant);
      const auto block = list == TenantLists::kNone ? std::nullopt : policy_->coldest(list);
      if (!block || policy_->value(*block, request.now_ns) >= coldest) continue;
      coldest = policy_->value(*block, request.now_ns);
      room.own_first = size;
    }
  }
  for (; room.own_done < sizes && room.left > 0; ++room.own_done) {
    const PolicyList list = lists_.list((room.own_first + room.own_done) % sizes, request.tenant);
    if (list == TenantLists::kNone) continue;
    if (evict_one(list, room)) {
      room.own_begun = false;
      return true;
    }
    if (room.spent) return false;
  }
  return false;
}

std::optional<SlotId> HostStore::take_slot(const RoomRequest& request, RoomSearch& room) {
  if (slots_.withheld()) return std::nullopt;  // of an arena that others may still write into
  const TenantNumber tenant = request.tenant;
  const std::uint64_t bytes = request.slot_bytes;
  const std::size_t size = lists_.size_of(bytes);
  (void)lists_.make(size, tenant, *policy_);  // before anything changes; known already, where prepare() was called
  while (slots_.charged_bytes(tenant) + bytes > tenants_.cap(kHost, tenant)) {
    if (room.evicted >= kEvictionsPerFill || !evict_own(request, room)) return std::nullopt;
    ++room.evicted;
  }
  if (const auto slot = slots_.allocate(bytes, kNoBlock, tenant)) return slot;
  const bool idle = draining_ == kNoExtent && wanted_slot_bytes_ == 0;
  if (idle && others_are_colder(request)) wanted_slot_bytes_ = bytes;
  for (; room.evicted < kEvictionsPerFill && evict_for(size, request, room); ++room.evicted) {
    if (const auto slot = slots_.allocate(bytes, kNoBlock, tenant)) return slot;
  }
  if (!room.spent && draining_ == kNoExtent) wanted_slot_bytes_ = bytes;
  return std::nullopt;
}

bool HostStore::trim_some(TenantNumber tenant, std::uint64_t now_ns, RoomSearch& room) {
  begin_slice(room);
  const RoomRequest request{.slot_bytes = 0, .tenant = tenant, .now_ns = now_ns};
  while (is_above_cap(tenant)) {
    if (!evict_own(request, room)) return room.spent;
  }
  return false;
}

}  // namespace tiercel
