// Deletes: in index and memory in slices; on disk a tombstone in the log of every directory, and the headers and bytes
// of what lay there.
//
// A delete returns when each directory has synced its log and overwritten its slots, or at disk.io_deadline: then it
// says how much is pending, and the rest is tried until it is done (in this process: what a crash takes before a
// directory could be reached was never called gone). A slot keeps its copy pin until it is buried.
//
// What waits for a directory is bounded (Environment::most_waiting_deletes). Where more come, the deletes are forgotten
// and with them all that the directory holds: its file is made anew before anything of it is served again. That costs
// its blocks, and nothing that was deleted comes back.
#include "base/log.h"
#include "base/make_room.h"
#include "cache/core.h"

#include <fmt/format.h>

#include <algorithm>
#include <list>
#include <new>
#include <optional>
#include <utility>

namespace tiercel::detail {
namespace {

constexpr std::size_t kBurialsPerTurn = 128;  // entries of a list, each of which may be a miss of the processor's cache

}  // namespace

/// One delete, from its beginning until its burials wait for the directories. Where it does not come so far (no
/// memory), it is as if it had not been called, but for the blocks that are gone already.
class CacheCore::Delete {
 public:
  Delete(CacheCore& core, const Tombstone& tombstone) : core_(core) {
    if (!core.disks_.empty()) staged_.push_back(tombstone);
  }
  ~Delete() { core_.forget_delete(*this); }
  Delete(const Delete&) = delete;
  Delete& operator=(const Delete&) = delete;

  HostStore::DropWork work;

