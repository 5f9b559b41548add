#include "cache/host_store.h"

#include "base/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace tiercel {

namespace {
constexpr TierId kHost = TierId::kHost;
}  // namespace

HostStore::HostStore(Parts parts)
    : table_(std::move(parts.table)),
      slots_(parts.slots),
      policy_(std::move(parts.policy)),
      max_namespaces_(parts.max_namespaces),
      max_pinned_bytes_(parts.max_pinned_bytes),
      max_filling_bytes_(parts.max_filling_bytes) {}

// ---- namespaces

BlockId HostStore::find_root(const BlockHash& fingerprint) const {
  const auto found = roots_.find(fingerprint);
  return found == roots_.end() ? kNoBlock : found->second;
}

BlockId HostStore::root_of(const BlockHash& fingerprint) {
  if (const BlockId known = find_root(fingerprint); known != kNoBlock) return known;
  if (roots_.size() >= max_namespaces_ && !erase_empty_root()) return kNoBlock;
  const auto place = roots_.emplace(fingerprint, kNoBlock).first;  // first: it may run out of memory
  BlockId root = table_.insert_root(fingerprint);
  RoomSearch room{.left = kStepsPerSlice, .in_slice = kStepsPerSlice};
  if (root == kNoBlock && evict_for_entry(room)) root = table_.insert_root(fingerprint);
  if (root == kNoBlock) {
    roots_.erase(place);
    return kNoBlock;
  }
  table_.set_generation(root, ++generation_);  // so that a delete in slices knows it from the root before it
  place->second = root;
  return root;
}

/// Looks at kRootsPerSearch namespaces from where the last call ended; erases the first that has no blocks.
bool HostStore::erase_empty_root() {
  auto at = roots_.lower_bound(next_root_);
  for (int i = 0; i < kRootsPerSearch; ++i, ++at) {
    if (at == roots_.end()) at = roots_.begin();
    if (table_.links(at->second).first_child != kNoBlock) continue;
    next_root_ = at->first;
    table_.erase_root(at->second);
    roots_.erase(at);
    return true;
  }
  next_root_ = at == roots_.end() ? BlockHash{} : at->first;
  return false;
}

// ---- room

bool HostStore::evictable(BlockId id) const noexcept {
  const BlockEntry& entry = table_[id];
  return table_.state(id, kHost) == CopyState::kReady && entry.logical_pins == 0 && table_.can_lose(id, kHost) &&
         slots_.copy_pins(table_.slot(id, kHost)) == 0;
}

void HostStore::add_slot_size(std::uint64_t slot_bytes) {
  if (std::ranges::find(list_slot_bytes_, slot_bytes) != list_slot_bytes_.end()) return;
  slots_.add_size(slot_bytes);
  policy_->add_list(static_cast<PolicyList>(list_slot_bytes_.size()));
  list_slot_bytes_.push_back(slot_bytes);
}

PolicyList HostStore::list_of(std::uint64_t slot_bytes) const {
  const auto found = std::ranges::find(list_slot_bytes_, slot_bytes);
  TIERCEL_CHECK(found != list_slot_bytes_.end(), "a slot size is added before it is used");
  return static_cast<PolicyList>(std::distance(list_slot_bytes_.begin(), found));
}

std::uint64_t HostStore::slot_bytes_of(BlockId id) const noexcept {
  return slots_.slot_bytes(slots_.extent_of(table_.slot(id, kHost)));
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
    counters_.evicted_bytes += slots_.length(table_.slot(*victim, kHost));
    room.in_slice -= give_up_copy(*victim);
    room.asked = 0;
    return true;
  }
  room.asked = 0;
  return false;
}

/// Lists take their turn: each is searched to its end before the next.
bool HostStore::evict_for_entry(RoomSearch& room) {
  const std::uint64_t before = table_.entries();
  room.in_slice -= table_.collect(kCollectPerSlice);
  const std::size_t lists = list_slot_bytes_.size();
  int evictions = 0;
  for (std::size_t done = 0; table_.entries() == before && done < lists && evictions < kEvictionsPerFill;) {
    if (evict_one(static_cast<PolicyList>(entry_list_ % lists), room)) {
      ++evictions;  // an entry with a copy elsewhere or a child stays
    } else if (room.spent) {
      return false;
    } else {
      ++done;
      ++entry_list_;
    }
  }
  return table_.entries() < before;
}

