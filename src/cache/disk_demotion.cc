// Blocks on their way down: committed blocks of the host tier are written to disk in the order in which they were
// stored, parents first.
//
// One task at a time takes a slice off the queue: under the lock it pins the host slots and takes disk slots (evicting
// where it must), then, without it, takes the checksums and hands the writes to the tiers. What is under way holds at
// most limits.demote_percent of the arena; where that is used up, or a tier is busy, the next write that ends goes on.
// Bytes: one checksum over the slot, one write from it. A block lets its parent go first where that is queued too, and
// waits once more (its checksum may be on its way); then it is left out: what a restart finds must be runs from the
// root.
#include "base/check.h"
#include "cache/core.h"
#include "model/block_checksum.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

namespace tiercel::detail {
namespace {
constexpr std::size_t kPerSlice = 4;      // each may have evicted some tens of blocks for its slot
constexpr std::size_t kEvictedMost = 64;  // by one begin_write
constexpr SlotId kLookedAt = 128;         // slots a lock hold, of a walk that only looks
}  // namespace

struct CacheCore::Demotion {
  HeldBlock block;
  DiskCopy copy;
  BlockHash fingerprint;
  TenantId owner;
  BlockHash hash;
  BlockHash parent;
  CopyPin pin;
  Budget::Units bytes;
};

/// Of a block that was stored or used. One that continues on disk (what was found there waited for it) is written
/// whatever admission says: it can leave the arena only when it has a copy below.
void CacheCore::consider_demotion(BlockId id) {
  if (disks_.empty()) return;
  const BlockEntry& entry = store_.table()[id];
  if (is_present(store_.table().state(id, TierId::kDisk)) || !is_readable(store_.table().state(id, TierId::kHost))) {
    return;
  }
  const bool wanted = admission_->admit(entry.hash) || store_.table().children_in(id, TierId::kDisk) > 0;
  if (!wanted) return counters_.demotions_not_admitted.add();
  demotions_.push(store_.table().slot(id, TierId::kHost));
}

/// A use keeps the copy on disk young.
void CacheCore::touch_disk(std::span<const BlockName> used, std::uint64_t now_ns) {
  if (disks_.empty()) return;
  for (const BlockName& name : used) {
    if (store_.knows(name)) disk_store_.touch(name.id, now_ns);
  }
}

/// A use gives a block that has no copy on disk another chance. Parents first, as they are to be written.
void CacheCore::reconsider_demotions(std::span<const BlockName> tail_first) noexcept {
  if (disks_.empty()) return;
  for (std::size_t left = tail_first.size(); left > 0;) {
    MutexLock lock(mutex_);
    for (const std::size_t end = left - std::min(left, kSlice); left > end; --left) {
      if (store_.knows(tail_first[left - 1])) consider_demotion(tail_first[left - 1].id);
    }
  }
  kick_demotion();
}

void CacheCore::reconsider_demotions(std::span<const BlockHash> head_first) noexcept {
  if (disks_.empty()) return;
  for (std::size_t done = 0; done < head_first.size();) {
    MutexLock lock(mutex_);
    for (const std::size_t end = std::min(done + kSlice, head_first.size()); done < end; ++done) {
      if (const BlockId id = store_.table().find(head_first[done], 0); id != kNoBlock) consider_demotion(id);
    }
  }
  kick_demotion();
}

/// All such blocks: their copies were lost with a directory, or could not be written while a directory was off.
void CacheCore::demote_cut_off() noexcept {
  for (SlotId slot = 0, slots = slot_ids(); slot < slots;) {
    MutexLock lock(mutex_);
    for (const SlotId end = std::min(slot + kLookedAt, slots); slot < end; ++slot) {
      if (!store_.slots().is_used(slot)) continue;
      const BlockId id{store_.slots().owner(slot)};
      if (id == kNoBlock || store_.table().children_in(id, TierId::kDisk) == 0) continue;
      const bool alone =
          is_readable(store_.table().state(id, TierId::kHost)) && !is_present(store_.table().state(id, TierId::kDisk));
      if (alone) demotions_.push(slot);
    }
  }
  kick_demotion();
}

void CacheCore::kick_demotion() noexcept {
  if (disks_.empty()) return;
  {
    MutexLock lock(mutex_);
    if (demotions_.empty() || !disk_store_.takes_writes()) return;
    demote_again_ = demoting_;  // the task that is at it may have looked already at what has changed
    if (demoting_) return;
    demoting_ = true;
  }
  bool taken = false;
  try {
    taken = submit([self = shared_from_this()] { self->run_demotion(); });
  } catch (const std::bad_alloc&) {
  }
  if (taken) return;
  MutexLock lock(mutex_);
  demoting_ = false;  // the next commit, use or end of a write asks again
}

void CacheCore::run_demotion() noexcept {
  bool again = true;
  bool refused = false;
  try {
    std::vector<Demotion> work;
    std::vector<DiskPlace> evicted;
    work.reserve(kPerSlice);
    evicted.reserve(kPerSlice * kEvictedMost);
    take_demotions(work, evicted, again);
    for (const DiskPlace& place : evicted) disks_[place.directory]->tier().clear(place.slot);
    for (Demotion& demotion : work) refused = !write_demotion(demotion) || refused;
  } catch (const std::bad_alloc&) {
    refused = true;
  }
  bool asked = false;
  {
    MutexLock lock(mutex_);
    demoting_ = false;
    asked = std::exchange(demote_again_, false);
  }
  if (asked || (again && !refused)) kick_demotion();
}

/// `again`: there is more to do at once.
void CacheCore::take_demotions(std::vector<Demotion>& work, std::vector<DiskPlace>& evicted, bool& again) {
  const std::uint64_t now = clock().now_ns();
  again = false;
  MutexLock lock(mutex_);
  for (std::size_t looked = 0; looked < kSlice && work.size() < kPerSlice && !demotions_.empty(); ++looked) {
    const SlotId slot = demotions_.front();
    const auto held = store_.hold(BlockId{store_.slots().owner(slot)});  // it leaves the queue with its copy
    TIERCEL_CHECK(held && held->slot == slot, "what is queued for the disk is a block of the host tier");
    const std::uint64_t slot_bytes = store_.slots().slot_bytes(store_.slots().extent_of(held->slot));
    Budget::Units bytes = demoting_bytes_.take(slot_bytes);
    DiskCopy copy;
    const DiskStore::Begun begun =
        bytes ? disk_store_.begin_write(held->id, slot_bytes, now, copy, evicted) : DiskStore::Begun::kAgain;
    if (begun != DiskStore::Begun::kYes) store_.release_pin(held->slot);
    if (!bytes) return;  // the end of a write goes on
    if (begun == DiskStore::Begun::kAgain) {
      again = true;
      return;
    }
    if (begun == DiskStore::Begun::kNoParent) {
      // Its parent goes first; where that has been sent to the end, this goes behind it. So a queue in any order is
      // done in as many looks as it has blocks, and again as many for second turns.
      const BlockId above = store_.table()[held->id].parent;
      const SlotId parent = store_.table().slot(above, TierId::kHost);
      if (demotions_.holds(parent) && !demotions_.had_another_turn(parent)) {
        demotions_.bring_forward(parent);
        continue;
      }
      // One that was not admitted, or whose write failed, is asked for by what continues it.
      const bool there = is_readable(store_.table().state(above, TierId::kHost));
      if (there && !demotions_.holds(parent) && demotions_.bring_in(parent)) continue;
      if (demotions_.give_another_turn()) continue;
      if (demotions_.holds(parent)) {
        demotions_.rotate();
        continue;
      }
    }
    demotions_.remove(slot);
    if (begun != DiskStore::Begun::kYes) {
      if (begun != DiskStore::Begun::kThere) counters_.demotions_refused.add();
      continue;
    }
    copy.length = held->length;
    copy_pins_.fetch_add(1);
    ++writes_in_flight_;
    const BlockTable& table = store_.table();
    work.push_back({.block = *held,
                    .copy = copy,
                    .fingerprint = table[table[held->id].space].hash,
                    .owner = store_.owner_of(table[table[held->id].space].hash),
                    .hash = table[held->id].hash,
                    .parent = table[table[held->id].parent].hash,
                    .pin = adopt_pin(held->slot),
                    .bytes = std::move(bytes)});
  }
  again = !demotions_.empty();
}

/// False: the tier has no room now.
bool CacheCore::write_demotion(Demotion& work) {
  const std::uint64_t started_ns = clock().now_ns();
  const BlockIdentity identity{.fingerprint = work.fingerprint, .hash = work.hash, .generation = work.block.generation};
  work.copy.checksum = block_checksum(identity, {data(work.block.slot), work.block.length});
  bool corrupt = false;
  {
    MutexLock lock(mutex_);
    const BlockName name{.id = work.block.id, .generation = work.block.generation};
    // A checksum that was taken at commit must still hold; else the memory changed, and the disk must not get it.
    corrupt = work.block.checksum != 0 && work.block.checksum != work.copy.checksum;
    if (!corrupt && store_.knows(name)) store_.set_checksum(name, work.copy.checksum);
  }
  if (corrupt) {
    drop_corrupt({.id = work.block.id, .generation = work.block.generation});
    end_write(work.copy, started_ns, fail(ErrorCode::kCorrupt, "the block changed in memory"));
    return true;
  }
  struct Owner {
    CopyPin pin;
    Budget::Units bytes;
  };
  DiskSubmit answer = DiskSubmit::kBusy;
  bool begun = false;
  try {
    DiskWrite job{.block = {.fingerprint = work.fingerprint,
                            .owner = work.owner,
                            .hash = work.hash,
                            .parent = work.parent,
                            .group = 0,
                            .slot = work.copy.place.slot,
                            .slot_bytes = work.copy.slot_bytes,
                            .length = work.block.length,
                            .checksum = work.copy.checksum,
                            .generation = work.block.generation},
                  .from = data(work.block.slot),
                  .done =
                      [self = shared_from_this(), copy = work.copy, started_ns](const Status& status) {
                        self->planning_.end_io(copy.length);
                        self->end_write(copy, started_ns, status);
                      },
                  .owner = std::make_shared<Owner>(Owner{.pin = std::move(work.pin), .bytes = std::move(work.bytes)})};
    planning_.begin_io(work.copy.length);
    begun = true;
    answer = disks_[work.copy.place.directory]->tier().write(std::move(job));
  } catch (const std::bad_alloc&) {
  }
  if (answer == DiskSubmit::kTaken) return true;
  if (begun) planning_.drop_io(work.copy.length);
  {
    MutexLock lock(mutex_);
    (void)disk_store_.finish_write(work.copy, false, clock().now_ns());
    --writes_in_flight_;
    // Also one that was moved meanwhile is asked for again.
    if (store_.knows({.id = work.block.id, .generation = work.block.generation}) &&
        is_readable(store_.table().state(work.block.id, TierId::kHost))) {
      demotions_.push(store_.table().slot(work.block.id, TierId::kHost));
    }
  }
  return false;
}

void CacheCore::end_write(const DiskCopy& copy, std::uint64_t started_ns, const Status& status) noexcept {
  {
    MutexLock lock(mutex_);
    (void)disk_store_.finish_write(copy, status.has_value(), clock().now_ns());
    --writes_in_flight_;
  }
  if (status) {
    counters_.demotion_latency.add(clock().now_ns() - started_ns);
  } else {
    counters_.demotions_failed.add();
  }
  kick_demotion();
  if (closed_.load()) wake();
}

}  // namespace tiercel::detail
