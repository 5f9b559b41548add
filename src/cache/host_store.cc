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
      tenants_(std::move(parts.tenants)),
      lists_(tenants_.numbers()),
      max_filling_bytes_(parts.max_filling_bytes) {}

// ---- namespaces

BlockId HostStore::find_root(const BlockHash& fingerprint) const {
  const auto found = roots_.find(fingerprint);
  return found == roots_.end() ? kNoBlock : found->second.id;
}

BlockId HostStore::root_of(const BlockHash& fingerprint, const TenantTable::Tenant& tenant) {
  if (const BlockId known = find_root(fingerprint); known != kNoBlock) {
    claim(fingerprint, tenant);
    return known;
  }
  if (roots_.size() >= max_namespaces_ && !erase_empty_root()) return kNoBlock;
  TenantNumber number = number_of(tenant);  // first, as the place in the map: they may run out of memory
  // Where all numbers are taken, a namespace without blocks gives way: its tenant may hold nothing else.
  if (number == kOtherTenants && erase_empty_root()) number = number_of(tenant);
  const auto place = roots_.emplace(fingerprint, Root{.id = kNoBlock, .owner = tenant.id}).first;
  BlockId root = table_.insert_root(fingerprint, number);
  RoomSearch room{.left = kStepsPerSlice, .in_slice = kStepsPerSlice};
  if (root == kNoBlock && evict_for_entry(number, room)) root = table_.insert_root(fingerprint, number);
  if (root == kNoBlock) {
    roots_.erase(place);
    return kNoBlock;
  }
  tenants_.add_namespace(number);
  table_.set_generation(root, ++generation_);  // so that a delete in slices knows it from the root before it
  place->second.id = root;
  return root;
}

TenantNumber HostStore::number_of(const TenantTable::Tenant& tenant) {
  if (!tenant.id.known()) return kNoTenant;
  return tenants_.admit(tenant, [this](TenantNumber number) { return holds_nothing(number); });
}

bool HostStore::holds_nothing(TenantNumber tenant) const noexcept {
  return slots_.charged_bytes(tenant) == 0 && (disk_ == nullptr || disk_->charged_bytes(tenant) == 0);
}

void HostStore::claim(const BlockHash& fingerprint, const TenantTable::Tenant& tenant) {
  const auto found = roots_.find(fingerprint);
  if (found == roots_.end() || !tenant.id.known()) return;
  Root& root = found->second;
  if (!is_unclaimed(root.id)) return;
  const TenantNumber before = table_.tenant(root.id);
  const TenantNumber number = number_of(tenant);
  root.owner = tenant.id;
  if (number == before) return;  // it has a name now
  tenants_.remove_namespace(before);
  tenants_.add_namespace(number);
  table_.set_tenant(root.id, number);
  claimed_ = true;
}

TenantId HostStore::owner_of(const BlockHash& fingerprint) const {
  const auto found = roots_.find(fingerprint);
  return found == roots_.end() ? TenantId() : found->second.owner;
}

bool HostStore::list_namespaces(const TenantId& tenant, std::optional<BlockHash>& after,
                                std::vector<BlockHash>& found) const {
  auto at = after ? roots_.upper_bound(*after) : roots_.begin();
  for (std::size_t looked = 0; at != roots_.end() && looked < kNamespacesPerSlice; ++at, ++looked) {
    after = at->first;
    if (at->second.owner == tenant) found.push_back(at->first);
  }
  return at != roots_.end();
}

/// Looks at kRootsPerSearch namespaces from where the last call ended; erases the first that has no blocks.
bool HostStore::erase_empty_root() {
  if (roots_.empty()) return false;
  auto at = roots_.lower_bound(next_root_);
  for (int i = 0; i < kRootsPerSearch; ++i, ++at) {
    if (at == roots_.end()) at = roots_.begin();
    if (table_.links(at->second.id).first_child != kNoBlock) continue;
    next_root_ = at->first;
    tenants_.remove_namespace(table_.tenant(at->second.id));
    table_.erase_root(at->second.id);
    roots_.erase(at);
    return true;
  }
  next_root_ = at == roots_.end() ? BlockHash{} : at->first;
  return false;
}

std::size_t HostStore::roots_after(const BlockHash& after, std::span<BlockHash> into) const {
  std::size_t count = 0;
  for (auto at = roots_.upper_bound(after); at != roots_.end() && count < into.size(); ++at) into[count++] = at->first;
  return count;
}

// ---- stores