 private:
  friend class CacheCore;
  CacheCore& core_;
  std::list<Tombstone> staged_;                          // before and after it is under way
  std::optional<std::list<Tombstone>::iterator> place_;  // among those under way
};

void CacheCore::forget_delete(Delete& work) noexcept {
  if (!work.place_) return;
  {
    MutexLock lock(mutex_);
    work.staged_.splice(work.staged_.end(), deletes_under_way_, *std::exchange(work.place_, std::nullopt));
  }
  for (const DiskPlace& place : work.work.places) {
    try {
      disks_[place.directory]->tier().clear(place.slot);
    } catch (const std::bad_alloc&) {  // its header stays until the slot is used again; nobody was told that it went
    }
  }
  release_places(work.work.places);
}

Dropped CacheCore::drop_below(FunctionRef<BlockId(const HostStore&)> find_top, const Tombstone& tombstone) {
  Delete mine(*this, tombstone);
  begin_delete(mine, find_top);
  drop_pending(mine);
  if (!disks_.empty()) bury(mine);
  return mine.work.done;
}

void CacheCore::begin_delete(Delete& mine, FunctionRef<BlockId(const HostStore&)> find_top) {
  make_room(mine.work.pending, 1);
  MutexLock lock(mutex_);
  if (!disks_.empty()) {
    Tombstone& begun = mine.staged_.front();
    begun.generation = store_.generation();  // covers what was stored until now, here or in an earlier run
    remember_delete(begun);
    mine.place_ = mine.staged_.begin();
    deletes_under_way_.splice(deletes_under_way_.end(), mine.staged_);
  }
  const BlockId top = find_top(store_);
  if (top != kNoBlock) store_.begin_drop(top, mine.work);
}

void CacheCore::drop_pending(Delete& mine) {
  HostStore::DropWork& work = mine.work;
  for (bool more = true; more;) {
    make_room(work.pending, kSlice);
    if (!disks_.empty()) make_room(work.places, kSlice);
    MutexLock lock(mutex_);
    more = !store_.drop_some(work, static_cast<int>(kSlice));
  }
}

/// One tombstone for all its namespaces, so that those in a directory that is not there are covered too. A namespace
/// that comes meanwhile has newer blocks alone, which the delete does not cover.
Dropped CacheCore::drop_tenant(std::string_view name) {
  const TenantId id = tenant_id(name);
  Delete mine(*this, {.kind = Tombstone::Kind::kTenant, .tenant = id});
  begin_delete(mine, [](const HostStore&) { return kNoBlock; });
  for (const BlockHash& fingerprint : namespaces_of(id)) {
    make_room(mine.work.pending, 1);
    {
      MutexLock lock(mutex_);
      const BlockId root = store_.find_root(fingerprint);
      if (root != kNoBlock) store_.begin_drop(root, mine.work);
    }
    drop_pending(mine);
  }
  mine.work.done.unnamed_namespaces = disks_.empty() ? 0 : namespaces_of({}).size();
  if (!disks_.empty()) bury(mine);
  return mine.work.done;
}

std::vector<BlockHash> CacheCore::namespaces_of(const TenantId& tenant) {
  std::vector<BlockHash> found;
  std::optional<BlockHash> after;
  for (bool more = true; more;) {
    make_room(found, HostStore::kNamespacesPerSlice);
    MutexLock lock(mutex_);
    more = store_.list_namespaces(tenant, after, found);
  }
  return found;
}

Dropped CacheCore::drop_subtree(const BlockHash& fingerprint, const BlockHash& hash) {
  const auto top = [&](const HostStore& store) {
    const BlockId id = store.table().find(hash, 0);
    // A name of another namespace is not this caller's to delete.
    return id != kNoBlock && store.table().root_of(id) == store.find_root(fingerprint) ? id : kNoBlock;
  };
  return drop_below(top, {.kind = Tombstone::Kind::kBlock, .fingerprint = fingerprint, .hash = hash});
}

Dropped CacheCore::drop_namespace(const BlockHash& fingerprint) {
  return drop_below([&](const HostStore& store) { return store.find_root(fingerprint); },
                    {.kind = Tombstone::Kind::kNamespace, .fingerprint = fingerprint});
}

void CacheCore::bury(Delete& work) {
  auto pending = std::make_shared<std::atomic<std::uint64_t>>(0);
  std::vector<Burials> burials(disks_.size());
  std::vector<DiskPlace> newest(disks_.size());  // of the latest file that the places of a directory lie in
  for (std::uint32_t index = 0; index < disks_.size(); ++index) {
    Burial& burial = burials[index].emplace_back();
    burial.pending = pending;
    for (const DiskPlace& place : work.work.places) {
      if (place.directory != index) continue;
      burial.places.push_back(place);
      if (place.incarnation != newest[index].incarnation) burial.slots.clear();  // those before are not there any more
      newest[index] = place;
      burial.slots.push_back(place.slot);
    }
    pending->fetch_add(burial.weight());  // nobody else has it yet
  }
  std::vector<Burials> given_up(disks_.size());
  std::vector<std::vector<std::uint32_t>> gone(disks_.size());
  {
    MutexLock lock(mutex_);
    for (std::uint32_t index = 0; index < disks_.size(); ++index) {
      Burial& burial = burials[index].front();
      burial.tombstone = **work.place_;
      // A file that was opened anew meanwhile is another one: the tombstone is all it needs.
      if (!burial.slots.empty() && !disk_store_.is_current(newest[index])) burial.slots.swap(gone[index]);
      add_burial(index, burials[index], given_up[index]);
    }
    work.staged_.splice(work.staged_.end(), deletes_under_way_, *std::exchange(work.place_, std::nullopt));
  }
  for (std::uint32_t index = 0; index < disks_.size(); ++index) end_given_up(index, given_up[index]);
  for (const auto& disk : disks_) disk->tier().wake();
  const auto patience = static_cast<std::uint64_t>(std::chrono::nanoseconds(config_.disk.io_deadline).count());
  const auto all_done = [&] { return pending->load(std::memory_order_acquire) == 0; };
  if (!all_done()) wait_until(all_done, deadline_after(clock().now_ns(), patience));
  const std::uint64_t left = pending->load(std::memory_order_acquire);
  if (left > 0) counters_.burials_late.add();
  work.work.done.pending += left;
}

/// Where as many wait as may, they are given up, and what the directory holds with them.
void CacheCore::add_burial(std::uint32_t index, Burials& burial, Burials& given_up) {
  DiskProgress& progress = disk_progress_[index];
  if (progress.burials.size() >= environment_.most_waiting_deletes) {
    progress.discard = true;
    given_up.swap(progress.burials);
  }
  progress.burials.splice(progress.burials.end(), burial);
}

void CacheCore::release_places(std::span<const DiskPlace> places) noexcept {
  for (std::size_t done = 0; done < places.size();) {
    MutexLock lock(mutex_);
    for (const std::size_t end = std::min(done + kSlice, places.size()); done < end; ++done)
      disk_store_.release(places[done]);
  }
}

/// Their callers are told that they are pending, or were; nobody answers them any more.
void CacheCore::end_given_up(std::uint32_t index, const Burials& given_up) {
  if (given_up.empty()) return;
  for (const Burial& burial : given_up) release_places(burial.places);
  log_line(LogLevel::kWarn, "disk_discard",
           fmt::format("{}: more than {} deletes wait for it; so that none of them is undone, all that it holds is "
                       "given up as soon as it can be written",
                       disks_[index]->path(), given_up.size()));
}

/// The driver hands on what waits, kBurialsPerTurn a turn; a directory that refuses is asked again after
/// disk.probe_interval.
void CacheCore::give_burials(std::uint32_t index) {
  Burials burials;
  std::vector<std::unique_ptr<SlotTable>> spent;  // freed without the lock
  std::uint64_t first_generation = 0;
  const std::uint64_t now = clock().now_ns();
  {
    MutexLock lock(mutex_);
    spent = disk_store_.take_spent();
    DiskProgress& progress = disk_progress_[index];
    if (progress.discard) disks_[index]->tier().discard();
    // Not before the file is open: only then is it known up to which generation the delete must cover.
    if (!progress.opened || progress.burials.empty() || now < progress.next_burial_ns) return;
    // A tombstone from before the file was open covers what this process had stored, and by its number nothing that
    // earlier boots left in the file: indexing clears that, and the burial makes it last. A number that covers both
    // would cover what was stored after the delete, too.
    first_generation = progress.first_generation;
    bool any_early = false;
    auto end = progress.burials.begin();
    for (std::size_t count = 0; count < kBurialsPerTurn && end != progress.burials.end(); ++count, ++end)
      any_early = any_early || end->tombstone.generation < first_generation;
    if (any_early && !indexing_ended()) return;
    burials.splice(burials.end(), progress.burials, progress.burials.begin(), end);
  }
  while (!burials.empty()) {
    auto burial = std::make_shared<Burial>(std::move(burials.front()));
    const DiskSubmit answer = disks_[index]->tier().bury(
        std::span(&burial->tombstone, 1), burial->slots,
        [self = shared_from_this(), index, burial](const Status& status) { self->end_burial(index, burial, status); },
        burial->tombstone.generation < first_generation ? BuryScope::kTable : BuryScope::kSlots);
    if (answer == DiskSubmit::kTaken) {
      burials.pop_front();
      continue;
    }
    burials.front() = std::move(*burial);
    MutexLock lock(mutex_);
    DiskProgress& progress = disk_progress_[index];
    progress.burials.splice(progress.burials.begin(), burials);
    const auto pause = static_cast<std::uint64_t>(std::chrono::nanoseconds(config_.disk.probe_interval).count());
    if (answer == DiskSubmit::kOff) progress.next_burial_ns = deadline_after(now, pause);
    return;
  }
}

void CacheCore::end_burial(std::uint32_t index, const std::shared_ptr<Burial>& burial, const Status& status) {
  if (!status) {
    Burials again;
    Burials given_up;
    again.push_back(std::move(*burial));
    {
      MutexLock lock(mutex_);
      const auto pause = static_cast<std::uint64_t>(std::chrono::nanoseconds(config_.disk.probe_interval).count());
      disk_progress_[index].next_burial_ns = deadline_after(clock().now_ns(), pause);
      add_burial(index, again, given_up);
    }
    return end_given_up(index, given_up);
  }
  release_places(burial->places);
  burial->pending->fetch_sub(burial->weight(), std::memory_order_acq_rel);
  wake();
}

}  // namespace tiercel::detail