/// Is the coldest block of some other size worth less than half of this size's coldest? Then an extent should change
/// sides; the factor keeps two sizes that are used alike from trading extents back and forth.
bool HostStore::others_are_colder(PolicyList list, std::uint64_t now_ns) const {
  const auto mine = policy_->coldest(list);
  if (!mine) return true;
  for (std::size_t other = 0; other < list_slot_bytes_.size(); ++other) {
    const auto theirs = policy_->coldest(static_cast<PolicyList>(other));
    if (other != list && theirs && 2 * policy_->value(*theirs, now_ns) < policy_->value(*mine, now_ns)) return true;
  }
  return false;
}

std::optional<SlotId> HostStore::take_slot(std::uint64_t slot_bytes, std::uint64_t now_ns, RoomSearch& room) {
  if (slots_.withheld()) return std::nullopt;
  if (const auto slot = slots_.allocate(slot_bytes, kNoBlock)) return slot;
  const PolicyList list = list_of(slot_bytes);
  const bool idle = draining_ == kNoExtent && wanted_slot_bytes_ == 0;
  if (idle && others_are_colder(list, now_ns)) wanted_slot_bytes_ = slot_bytes;
  for (; room.evicted < kEvictionsPerFill && evict_one(list, room); ++room.evicted) {
    if (const auto slot = slots_.allocate(slot_bytes, kNoBlock)) return slot;
  }
  if (!room.spent && draining_ == kNoExtent) wanted_slot_bytes_ = slot_bytes;
  return std::nullopt;
}

// ---- stores

std::optional<Reserved> HostStore::begin_fill(const FillRequest& request, Fill& fill, RoomSearch& room) {
  BlockId id = table_.find(request.hash, request.group);
  fill = {.id = id};
  if (id != kNoBlock && is_present(table_.state(id, kHost))) {
    return is_readable(table_.state(id, kHost)) ? Reserved::kExists : Reserved::kInFlight;
  }
  const BlockId parent = request.parent;
  if (parent == kNoBlock || (!table_[parent].is_root && !table_.has_copy(parent))) return Reserved::kNoParent;
  if (filling_bytes_ + request.slot_bytes > max_filling_bytes_) return Reserved::kBusy;
  // Making room evicts leaves and frees stubs: the parent and the stub of this block must not be among them.
  // Where no further pin fits, those that are there guard it.
  const bool guard_id = id != kNoBlock && table_.pin(id);
  const bool guard_parent = !table_[parent].is_root && table_.pin(parent);
  const std::optional<SlotId> slot = take_slot(request.slot_bytes, request.now_ns, room);
  BlockId fresh = kNoBlock;
  if (slot && id == kNoBlock) {
    fresh = table_.insert(request.hash, request.group, parent);
    if (fresh == kNoBlock && evict_for_entry(room)) fresh = table_.insert(request.hash, request.group, parent);
  }
  if (guard_parent) table_.unpin(parent);
  if (guard_id) table_.unpin(id);
  if (slot && id == kNoBlock && fresh == kNoBlock) (void)slots_.give_back(*slot);
  if (fresh != kNoBlock) id = fresh;
  if (!slot || id == kNoBlock) {
    if (id != kNoBlock) table_.erase_if_unused(id);  // its last child may have gone while room was made
    if (room.spent) return std::nullopt;
    return Reserved::kBusy;
  }

  room.evicted = 0;
  table_.set_state(id, kHost, CopyState::kFilling);
  table_.set_slot(id, kHost, *slot);
  table_.set_generation(id, ++generation_);
  table_.set_checksum(id, 0);
  slots_.set_owner(*slot, id);
  slots_.retain(*slot);
  filling_bytes_ += slot_bytes_of(id);
  fill = {.id = id, .generation = generation_, .slot = *slot};
  return Reserved::kYes;
}