std::optional<Reserved> HostStore::begin_fill(const FillRequest& request, Fill& fill, RoomSearch& room) {
  BlockId id = table_.find(request.hash, request.group);
  fill = {.id = id};
  const BlockId parent = request.parent;
  if (id != kNoBlock && parent != kNoBlock && table_.root_of(id) != table_.root_of(parent)) return Reserved::kNoParent;
  if (id != kNoBlock && is_present(table_.state(id, kHost))) {
    return is_readable(table_.state(id, kHost)) ? Reserved::kExists : Reserved::kInFlight;
  }
  if (parent == kNoBlock || (!table_[parent].is_root && !table_.has_copy(parent))) return Reserved::kNoParent;
  if (filling_bytes_ + request.slot_bytes > max_filling_bytes_) return Reserved::kBusy;
  // Making room evicts leaves and frees stubs: the parent and the stub of this block must not be among them.
  // Where no further pin fits, those that are there guard it.
  const bool guard_id = id != kNoBlock && table_.pin(id);
  const bool guard_parent = !table_[parent].is_root && table_.pin(parent);
  const TenantNumber tenant = table_.tenant(parent);
  const std::optional<SlotId> slot =
      take_slot({.slot_bytes = request.slot_bytes, .tenant = tenant, .now_ns = request.now_ns}, room);
  BlockId fresh = kNoBlock;
  if (slot && id == kNoBlock) {
    fresh = table_.insert(request.hash, request.group, parent);
    if (fresh == kNoBlock && evict_for_entry(tenant, room)) fresh = table_.insert(request.hash, request.group, parent);
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
  const auto slot = take_slot({.slot_bytes = slot_bytes, .tenant = table_.tenant(id), .now_ns = now_ns}, room);
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
  policy_->insert(fill.id, list_of(fill.id), now_ns);
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
  policy_->insert(fill.id, list_of(fill.id), now_ns);
  ++counters_.stored_blocks;
  counters_.stored_bytes += length;
  tenants_.count_stored(kHost, slots_.tenant(fill.slot), length);
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
                   .checksum = table_.links(id).checksum,
                   .tenant = slots_.tenant(slot)};
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
  const TenantNumber tenant = slots_.tenant(table_.slot(id, kHost));
  if (first && pinned_bytes_ + bytes > max_pinned_bytes_) return PinOutcome::kLimit;
  if (first && tenants_.pinned_bytes(tenant) + bytes > tenants_.pinned_cap(tenant)) return PinOutcome::kTenantLimit;
  if (!table_.pin(id)) return PinOutcome::kLimit;
  if (first) count_pinned(id, true);
  name = {.id = id, .generation = table_[id].generation};
  return PinOutcome::kPinned;
}

void HostStore::unpin(BlockName name) {
  if (!is(name) || table_[name.id].logical_pins == 0) return;  // deleted meanwhile, and its pins with it
  if (table_[name.id].logical_pins == 1) count_pinned(name.id, false);
  table_.unpin(name.id);
}

void HostStore::end_pins(BlockId id) {
  if (table_[id].logical_pins == 0) return;
  if (is_readable(table_.state(id, kHost))) count_pinned(id, false);
  table_.clear_pins(id);
}

void HostStore::count_pinned(BlockId id, bool pinned) noexcept {
  const std::uint64_t bytes = slot_bytes_of(id);
  std::uint64_t& of_tenant = tenants_.pinned_bytes(slots_.tenant(table_.slot(id, kHost)));
  pinned_bytes_ = pinned ? pinned_bytes_ + bytes : pinned_bytes_ - bytes;
  of_tenant = pinned ? of_tenant + bytes : of_tenant - bytes;
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
    if (in_host) work.done.bytes += slot_bytes_of(name.id);
    if (const auto place = disk_ == nullptr ? std::nullopt : disk_->drop(name.id)) {
      const SlotTable& slots = *disk_->slots(place->directory);
      work.done.bytes += slots.slot_bytes(slots.extent_of(place->slot));
      work.places.push_back(*place);
    }
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
  std::uint64_t pinned = 0;
  for (std::uint32_t tenant = 0; tenant < tenants_.numbers(); ++tenant) {
    pinned += tenants_.pinned_bytes(static_cast<TenantNumber>(tenant));
  }
  TIERCEL_CHECK(pinned == pinned_bytes_, "every pinned byte is one tenant's");
  for (SlotId slot = 0; slot < slots_.slot_ids(); ++slot) {
    if (!slots_.is_used(slot) || slots_.owner(slot) == kNoBlock) continue;
    TIERCEL_CHECK(slots_.tenant(slot) == table_.tenant(slots_.owner(slot)), "a block is charged to its tenant");
  }
}

}  // namespace tiercel
