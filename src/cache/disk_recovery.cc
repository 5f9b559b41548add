// What a directory of the disk tier tells the core: its file is open, blocks were found, all were, it is lost, its
// state changed. And the driver's turn.
//
// Indexing runs beside serving, on the drivers: headers come in table order, of a block whose parent has not come the
// place waits in `orphans_` (22 to 25 bytes), and its header is read again when that comes; what waits when all
// directories are indexed has lost its parent and is dropped. While a directory is not there, what waits may have its
// parent in it: it keeps its slot as long as there is other room, and is not served. At most index.blocks wait.
// A block below a deleted one (of the log, or deleted meanwhile) does not come back: the logs are forgotten when writes
// begin, so what could be below a deleted one does not wait beyond that. The core's lock is held for kSlice blocks.
#include "base/log.h"
#include "base/make_room.h"
#include "cache/core.h"
#include "tier/disk/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <new>
#include <utility>

namespace tiercel::detail {
namespace {

using disk::kEpochShift;

/// Slices of blocks that have waited for their parent, in one turn of a driver: about a millisecond.
constexpr int kSlicesPerTurn = 32;

}  // namespace

void DiskDirectory::on_opened(const Opened& opened) { core_.disk_opened(index_, opened); }
void DiskDirectory::on_found(std::span<const DiskBlock> blocks) { core_.disk_found(index_, blocks); }
bool DiskDirectory::go_on() { return core_.index_disk(index_); }
void DiskDirectory::on_recovered(const DiskRecovery& recovery) { core_.disk_recovered(index_, recovery); }
void DiskDirectory::on_lost() { core_.disk_lost(index_); }
void DiskDirectory::on_state(DiskState state, const std::string& cause) { core_.disk_changed(index_, state, cause); }

bool CacheCore::step_disk(std::size_t index, std::uint64_t wait_ns) {
  give_burials(static_cast<std::uint32_t>(index));
  return disks_[index]->tier().step(wait_ns);
}

void CacheCore::disk_without_driver(std::size_t index, const std::string& why) {
  disks_[index]->tier().give_up("the system gives no thread for it (" + why + "); the next start tries again");
}

bool CacheCore::disks_settled() {
  MutexLock lock(mutex_);
  return std::ranges::all_of(disk_progress_, &DiskProgress::settled);
}

// ---- opening

void CacheCore::disk_opened(std::uint32_t index, const DiskEvents::Opened& opened) {
  DiskStore::Shape shape = DiskStore::shape_of({.extents = opened.extents,
                                                .extent_bytes = opened.extent_bytes,
                                                .min_slot_bytes = opened.min_slot_bytes,
                                                .slot_bytes = opened.slot_bytes,
                                                .tenants = config_.limits.tenants + kFirstTenant});
  Burials waiting;
  {
    const MutexLock orphans_lock(orphans_mutex_);
    headers_[index] = {.read = opened.header, .prefetch = opened.prefetch_header};
  }
  {
    MutexLock lock(mutex_);
    disk_store_.open(index, shape);
    // What is found is served at once. Of the first start no change of state tells, for it begins as one; of a
    // directory that was off and comes back one will.
    disk_store_.set_serving(index, disks_[index]->tier().state() == DiskState::kStarting, false);
    note_reach();
    store_.raise_generation(opened.epoch << kEpochShift);
    DiskProgress& progress = disk_progress_[index];
    progress.opened = true;
    if (opened.discarded) progress.discard = false;
    progress.recovered = progress.settled = false;  // from here on deletes are remembered as they begin
    progress.opened_ns = clock().now_ns();
    progress.adopted_blocks = progress.adopted_bytes = 0;
    progress.first_generation = opened.epoch << kEpochShift;
    waiting.swap(progress.burials);
    // Deletes from before this boot's numbers were known cover all that earlier boots have written.
    for (const Tombstone& tombstone : deletes_under_way_) cover(tombstone, progress.first_generation - 1);
  }
  cover_waiting(waiting, (opened.epoch << kEpochShift) - 1);
  {
    MutexLock lock(mutex_);
    Burials& burials = disk_progress_[index].burials;  // none has begun: that is this thread's to do
    burials.splice(burials.begin(), waiting);
  }
  // The numbers of a cache of several directories go on from the highest that was seen: a delete must not cover what
  // is stored after it in a boot that begins with a lower one, because another directory is missing.
  for (std::size_t done = 0; done < opened.tombstones.size();) {
    MutexLock lock(mutex_);
    for (const std::size_t end = std::min(done + kSlice, opened.tombstones.size()); done < end; ++done) {
      store_.raise_generation(opened.tombstones[done].generation);
      cover(opened.tombstones[done], 0);
    }
  }
}

/// Of deletes that waited for the file.
void CacheCore::cover_waiting(Burials& waiting, std::uint64_t earlier) {
  for (auto next = waiting.begin(); next != waiting.end();) {
    MutexLock lock(mutex_);
    for (std::size_t done = 0; done < kSlice && next != waiting.end(); ++done, ++next) cover(next->tombstone, earlier);
  }
  for (Burial& burial : waiting) burial.slots.clear();  // of the file before; in this one they are free, or another's
}

/// What it covers, and all up to `at_least`, does not come back while a directory is indexed.
void CacheCore::cover(const Tombstone& tombstone, std::uint64_t at_least) {
  if (tombstone.kind == Tombstone::Kind::kTenant) {
    std::uint64_t& deleted = recovery_.deleted_tenants[tombstone.tenant];
    deleted = std::max({deleted, tombstone.generation, at_least});
    return;
  }
  auto& deleted = tombstone.kind == Tombstone::Kind::kBlock ? recovery_.deleted_blocks[tombstone.hash]
                                                            : recovery_.deleted_namespaces[tombstone.fingerprint];
  deleted = std::max({deleted, tombstone.generation, at_least});
  std::uint64_t& newest = recovery_.newest_deletes[tombstone.fingerprint];
  newest = std::max({newest, tombstone.generation, at_least});
}

/// A delete while a directory is being indexed: what it covers may still come.
void CacheCore::remember_delete(const Tombstone& tombstone) {
  if (std::ranges::all_of(disk_progress_, &DiskProgress::settled)) return;
  // Whatever is still to come was written before: it is covered, whichever directory numbered it.
  cover(tombstone, UINT64_MAX);
}

// ---- indexing

void CacheCore::disk_found(std::uint32_t index, std::span<const DiskBlock> blocks) {
  const MutexLock orphans_lock(orphans_mutex_);
  Found& found = found_[index];
  for (std::size_t done = 0; done < blocks.size();) {
    const auto slice = blocks.subspan(done, std::min(kSlice, blocks.size() - done));
    adopt_slice(index, slice, found);
    done += slice.size();
  }
  clear_replaced(found);
}

/// A block that many have waited for, each with its own behind it, may bring in half a file: that takes many turns,
/// between which the driver looks after its device, and other drivers have theirs.
bool CacheCore::index_disk(std::uint32_t index) {
  const MutexLock orphans_lock(orphans_mutex_);
  Found& found = found_[index];
  for (int slice = 0; slice < kSlicesPerTurn && !found.children.empty(); ++slice) adopt_children(found);
  clear_replaced(found);
  return !found.children.empty();
}

void CacheCore::clear_replaced(Found& found) {
  clear_places(found.replaced);
  found.replaced.clear();
}

void CacheCore::adopt_slice(std::uint32_t index, std::span<const DiskBlock> blocks, Found& found) {
  indexed_slices_.fetch_add(1, std::memory_order_relaxed);
  const std::uint64_t now = clock().now_ns();
  found.results.clear();
  make_room(found.replaced, blocks.size());
  {
    MutexLock lock(mutex_);
    for (const DiskBlock& block : blocks) {
      store_.table().prefetch(block.hash, block.group);
      orphans_.prefetch(block.hash);
    }
    for (const DiskBlock& block : blocks) {
      found.results.push_back(adopt_one(index, block, now, found.replaced));
      if (found.results.back() == Found::Result::kWaits) disk_store_.begin_waiting(index, block.slot);
    }
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const DiskBlock& block = blocks[i];
    if (found.results[i] == Found::Result::kWaits) {
      wait_for_parent(block.parent, {.directory = index, .slot = block.slot}, found);
      continue;
    }
    if (found.results[i] == Found::Result::kUnwanted) disks_[index]->tier().clear(block.slot);
    orphans_.take(block.hash, found.children);  // also of one that is known in a newer generation
  }
}

/// No more than index.blocks wait: so many can be in the index.
void CacheCore::wait_for_parent(const BlockHash& parent, WaitingPlace place, Found& found) {
  if (orphans_.size() < config_.index.blocks) {
    try {
      return orphans_.add(parent, place);
    } catch (const std::bad_alloc&) {
    }
  }
  ++orphans_refused_;
  make_room(found.replaced, 1);
  MutexLock lock(mutex_);
  if (const auto dropped = disk_store_.drop_waiting(place.directory, place.slot)) found.replaced.push_back(*dropped);
  disk_store_.count_orphans(1);
}

/// A slice of those that have waited for what has just come.
void CacheCore::adopt_children(Found& found) {
  indexed_slices_.fetch_add(1, std::memory_order_relaxed);
  struct Child {
    WaitingPlace place;
    DiskBlock block;
    Found::Result result = Found::Result::kGone;
  };
  std::array<Child, kSlice> children;
  std::size_t count = 0;
  for (; count < kSlice && !found.children.empty(); ++count) {
    const WaitingPlace place = children[count].place = found.children.back();
    if (const Headers& headers = headers_[place.directory]; headers.prefetch) headers.prefetch(place.slot);
    found.children.pop_back();
  }
  const std::uint64_t now = clock().now_ns();
  make_room(found.replaced, 2 * count);
  {
    MutexLock lock(mutex_);
    for (auto& [place, block, result] : std::span(children).first(count)) {
      // As long as it waits nobody writes its header: it is read under this lock.
      if (!disk_store_.end_waiting(place.directory, place.slot)) continue;
      result = Found::Result::kUnwanted;
      if (!headers_[place.directory].read(place.slot, block)) continue;
      result = Found::Result::kWaits;
      store_.table().prefetch(block.hash, block.group);
      disk_store_.prefetch(place.directory, place.slot);
      orphans_.prefetch(block.hash);
    }
    for (auto& [place, block, result] : std::span(children).first(count)) {
      if (result == Found::Result::kGone) continue;
      if (result == Found::Result::kWaits) result = adopt_one(place.directory, block, now, found.replaced);
      if (result != Found::Result::kAdopted) disk_store_.begin_waiting(place.directory, place.slot);
      if (result != Found::Result::kUnwanted) continue;
      if (const auto dropped = disk_store_.drop_waiting(place.directory, place.slot))
        found.replaced.push_back(*dropped);
    }
  }
  for (const auto& [place, block, result] : std::span(children).first(count)) {
    if (result == Found::Result::kWaits) {
      wait_for_parent(block.parent, place, found);
    } else if (result != Found::Result::kGone) {
      orphans_.take(block.hash, found.children);
    }
  }
}

CacheCore::Found::Result CacheCore::adopt_one(std::uint32_t index, const DiskBlock& block, std::uint64_t now_ns,
                                              std::vector<DiskPlace>& replaced) {
  store_.raise_generation(block.generation);
  if (disk_progress_[index].discard) return Found::Result::kUnwanted;  // deletes that cover it may be forgotten
  const bool first = block.parent == block.fingerprint;
  const TenantTable::Tenant owner{.id = block.owner, .name = {}};
  const BlockId parent =
      first ? store_.root_of(block.fingerprint, owner) : store_.table().find(block.parent, block.group);
  std::uint64_t covered = covered_by_name(block.parent);
  const bool known = parent != kNoBlock && store_.table().has_copy(parent) && vouches(parent, block);
  if (!first && !known && block.generation > covered) return Found::Result::kWaits;
  covered = std::max(covered, covered_by_name(block.hash));
  bool adopted = false;
  if (parent != kNoBlock && block.generation > std::max(covered, covered_with_namespace(block))) {
    std::optional<DiskPlace> old;
    adopted = disk_store_.adopt(index, block, parent, now_ns, old) == DiskStore::Adopted::kYes;
    if (old) replaced.push_back(*old);
    disk_progress_[index].adopted_blocks += adopted ? 1 : 0;
    disk_progress_[index].adopted_bytes += adopted ? block.length : 0;
  }
  if (covered > 0) {  // by name too: what continues it may come when it is gone, or was stored again
    std::uint64_t& below = recovery_.deleted_blocks[block.hash];
    below = std::max(below, covered);
  }
  return adopted ? Found::Result::kAdopted : Found::Result::kUnwanted;
}

/// Is it sure that nothing above the block was deleted, its parent being there? A parent that was stored again since
/// the delete says nothing: its header does, where it was read in this indexing (into a directory that is indexed
/// nothing is written), and so does an age that no delete in the namespace can cover.
bool CacheCore::vouches(BlockId parent, const DiskBlock& block) const {
  if (recovery_.deleted_blocks.empty()) return true;
  const auto newest = recovery_.newest_deletes.find(block.fingerprint);
  if (newest == recovery_.newest_deletes.end() || block.generation > newest->second) return true;
  return disk_store_.is_in_recovering(parent);
}

/// Up to which generation the block, or one before it, is deleted; 0: not.
std::uint64_t CacheCore::covered_by_name(const BlockHash& hash) const {
  if (recovery_.deleted_blocks.empty()) return 0;
  const auto found = recovery_.deleted_blocks.find(hash);
  return found == recovery_.deleted_blocks.end() ? 0 : found->second;
}

std::uint64_t CacheCore::covered_with_namespace(const DiskBlock& block) const {
  std::uint64_t covered = 0;
  if (!recovery_.deleted_namespaces.empty()) {
    const auto found = recovery_.deleted_namespaces.find(block.fingerprint);
    if (found != recovery_.deleted_namespaces.end()) covered = found->second;
  }
  if (!recovery_.deleted_tenants.empty()) {
    // A file without tenants in it: the session that opened the namespace has named it.
    const TenantId owner = block.owner.known() ? block.owner : store_.owner_of(block.fingerprint);
    const auto found = recovery_.deleted_tenants.find(owner);
    if (found != recovery_.deleted_tenants.end()) covered = std::max(covered, found->second);
  }
  return covered;
}

/// Headers first, then the slots may be used again.
void CacheCore::clear_places(std::span<const DiskPlace> places) {
  for (const DiskPlace& place : places) disks_[place.directory]->tier().clear(place.slot);
  release_places(places);
}

void CacheCore::disk_recovered(std::uint32_t index, const DiskRecovery& recovery) {
  const std::uint64_t now = clock().now_ns();
  for (std::size_t done = 0; done < recovery.coldest_first.size();) {
    indexed_slices_.fetch_add(1, std::memory_order_relaxed);
    MutexLock lock(mutex_);
    const std::size_t end = std::min(done + kSlice, recovery.coldest_first.size());
    for (; done < end; ++done) disk_store_.touch_slot(index, recovery.coldest_first[done], now);
  }
  {
    MutexLock lock(mutex_);
    DiskProgress& progress = disk_progress_[index];
    progress.recovery = recovery;
    progress.recovery.coldest_first.clear();
    progress.recovered = progress.settled = true;
    progress.indexed_ns = clock().now_ns();
  }
  log_line(LogLevel::kInfo, "disk_recovered",
           fmt::format("{}: {} blocks found, {} headers damaged, {} out of date; header table read in {:.2f} s",
                       disks_[index]->path(), recovery.headers, recovery.corrupt_headers,
                       recovery.stale_headers + recovery.buried_headers, static_cast<double>(recovery.table_ns) / 1e9));
  settle_disks();
}

/// Also of what was dropped for want of a parent the headers are on their way out then.
bool CacheCore::indexing_ended() const {
  for (std::uint32_t index = 0; index < disk_progress_.size(); ++index) {
    if (!disk_progress_[index].settled) return false;
    if (disk_progress_[index].recovered && disk_store_.is_recovering(index)) return false;
  }
  return true;
}

/// When every directory is indexed or known not to come for now: writes begin. What waits for its parent waits in vain
/// if all are indexed.
void CacheCore::settle_disks() {
  bool all_came = false;
  std::uint64_t epoch = 0;
  std::uint64_t orphans = 0;
  {
    const MutexLock orphans_lock(orphans_mutex_);
    Recovery ended;
    if (!disks_settled()) return;
    for (Found& found : found_) {  // of a directory that was lost amid it; what was deleted is still known
      while (!found.children.empty()) adopt_children(found);
      clear_replaced(found);
    }
    {
      MutexLock lock(mutex_);
      if (!std::ranges::all_of(disk_progress_, &DiskProgress::settled)) return;
      all_came = std::ranges::all_of(disk_progress_, &DiskProgress::recovered);
      epoch = store_.generation() >> kEpochShift;
      std::swap(ended, recovery_);
    }
    orphans = drop_orphans(all_came, ended);
    for (std::uint32_t index = 0; index < disks_.size(); ++index) {
      for (std::uint32_t cursor = 0;;) {
        indexed_slices_.fetch_add(1, std::memory_order_relaxed);
        MutexLock lock(mutex_);
        if (!disk_progress_[index].recovered || !disk_store_.is_recovering(index)) break;
        if (!disk_store_.end_recovery_some(index, cursor)) break;
      }
    }
  }
  for (const auto& disk : disks_) {
    disk->tier().forget_deletes(epoch);
    disk->tier().wake();  // deletes from before it was open have waited for this
  }
  if (orphans > 0) {
    log_line(LogLevel::kInfo, "disk_orphans",
             all_came
                 ? fmt::format("disk: {} blocks had lost the block before them and were dropped", orphans)
                 : fmt::format("disk: {} blocks were dropped: the block before them is not there, and was deleted, "
                               "or more wait for one than may",
                               orphans));
  }
  demote_cut_off();
  kick_trimming();  // a cap may be lower than in the run before
  wake();           // whoever waits for a warm start
}

/// Those that wait for their parent: all, or those that a delete may cover which the logs are about to forget (it may
/// have been of a block before them that nobody knows), and what is more than may wait. Answers how many.
std::uint64_t CacheCore::drop_orphans(bool all, const Recovery& ended) {
  const std::uint64_t most =
      environment_.most_waiting_blocks != 0 ? environment_.most_waiting_blocks : config_.index.blocks;
  std::uint64_t kept = 0;
  const auto unwanted = [&](const DiskBlock& block) {
    const auto newest = ended.newest_deletes.find(block.fingerprint);
    const auto tenant = ended.deleted_tenants.find(block.owner);
    return (newest != ended.newest_deletes.end() && block.generation <= newest->second) ||
           (tenant != ended.deleted_tenants.end() && block.generation <= tenant->second) || ++kept > most;
  };
  std::uint64_t dropped = std::exchange(orphans_refused_, 0);
  std::vector<DiskPlace> given_up;
  given_up.reserve(WaitingBlocks::kBatch);
  orphans_.sweep([&](std::span<const WaitingPlace> places, std::span<bool> gone) TIERCEL_NO_THREAD_SAFETY_ANALYSIS {
    indexed_slices_.fetch_add(1, std::memory_order_relaxed);
    given_up.clear();
    {
      MutexLock lock(mutex_);
      for (std::size_t i = 0; i < places.size(); ++i) {
        const auto [directory, slot] = places[i];
        DiskBlock block;
        gone[i] = !disk_store_.end_waiting(directory, slot);  // it was needed for another block
        if (gone[i]) continue;
        gone[i] = all || !headers_[directory].read(slot, block) || unwanted(block);
        disk_store_.begin_waiting(directory, slot);
        if (!gone[i]) continue;
        if (const auto place = disk_store_.drop_waiting(directory, slot)) given_up.push_back(*place);
      }
      disk_store_.count_orphans(given_up.size());
    }
    dropped += given_up.size();
    clear_places(given_up);
  });
  return dropped;
}

// ---- changes

/// Its file is lost or closed: nobody can read the headers any more, and their table may go.
void CacheCore::forget_waiting(std::uint32_t index) {
  const MutexLock orphans_lock(orphans_mutex_);
  headers_[index] = {};
  for (Found& found : found_) {
    std::erase_if(found.children, [&](const WaitingPlace& place) { return place.directory == index; });
  }
  orphans_.sweep([&](std::span<const WaitingPlace> places, std::span<bool> gone) {
    indexed_slices_.fetch_add(1, std::memory_order_relaxed);
    for (std::size_t i = 0; i < places.size(); ++i) gone[i] = places[i].directory == index;
  });
}

void CacheCore::disk_lost(std::uint32_t index) {
  forget_waiting(index);
  DiskStore::Shape gone;
  for (std::uint32_t cursor = 0;;) {
    indexed_slices_.fetch_add(1, std::memory_order_relaxed);
    MutexLock lock(mutex_);
    if (!disk_store_.lose_some(index, cursor, gone)) break;
  }
  {
    MutexLock lock(mutex_);
    disk_store_.set_serving(index, false, false);
    disk_progress_[index].opened = disk_progress_[index].recovered = false;
    disk_progress_[index].settled = true;
    note_reach();
  }
  settle_disks();
}

void CacheCore::disk_changed(std::uint32_t index, DiskState state, const std::string& cause) {
  if (state == DiskState::kClosed) forget_waiting(index);
  bool unsettled = false;
  {
    MutexLock lock(mutex_);
    DiskProgress& progress = disk_progress_[index];
    const bool reads = state == DiskState::kStarting || state == DiskState::kOn || state == DiskState::kReadOnly;
    disk_store_.set_serving(index, reads, state == DiskState::kOn);
    note_reach();
    progress.cause = cause;
    if (state == DiskState::kOn) progress.next_burial_ns = 0;
    // A directory that does not come up must not keep the others from being settled.
    unsettled = !progress.settled && !reads;
    if (unsettled) progress.settled = true;
  }
  if (unsettled) settle_disks();
  if (state == DiskState::kOn) demote_cut_off();
}

}  // namespace tiercel::detail
