// Slots whose blocks wait for the block before them: part of DiskStore.
#include "base/check.h"
#include "cache/disk_store.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kWaitingPerSlice = 16'384;  // of a walk over bits

}  // namespace

void DiskStore::count_waiting(Directory& directory, SlotId slot, bool waits) {
  const std::uint64_t slot_bytes = directory.slots->slot_bytes(directory.slots->extent_of(slot));
  std::uint32_t& count = directory.waiting_counts[size_of(directory, slot_bytes)];
  count = waits ? count + 1 : count - 1;
  directory.waiting_bytes = waits ? directory.waiting_bytes + slot_bytes : directory.waiting_bytes - slot_bytes;
  directory.waiting[slot] = waits;
}

void DiskStore::begin_waiting(std::uint32_t index, SlotId slot) {
  Directory& directory = directories_[index];
  TIERCEL_CHECK(!directory.waiting[slot] && directory.slots->owner(slot) == kNoBlock, "a slot waits for one block");
  count_waiting(directory, slot, true);
}

bool DiskStore::end_waiting(std::uint32_t index, SlotId slot) {
  Directory& directory = directories_[index];
  if (!directory.slots || !directory.waiting[slot]) return false;
  count_waiting(directory, slot, false);
  return true;
}

std::optional<DiskPlace> DiskStore::drop_waiting(std::uint32_t index, SlotId slot) {
  if (!end_waiting(index, slot)) return std::nullopt;
  Directory& directory = directories_[index];
  directory.slots->retain(slot);
  (void)directory.slots->give_back(slot);  // quarantined: the pin above
  return DiskPlace{.directory = index, .slot = slot, .incarnation = directory.incarnation};
}

void DiskStore::evict_one_waiting(std::uint32_t index, SlotId slot, std::vector<DiskPlace>& evicted) {
  Directory& directory = directories_[index];
  (void)end_waiting(index, slot);
  ++counters_.orphaned_blocks;
  (void)directory.slots->give_back(slot);
  evicted.push_back({.directory = index, .slot = slot, .incarnation = directory.incarnation});
}

/// What waits for its parent gives way before what is served. `again`: the search goes on in the next slice.
void DiskStore::evict_waiting(std::uint32_t index, std::uint64_t slot_bytes, bool& again,
                              std::vector<DiskPlace>& evicted) {
  Directory& directory = directories_[index];
  const SlotTable& slots = *directory.slots;
  again = directory.waiting_counts[size_of(directory, slot_bytes)] > 0;
  for (std::uint32_t looked = 0; again && looked < kWaitingPerSlice; ++looked) {
    const SlotId slot = directory.waiting_cursor;
    directory.waiting_cursor = slot + 1 == slots.slot_ids() ? 0 : slot + 1;
    if (!directory.waiting[slot] || slots.slot_bytes(slots.extent_of(slot)) != slot_bytes) continue;
    evict_one_waiting(index, slot, evicted);
    again = false;
  }
}

}  // namespace tiercel
