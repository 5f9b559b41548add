#include "cache/disk_store.h"

#include "base/check.h"
#include "policy/lru.h"

#include <algorithm>
#include <utility>

namespace tiercel {
namespace {

constexpr TierId kDisk = TierId::kDisk;
constexpr TierId kHost = TierId::kHost;
constexpr std::uint32_t kSlotsPerSlice = DiskStore::kWorthPerSlice;  // of walks that only look
constexpr std::uint32_t kMovedPerSlice = 64;

}  // namespace

DiskStore::DiskStore(BlockTable& table, TenantTable& tenants, std::uint32_t directories)
    : table_(table), tenants_(tenants), directories_(directories) {
  for (Directory& directory : directories_) directory.lists = TenantLists(tenants.numbers());
}

// ---- directories

DiskStore::Shape DiskStore::shape_of(const Geometry& geometry) {
  Shape shape{.slots = std::make_unique<SlotTable>(SlotTable::Options{.extents = geometry.extents,
                                                                      .extent_bytes = geometry.extent_bytes,
                                                                      .min_slot_bytes = geometry.min_slot_bytes,
                                                                      .tenants = geometry.tenants}),
              .policy = nullptr,
              .waiting = {}};
  shape.slots->restore(geometry.slot_bytes);
  shape.waiting.resize(shape.slots->slot_ids());
  shape.policy = std::make_unique<LruPolicy>(geometry.extents * (geometry.extent_bytes / geometry.min_slot_bytes));
  return shape;
}

void DiskStore::open(std::uint32_t index, Shape& shape) {
  Directory& directory = directories_[index];
  TIERCEL_CHECK(!directory.slots, "a directory is lost before it is opened again");
  const SlotTable::Options& options = shape.slots->options();
  const auto span = static_cast<std::uint32_t>(options.extents * (options.extent_bytes / options.min_slot_bytes));
  if (directory.span < span) {  // first opened, or grown since: numbers are never shared
    TIERCEL_CHECK(span < UINT32_MAX - next_base_, "slots over all directories fit 32 bits");
    directory.base = std::exchange(next_base_, next_base_ + span);
    directory.span = span;
  }
  directory.slots = std::move(shape.slots);
  directory.policy = std::move(shape.policy);
  directory.waiting.swap(shape.waiting);
  directory.waiting_counts.clear();
  directory.waiting_bytes = 0;
  directory.waiting_cursor = 0;
  directory.lists.clear();
  directory.search = {};
  directory.incarnation = ++incarnations_;
  directory.recovering = true;
  directory.draining = kNoExtent;
}

bool DiskStore::end_recovery_some(std::uint32_t index, std::uint32_t& cursor) {
  Directory& directory = directories_[index];
  SlotTable& slots = *directory.slots;
  const std::uint32_t end = std::min(cursor + kSlotsPerSlice, slots.slot_ids());
  for (; cursor < end; ++cursor) {
    const bool unowned = slots.is_used(cursor) && slots.owner(cursor) == kNoBlock;
    if (unowned && !directory.waiting[cursor]) (void)slots.give_back(cursor);
  }
  if (cursor < slots.slot_ids()) return true;
  directory.recovering = false;
  return false;
}

bool DiskStore::lose_some(std::uint32_t index, std::uint32_t& cursor, Shape& gone) {
  Directory& directory = directories_[index];
  if (!directory.slots) return false;
  directory.recovering = true;  // nothing new comes in
  SlotTable& slots = *directory.slots;
  const std::uint32_t end = std::min(cursor + kSlotsPerSlice, slots.slot_ids());
  for (; cursor < end; ++cursor) {
    if (!slots.is_used(cursor)) continue;
    if (const BlockId id = slots.owner(cursor); id != kNoBlock) {
      ++counters_.lost_blocks;
      detach(id);
      table_.erase_if_unused(id);
    }
    (void)slots.give_back(cursor);
  }
  if (cursor < slots.slot_ids()) return true;
  // What is still read or written keeps its slot: the table waits for the last of them.
  if (slots.quarantined_slots() > 0)
    old_.push_back({.incarnation = directory.incarnation, .slots = std::move(directory.slots)});
  gone = {.slots = std::move(directory.slots),
          .policy = std::move(directory.policy),
          .waiting = std::exchange(directory.waiting, {})};
  return false;
}

void DiskStore::set_serving(std::uint32_t directory, bool reads, bool writes) noexcept {
  directories_[directory].reads = reads;
  directories_[directory].writes = writes;
}

DiskPlace DiskStore::place_of(BlockId id) const noexcept {
  const std::uint32_t number = table_.slot(id, kDisk);
  for (std::uint32_t i = 0; i < directories_.size(); ++i) {
    const Directory& directory = directories_[i];
    if (number >= directory.base && number - directory.base < directory.span) {
      return {.directory = i, .slot = number - directory.base, .incarnation = directory.incarnation};
    }
  }
  TIERCEL_CHECK(false, "a copy lies in a directory");
  return {};
}

DiskStore::Reach DiskStore::reach() const noexcept {
  bool any = false;
  bool all = true;
  for (const Directory& directory : directories_) {
    if (!directory.slots) continue;
    any = any || directory.reads;
    all = all && directory.reads;
  }
  if (!any) return Reach::kNone;
  return all ? Reach::kAll : Reach::kSome;
}

bool DiskStore::takes_writes() const noexcept {
  return std::ranges::any_of(directories_, [](const Directory& directory) {
    return directory.slots && directory.writes && !directory.recovering;
  });
}

bool DiskStore::serves(BlockId id) const noexcept {
  return is_readable(table_.state(id, kDisk)) && directories_[place_of(id).directory].reads;
}

bool DiskStore::is_in_recovering(BlockId id) const noexcept {
  return is_present(table_.state(id, kDisk)) && is_recovering(place_of(id).directory);
}

// ---- recovery

DiskStore::Adopted DiskStore::adopt(std::uint32_t index, const DiskBlock& block, BlockId parent, std::uint64_t now_ns,
                                    std::optional<DiskPlace>& replaced) {
  Directory& directory = directories_[index];
  BlockId id = table_.find(block.hash, block.group);
  if (id != kNoBlock && table_.has_copy(id)) {
    const bool only_disk = is_readable(table_.state(id, kDisk)) && !is_present(table_.state(id, kHost));
    if (!only_disk || table_[id].generation >= block.generation) return Adopted::kKnown;
    replaced = give_up(id);
    if (!replaced) return Adopted::kKnown;
    id = table_.find(block.hash, block.group);  // it may have gone with its copy
  }
  const TenantNumber tenant = table_.tenant(parent);
  const PolicyList list = list_of(directory, block.slot_bytes, tenant);  // first: it may run out of memory
  if (id == kNoBlock) id = table_.insert(block.hash, block.group, parent);
  if (id == kNoBlock) return Adopted::kNoRoom;
  table_.set_generation(id, block.generation);
  table_.set_checksum(id, block.checksum);
  table_.set_state(id, kDisk, CopyState::kFilling);
  table_.set_slot(id, kDisk, number_of({.directory = index, .slot = block.slot}));
  directory.slots->set_owner(block.slot, id);
  directory.slots->set_length(block.slot, block.length);
  directory.slots->set_tenant(block.slot, tenant);
  table_.set_state(id, kDisk, CopyState::kReady);
  directory.policy->insert(block.slot, list, now_ns);
  ++counters_.ready_blocks;
  ++counters_.adopted_blocks;
  return Adopted::kYes;
}

// ---- writes

bool DiskStore::parent_allows(BlockId id) const noexcept {
  const BlockId parent = table_[id].parent;
  return table_[parent].is_root || is_present(table_.state(parent, kDisk));
}

DiskStore::Begun DiskStore::begin_write(BlockId id, std::uint64_t slot_bytes, std::uint64_t now_ns, DiskCopy& copy,
                                        std::vector<DiskPlace>& evicted) {
  if (is_present(table_.state(id, kDisk)) || !is_readable(table_.state(id, kHost))) return Begun::kThere;
  if (!parent_allows(id)) return Begun::kNoParent;
  // Where nothing may go in one directory (it is all used, or guaranteed to others), the next is asked.
  std::optional<SlotId> slot;
  std::uint32_t index = UINT32_MAX;
  bool again = false;
  for (std::uint64_t without = 0; !slot; without |= std::uint64_t{1} << index) {
    const std::size_t evicted_before = evicted.size();
    index = choose_directory(slot_bytes, without);
    if (index == UINT32_MAX) return Begun::kNoRoom;
    const RoomRequest request{.slot_bytes = std::max(slot_bytes, directories_[index].slots->options().min_slot_bytes),
                              .tenant = table_.tenant(id),
                              .now_ns = now_ns};
    slot = take_slot(index, request, again, evicted);
    if (!slot && (again || evicted.size() > evicted_before)) return again ? Begun::kAgain : Begun::kNoRoom;
  }
  SlotTable& slots = *directories_[index].slots;
  if (!parent_allows(id)) {  // its copy went for the room
    (void)slots.give_back(*slot);
    return Begun::kNoParent;
  }
  copy = {.id = id,
          .generation = table_[id].generation,
          .place = {.directory = index, .slot = *slot, .incarnation = directories_[index].incarnation},
          .slot_bytes = slots.slot_bytes(slots.extent_of(*slot))};
  table_.set_state(id, kDisk, CopyState::kFilling);
  table_.set_slot(id, kDisk, number_of(copy.place));
  slots.set_owner(*slot, id);
  slots.retain(*slot);
  return Begun::kYes;
}

bool DiskStore::finish_write(const DiskCopy& copy, bool written, std::uint64_t now_ns) {
  Directory& directory = directories_[copy.place.directory];
  const bool ours = directory.slots && directory.incarnation == copy.place.incarnation && table_[copy.id].in_use &&
                    table_[copy.id].generation == copy.generation &&
                    table_.state(copy.id, kDisk) == CopyState::kFilling &&
                    table_.slot(copy.id, kDisk) == number_of(copy.place);
  if (ours && written) {
    directory.slots->set_length(copy.place.slot, copy.length);
    table_.set_state(copy.id, kDisk, CopyState::kReady);
    const TenantNumber tenant = directory.slots->tenant(copy.place.slot);
    directory.policy->insert(copy.place.slot, list_of(directory, copy.slot_bytes, tenant), now_ns);
    tenants_.count_stored(kDisk, tenant, copy.length);
    ++counters_.ready_blocks;
    ++counters_.stored_blocks;
    counters_.stored_bytes += copy.length;
  } else if (ours) {
    detach(copy.id);
    (void)directory.slots->give_back(copy.place.slot);
    table_.erase_if_unused(copy.id);
  }
  release(copy.place);
  return ours && written;
}

// ---- reads

std::optional<DiskCopy> DiskStore::hold(BlockId id) {
  if (!is_readable(table_.state(id, kDisk))) return std::nullopt;
  const DiskPlace place = place_of(id);
  Directory& directory = directories_[place.directory];
  if (!directory.reads) return std::nullopt;
  directory.slots->retain(place.slot);
  return DiskCopy{.id = id,
                  .generation = table_[id].generation,
                  .place = place,
                  .slot_bytes = directory.slots->slot_bytes(directory.slots->extent_of(place.slot)),
                  .length = directory.slots->length(place.slot),
                  .checksum = table_.links(id).checksum};
}

void DiskStore::release(DiskPlace place) {
  Directory& directory = directories_[place.directory];
  if (directory.slots && directory.incarnation == place.incarnation) {
    if (directory.slots->release(place.slot)) directory.slots->collect(place.slot);
    return;
  }
  const auto old = std::ranges::find(old_, place.incarnation, &Old::incarnation);
  TIERCEL_CHECK(old != old_.end(), "a slot with a copy pin lies in a table that waits for it");
  if (old->slots->release(place.slot)) old->slots->collect(place.slot);
  if (old->slots->quarantined_slots() > 0) return;
  spent_.push_back(std::move(old->slots));
  old_.erase(old);
}

void DiskStore::touch(BlockId id, std::uint64_t now_ns) {
  if (!is_readable(table_.state(id, kDisk))) return;
  const DiskPlace place = place_of(id);
  directories_[place.directory].policy->touch(std::span(&place.slot, 1), now_ns);
}

void DiskStore::touch_slot(std::uint32_t index, SlotId slot, std::uint64_t now_ns) {
  Directory& directory = directories_[index];
  if (!directory.slots || slot >= directory.slots->slot_ids() || !directory.policy->knows(slot)) return;
  directory.policy->touch(std::span(&slot, 1), now_ns);
}

// ---- what goes

void DiskStore::detach(BlockId id) {
  const DiskPlace place = place_of(id);
  Directory& directory = directories_[place.directory];
  if (is_readable(table_.state(id, kDisk))) --counters_.ready_blocks;
  directory.policy->erase(place.slot);
  directory.slots->set_owner(place.slot, kNoBlock);
  table_.set_state(id, kDisk, CopyState::kAbsent);
  table_.set_slot(id, kDisk, kNoSlot);
}

std::optional<DiskPlace> DiskStore::give_up(BlockId id) {
  if (!is_readable(table_.state(id, kDisk))) return std::nullopt;
  return drop(id);
}

std::optional<DiskPlace> DiskStore::drop(BlockId id) {
  if (!is_present(table_.state(id, kDisk))) return std::nullopt;
  const DiskPlace place = place_of(id);
  SlotTable& slots = *directories_[place.directory].slots;
  slots.retain(place.slot);
  detach(id);
  (void)slots.give_back(place.slot);  // quarantined: the pin above
  table_.erase_if_unused(id);
  return place;
}

bool DiskStore::list_worth_some(std::uint32_t index, std::uint32_t& cursor, std::uint64_t now_ns,
                                std::vector<Worth>& worth) const {
  const Directory& directory = directories_[index];
  if (!directory.slots) return false;
  const std::uint32_t end = std::min(cursor + kSlotsPerSlice, directory.slots->slot_ids());
  for (; cursor < end; ++cursor) {
    if (!directory.policy->knows(cursor)) continue;
    worth.push_back({.slot = cursor, .value = directory.policy->value(cursor, now_ns)});
  }
  return cursor < directory.slots->slot_ids();
}

bool DiskStore::charge_claimed_some(Cursor& cursor, std::uint64_t now_ns) {
  std::uint32_t left = kSlotsPerSlice;
  for (; cursor.directory < directories_.size(); ++cursor.directory, cursor.slot = 0) {
    Directory& directory = directories_[cursor.directory];
    if (!directory.slots) continue;
    SlotTable& slots = *directory.slots;
    for (; cursor.slot < slots.slot_ids(); ++cursor.slot) {
      if (left-- == 0) return true;
      const SlotId slot = cursor.slot;
      if (!slots.is_used(slot) || slots.tenant(slot) != kNoTenant || slots.owner(slot) == kNoBlock) continue;
      const TenantNumber tenant = table_.tenant(slots.owner(slot));
      if (tenant == kNoTenant) continue;
      // First: it may run out of memory.
      const PolicyList list = list_of(directory, slots.slot_bytes(slots.extent_of(slot)), tenant);
      slots.set_tenant(slot, tenant);
      if (!directory.policy->knows(slot)) continue;  // it is being written
      directory.policy->erase(slot);
      directory.policy->insert(slot, list, now_ns);
      left -= std::min(left, kSlotsPerSlice / kMovedPerSlice);
    }
  }
  return false;
}

void DiskStore::check_consistency() const {
  std::uint64_t ready = 0;
  for (std::uint32_t index = 0; index < directories_.size(); ++index) {
    const Directory& directory = directories_[index];
    if (!directory.slots) continue;
    directory.slots->check_consistency();
    for (SlotId slot = 0; slot < directory.slots->slot_ids(); ++slot) {
      if (!directory.slots->is_used(slot)) continue;
      const BlockId id = directory.slots->owner(slot);
      TIERCEL_CHECK(!directory.waiting[slot] || id == kNoBlock, "what waits for its parent is no block yet");
      if (id == kNoBlock) continue;  // found by nothing yet
      TIERCEL_CHECK(table_[id].in_use && is_present(table_.state(id, kDisk)), "a used slot's block is on disk");
      TIERCEL_CHECK(table_.slot(id, kDisk) == number_of({.directory = index, .slot = slot}), "block and slot agree");
      const TenantNumber tenant = directory.slots->tenant(slot);
      TIERCEL_CHECK(tenant == table_.tenant(id) || tenant == kNoTenant, "a block is charged to its tenant, or nobody");
      const bool is_ready = is_readable(table_.state(id, kDisk));
      TIERCEL_CHECK(directory.policy->knows(slot) == is_ready, "the policy knows what is ready");
      ready += is_ready ? 1U : 0U;
    }
  }
  TIERCEL_CHECK(ready == counters_.ready_blocks, "gauges agree with the slots");
}

}  // namespace tiercel
