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
#include <iterator>
#include <utility>

namespace tiercel::detail {

Dropped CacheCore::drop_below(FunctionRef<BlockId(const HostStore&)> find_top, const Tombstone& tombstone) {
  HostStore::DropWork work;
  std::list<Tombstone> staged;
  if (!disks_.empty()) staged.push_back(tombstone);
  const DeleteUnderWay mine = staged.begin();
  {
    MutexLock lock(mutex_);
    if (!disks_.empty()) {
      mine->generation = store_.generation();  // covers what was stored until now, here or in an earlier run
      remember_delete(*mine);
      deletes_under_way_.splice(deletes_under_way_.end(), staged);
    }
    const BlockId top = find_top(store_);
    if (top != kNoBlock) store_.begin_drop(top, work);
  }
  for (bool more = true; more;) {
    if (!disks_.empty()) make_room(work.places, kSlice);
    MutexLock lock(mutex_);
    more = !store_.drop_some(work, static_cast<int>(kSlice));
  }
  if (!disks_.empty()) bury(mine, work.places, work.done);
  return work.done;
}

Dropped CacheCore::drop_subtree(const BlockHash& fingerprint, const BlockHash& hash) {
  return drop_below([&](const HostStore& store) { return store.table().find(hash, 0); },
                    {.kind = Tombstone::Kind::kBlock, .fingerprint = fingerprint, .hash = hash});
}

Dropped CacheCore::drop_namespace(const BlockHash& fingerprint) {
  return drop_below([&](const HostStore& store) { return store.find_root(fingerprint); },
                    {.kind = Tombstone::Kind::kNamespace, .fingerprint = fingerprint});
}

void CacheCore::bury(DeleteUnderWay tombstone, const std::vector<DiskPlace>& places, Dropped& done) {
  auto left = std::make_shared<std::atomic<std::uint64_t>>(disks_.size());
  {
    std::vector<Burial> burials;
    for (std::uint32_t index = 0; index < disks_.size(); ++index) {
      Burial& burial = burials.emplace_back(Burial{.tombstone = {}, .places = {}, .slots = {}, .left = left});
      for (const DiskPlace& place : places) {
        if (place.directory != index) continue;
        burial.places.push_back(place);
        burial.slots.push_back(place.slot);
      }
    }
    std::vector<std::vector<Burial>> given_up(disks_.size());
    MutexLock lock(mutex_);
    for (std::uint32_t index = 0; index < disks_.size(); ++index) {
      Burial& burial = burials[index];
      burial.tombstone = *tombstone;
      // A file that was opened anew meanwhile is another one: the tombstone is all it needs.
      burial.slots.clear();
      for (const DiskPlace& place : burial.places) {
        if (disk_store_.is_current(place)) burial.slots.push_back(place.slot);  // it had room for all of them
      }
      add_burial(index, std::move(burial), given_up[index]);
    }
    deletes_under_way_.erase(tombstone);
    lock.unlock();
    for (std::uint32_t index = 0; index < disks_.size(); ++index) end_given_up(index, given_up[index]);
  }
  for (const auto& disk : disks_) disk->tier().wake();
  const auto patience = static_cast<std::uint64_t>(std::chrono::nanoseconds(config_.disk.io_deadline).count());
  const auto all_done = [&] { return left->load(std::memory_order_acquire) == 0; };
  if (!all_done()) wait_until(all_done, deadline_after(clock().now_ns(), patience));
  if (all_done()) return;
  counters_.burials_late.add();
  // Of what was counted: whatever lay on disk. A directory that cannot be reached may hold more, which counts as one.
  MutexLock lock(mutex_);
  for (const DiskProgress& progress : disk_progress_) {
    for (const Burial& burial : progress.burials) {
      if (burial.left == left) done.pending += std::max<std::uint64_t>(1, burial.places.size());
    }
  }
  if (done.pending == 0) done.pending = left->load(std::memory_order_acquire);
}

/// Where as many wait as may, they are given up, and what the directory holds with them.
void CacheCore::add_burial(std::uint32_t index, Burial burial, std::vector<Burial>& given_up) {
  DiskProgress& progress = disk_progress_[index];
  if (progress.burials.size() >= environment_.most_waiting_deletes) {
    progress.discard = true;
    given_up.swap(progress.burials);
  }
  progress.burials.push_back(std::move(burial));
}

/// Their callers are told that they are pending, or were; nobody answers them any more.
void CacheCore::end_given_up(std::uint32_t index, std::span<const Burial> given_up) {
  if (given_up.empty()) return;
  for (const Burial& burial : given_up) {
    for (std::size_t done = 0; done < burial.places.size();) {
      MutexLock lock(mutex_);
      const std::size_t end = std::min(done + kSlice, burial.places.size());
      for (; done < end; ++done) disk_store_.release(burial.places[done]);
    }
  }
  log_line(LogLevel::kWarn, "disk_discard",
           fmt::format("{}: more than {} deletes wait for it; so that none of them is undone, all that it holds is "
                       "given up as soon as it can be written",
                       disks_[index]->path(), given_up.size()));
}

/// The driver hands on what waits; a directory that refuses is asked again after disk.probe_interval.
void CacheCore::give_burials(std::uint32_t index) {
  std::vector<Burial> burials;
  std::uint64_t first_generation = 0;
  const std::uint64_t now = clock().now_ns();
  {
    MutexLock lock(mutex_);
    DiskProgress& progress = disk_progress_[index];
    if (progress.discard) disks_[index]->tier().discard();
    // Not before the file is open: only then is it known up to which generation the delete must cover.
    if (!progress.opened || progress.burials.empty() || now < progress.next_burial_ns) return;
    // A tombstone from before the file was open covers what this process had stored, and by its number nothing that
    // earlier boots left in the file: indexing clears that, and the burial makes it last. A number that covers both
    // would cover what was stored after the delete, too.
    first_generation = progress.first_generation;
    const bool settled = indexing_ended();
    const auto is_early = [&](const Burial& burial) { return burial.tombstone.generation < first_generation; };
    if (!settled && std::ranges::any_of(progress.burials, is_early)) return;
    burials.swap(progress.burials);
  }
  for (std::size_t i = 0; i < burials.size(); ++i) {
    auto burial = std::make_shared<Burial>(std::move(burials[i]));
    const DiskSubmit answer = disks_[index]->tier().bury(
        std::span(&burial->tombstone, 1), burial->slots,
        [self = shared_from_this(), index, burial](const Status& status) { self->end_burial(index, burial, status); },
        burial->tombstone.generation < first_generation ? BuryScope::kTable : BuryScope::kSlots);
    if (answer == DiskSubmit::kTaken) continue;
    burials[i] = std::move(*burial);
    burials.erase(burials.begin(), burials.begin() + static_cast<std::ptrdiff_t>(i));
    MutexLock lock(mutex_);
    DiskProgress& progress = disk_progress_[index];
    progress.burials.insert(progress.burials.begin(), std::make_move_iterator(burials.begin()),
                            std::make_move_iterator(burials.end()));
    const auto pause = static_cast<std::uint64_t>(std::chrono::nanoseconds(config_.disk.probe_interval).count());
    if (answer == DiskSubmit::kOff) progress.next_burial_ns = deadline_after(now, pause);
    return;
  }
}

void CacheCore::end_burial(std::uint32_t index, const std::shared_ptr<Burial>& burial, const Status& status) {
  {
    std::vector<Burial> given_up;
    MutexLock lock(mutex_);
    if (!status) {
      const auto pause = static_cast<std::uint64_t>(std::chrono::nanoseconds(config_.disk.probe_interval).count());
      disk_progress_[index].next_burial_ns = deadline_after(clock().now_ns(), pause);
      add_burial(index, std::move(*burial), given_up);
      lock.unlock();
      return end_given_up(index, given_up);
    }
  }
  for (std::size_t done = 0; done < burial->places.size();) {
    MutexLock lock(mutex_);
    const std::size_t end = std::min(done + kSlice, burial->places.size());
    for (; done < end; ++done) disk_store_.release(burial->places[done]);
  }
  burial->left->fetch_sub(1, std::memory_order_acq_rel);
  wake();
}

}  // namespace tiercel::detail