std::optional<Reserved> HostStore::begin_promotion(BlockId id, std::uint64_t slot_bytes, std::uint64_t now_ns,
                                                   Fill& fill, RoomSearch& room) {
  fill = {.id = id};
  if (is_present(table_.state(id, kHost))) {
    return is_readable(table_.state(id, kHost)) ? Reserved::kExists : Reserved::kInFlight;
  }
  const auto slot = take_slot(slot_bytes, now_ns, room);
  if (!slot) {
    if (room.spent) return std::nullopt;
    return Reserved::kBusy;
  }
  room.evicted = 0;
  table_.set_state(id, kHost, CopyState::kLoading);
  table_.set_slot(id, kHost, *slot);
  slots_.set_owner(*slot, id);
  slots_.retain(*slot);
  fill = {.id = id, .generation = table_[id].generation, .slot = *slot};
  return Reserved::kYes;
}

bool HostStore::finish_promotion(const Fill& fill, std::uint32_t length, bool loaded, std::uint64_t now_ns) {
  const bool ours = is({fill.id, fill.generation}) && table_.state(fill.id, kHost) == CopyState::kLoading &&
                    table_.slot(fill.id, kHost) == fill.slot;
  if (!ours) return false;
  if (!loaded) {
    give_up_copy(fill.id);
    return false;
  }
  slots_.set_length(fill.slot, length);
  table_.set_state(fill.id, kHost, CopyState::kReady);
  policy_->insert(fill.id, list_of(slot_bytes_of(fill.id)), now_ns);
  ++counters_.ready_blocks;
  ++counters_.promoted_blocks;
  counters_.promoted_bytes += length;
  return true;
}

void HostStore::release_and_collect(SlotId slot) {
  if (slots_.release(slot)) slots_.collect(slot);
}

Status HostStore::commit(const Fill& fill, std::uint32_t length, bool verify, std::uint64_t now_ns) {
  if (!is({fill.id, fill.generation}) || table_.state(fill.id, kHost) != CopyState::kFilling) {
    release_and_collect(fill.slot);
    return fail(ErrorCode::kDropped, "the block was deleted while it was being written");
  }
  const BlockId parent = table_[fill.id].parent;
  if (!table_[parent].is_root && !table_.has_copy(parent)) {
    abort(fill);
    return fail(ErrorCode::kNoParent,
                "the block before this one was given up or deleted; nothing could reach this one");
  }
  slots_.set_length(fill.slot, length);
  filling_bytes_ -= slot_bytes_of(fill.id);
  table_.set_state(fill.id, kHost, verify ? CopyState::kVerifying : CopyState::kReady);
  policy_->insert(fill.id, list_of(slot_bytes_of(fill.id)), now_ns);
  ++counters_.stored_blocks;
  counters_.stored_bytes += length;
  if (!verify) ++counters_.ready_blocks;
  release_and_collect(fill.slot);
  return {};
}

bool HostStore::finish_verify(BlockName name, std::uint64_t checksum) {
  if (!is(name) || table_.state(name.id, kHost) != CopyState::kVerifying) return false;
  table_.set_checksum(name.id, checksum);
  table_.set_state(name.id, kHost, CopyState::kReady);
  ++counters_.ready_blocks;
  return true;
}

void HostStore::abandon(const Fill& fill) {
  if (!is({fill.id, fill.generation}) || table_.state(fill.id, kHost) != CopyState::kFilling) return;
  ++counters_.aborted_blocks;
  give_up_copy(fill.id);
}

void HostStore::abort(const Fill& fill) {
  const bool ours = is({fill.id, fill.generation}) && table_.state(fill.id, kHost) == CopyState::kFilling;
  release_and_collect(fill.slot);
  if (ours) abandon(fill);
}

// ---- loads

std::optional<HeldBlock> HostStore::hold(const BlockHash& hash, GroupId group) {
  const BlockId id = table_.find(hash, group);
  return id == kNoBlock ? std::nullopt : hold(id);
}

std::optional<HeldBlock> HostStore::hold(BlockId id) {
  if (!is_readable(table_.state(id, kHost))) return std::nullopt;
  const SlotId slot = table_.slot(id, kHost);
  slots_.retain(slot);
  return HeldBlock{.id = id,
                   .generation = table_[id].generation,
                   .slot = slot,
                   .length = slots_.length(slot),
                   .checksum = table_.links(id).checksum};
}

void HostStore::touch(std::span<const BlockName> tail_first, std::uint64_t now_ns) {
  for (const BlockName& name : tail_first) {
    if (is(name)) policy_->touch(std::span(&name.id, 1), now_ns);
  }
}

void HostStore::drop_corrupt(BlockName name) {
  if (!is(name) || !is_readable(table_.state(name.id, kHost))) return;
  give_up_copy(name.id);
}

// ---- logical pins

HostStore::PinOutcome HostStore::pin(const BlockHash& hash, GroupId group, BlockName& name) {
  const BlockId id = table_.find(hash, group);
  if (id == kNoBlock || !is_readable(table_.state(id, kHost))) return PinOutcome::kMiss;
  const bool first = table_[id].logical_pins == 0;
  const std::uint64_t bytes = slot_bytes_of(id);
  if (first && pinned_bytes_ + bytes > max_pinned_bytes_) return PinOutcome::kLimit;
  if (!table_.pin(id)) return PinOutcome::kLimit;
  if (first) pinned_bytes_ += bytes;
  name = {.id = id, .generation = table_[id].generation};
  return PinOutcome::kPinned;
}

void HostStore::unpin(BlockName name) {
  if (!is(name) || table_[name.id].logical_pins == 0) return;  // deleted meanwhile, and its pins with it
  if (table_[name.id].logical_pins == 1) pinned_bytes_ -= slot_bytes_of(name.id);
  table_.unpin(name.id);
}

void HostStore::end_pins(BlockId id) {
  if (table_[id].logical_pins == 0) return;
  if (is_readable(table_.state(id, kHost))) pinned_bytes_ -= slot_bytes_of(id);
  table_.clear_pins(id);
}

// ---- deletes

void HostStore::begin_drop(BlockId top, DropWork& work) const {
  const BlockName name{.id = top, .generation = table_[top].generation};
  (table_[top].is_root ? work.children_of : work.pending.emplace_back()) = name;
}

/// Puts children of work.children_of on the stack, at most `budget` of them; a sibling list can be long. If the child
/// where the last slice ended is gone, the list is read again: a block on the stack twice is dropped once.
void HostStore::list_children(DropWork& work, int& budget) const {
  const BlockName parent = work.children_of;
  BlockId child = kNoBlock;
  if (is(parent)) {
    const bool goes_on = work.after.id != kNoBlock && is(work.after) && table_[work.after.id].parent == parent.id;
    child = goes_on ? table_.links(work.after.id).next_sibling : table_.links(parent.id).first_child;
  }
  for (; child != kNoBlock && budget > 0; --budget, child = table_.links(child).next_sibling) {
    work.after = {.id = child, .generation = table_[child].generation};
    work.pending.push_back(work.after);
  }
  if (child == kNoBlock) work.children_of = work.after = {};
}

bool HostStore::drop_some(DropWork& work, int limit) {
  TIERCEL_CHECK(work.pending.capacity() - work.pending.size() >= static_cast<std::size_t>(limit),
                "nothing is allocated under the writer's lock");
  int budget = limit;
  while (budget > 0) {
    if (work.children_of.id != kNoBlock) {
      list_children(work, budget);
      continue;
    }
    if (work.pending.empty()) break;
    --budget;
    const BlockName name = work.pending.back();
    work.pending.pop_back();
    if (!is(name)) continue;
    work.children_of = name;
    if (!table_.has_copy(name.id)) continue;  // a stub goes with its last child
    const bool in_host = is_present(table_.state(name.id, kHost));
    ++work.done.blocks;
    ++counters_.dropped_blocks;
    if (const auto place = disk_ == nullptr ? std::nullopt : disk_->drop(name.id)) work.places.push_back(*place);
    if (!in_host) continue;
    const SlotId slot = table_.slot(name.id, kHost);
    budget -= give_up_copy(name.id);
    if (slots_.is_quarantined(slot)) ++work.done.pending;
  }
  if (budget > 0) (void)table_.collect(budget);
  return work.pending.empty() && work.children_of.id == kNoBlock && !table_.has_cut_cascades();
}

void HostStore::check_consistency() const {
  table_.check_consistency();
  slots_.check_consistency();
}

}  // namespace tiercel
