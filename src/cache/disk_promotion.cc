// Blocks on their way up: what a load does where the next block is on disk alone.
//
// Bytes: one read from the disk straight into a slot of the arena, then one checksum over it by a worker. Locks: the
// core's for slices of kSlice blocks; none while a read is submitted, runs or is verified. A block is read once,
// however many loads wait for it; a load that gives up leaves the read to those that come later.
#include "base/log.h"
#include "cache/core.h"
#include "model/block_checksum.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

namespace tiercel::detail {
namespace {

LoadOutcome outcome_of(Reserved reserved) {
  return reserved == Reserved::kBusy ? LoadOutcome::kBusy : LoadOutcome::kMiss;
}

}  // namespace

/// Promotions and their places in the core's list, made before the lock is taken: nothing under it may allocate.
struct CacheCore::Spare {
  std::vector<Promotions::node_type> nodes;
  std::vector<std::shared_ptr<Promotion>> begun;  ///< of this slice: to be read
  std::shared_ptr<LoadPlanning::Reads> reads;     ///< all that the load begins
  bool wanted = false;                            ///< the slice ended for want of nodes

  ~Spare() {
    if (reads) reads->end(true);
  }

  void refill(LoadPlanning& planning) {
    if (!std::exchange(wanted, false)) return;
    if (!reads) reads = std::make_shared<LoadPlanning::Reads>(planning);
    Promotions made;
    for (BlockId key = 0; nodes.size() + made.size() < kSlice; ++key) made.emplace(key, std::make_shared<Promotion>());
    nodes.reserve(kSlice);
    begun.reserve(kSlice);
    while (!made.empty()) nodes.push_back(made.extract(made.begin()));
  }
};

LoadOutcome CacheCore::acquire(const AcquireRequest& request, std::vector<Acquired>& acquired) {
  HostStore::RoomSearch room = HostStore::room_search(request.hashes.size());
  Spare spare;
  const auto read_begun = [&] {
    for (const auto& promotion : spare.begun) start_read(promotion, request.deadline_ns);
    spare.begun.clear();
  };
  std::optional<LoadOutcome> end;
  while (!end && acquired.size() < request.hashes.size()) {
    try {
      spare.refill(planning_);
    } catch (const std::bad_alloc&) {
      end = LoadOutcome::kBusy;
      break;
    }
    {
      MutexLock lock(mutex_);
      store_.begin_slice(room);
      // Each time: between two slices the namespace may have gone.
      const BlockId root =
          acquired.empty() ? claim(request.space, request.slot_bytes) : store_.find_root(request.space.fingerprint());
      const std::size_t last = std::min(acquired.size() + kSlice, request.hashes.size());
      for (std::size_t i = acquired.size(); i < last; ++i) store_.table().prefetch(request.hashes[i], 0);
      while (!end && acquired.size() < last && room.in_slice > 0) {
        const std::size_t before = acquired.size();
        end = acquire_one(request, root, room, spare, acquired);
        if (!end && acquired.size() == before) break;  // goes on in the next slice
      }
    }
    read_begun();
  }
  if (!disks_.empty()) {
    kick_handover();
    kick_charging();
  }
  return end.value_or(LoadOutcome::kComplete);
}

void CacheCore::promote(const AcquireRequest& request) noexcept {
  try {
    std::vector<Acquired> acquired;
    acquired.reserve(request.hashes.size());
    (void)acquire(request, acquired);
    for (const Acquired& one : acquired) (void)adopt_pin(one.block.slot);
  } catch (const std::bad_alloc&) {  // another time
  }
}

/// Adds the next block to `acquired`. Nothing added and no answer: the slice is spent.
std::optional<LoadOutcome> CacheCore::acquire_one(const AcquireRequest& request, BlockId root,
                                                  HostStore::RoomSearch& room, Spare& spare,
                                                  std::vector<Acquired>& acquired) {
  const BlockId id = store_.table().find(request.hashes[acquired.size()], 0);
  // A name of another namespace is nothing that this load may have: names come from clients.
  if (id == kNoBlock || store_.table().root_of(id) != root) return LoadOutcome::kMiss;
  if (const auto here = store_.hold(id)) {
    copy_pins_.fetch_add(1);
    acquired.push_back({.block = *here, .promotion = nullptr});
    return std::nullopt;
  }
  if (const auto running = promotions_.find(id); running != promotions_.end()) {
    store_.retain(running->second->block.slot);
    copy_pins_.fetch_add(1);
    acquired.push_back({.block = running->second->block, .promotion = running->second});
    return std::nullopt;
  }
  if (is_present(store_.table().state(id, TierId::kHost))) return LoadOutcome::kMiss;  // a writer has it
  if (spare.nodes.empty()) {
    if (disks_.empty()) return LoadOutcome::kMiss;
    spare.wanted = true;
    return std::nullopt;
  }
  const auto copy = disk_store_.hold(id);
  if (!copy) return LoadOutcome::kMiss;
  Fill fill;
  const auto reserved = copy->length > request.slot_bytes
                            ? std::optional(Reserved::kBusy)
                            : store_.begin_promotion(id, request.slot_bytes, clock().now_ns(), fill, room);
  if (reserved != Reserved::kYes) {
    disk_store_.release(copy->place);
    if (!reserved) return std::nullopt;
    return outcome_of(*reserved);
  }
  Promotions::node_type node = std::move(spare.nodes.back());
  spare.nodes.pop_back();
  node.key() = id;
  const std::shared_ptr<Promotion>& promotion = node.mapped();
  promotion->reads = spare.reads;
  promotion->reads->add(copy->length);
  promotion->fill = fill;
  promotion->copy = *copy;
  promotion->block = {.id = id,
                      .generation = fill.generation,
                      .slot = fill.slot,
                      .length = copy->length,
                      .checksum = copy->checksum,
                      .tenant = store_.slots().tenant(fill.slot)};
  promotion->fingerprint = request.space.fingerprint();
  promotion->hash = request.hashes[acquired.size()];
  store_.retain(fill.slot);  // the load's; the one that begin_promotion took is the promotion's
  copy_pins_.fetch_add(2);
  acquired.push_back({.block = promotion->block, .promotion = promotion});
  spare.begun.push_back(promotion);
  promotions_.insert(std::move(node));
  return std::nullopt;
}

/// A load that gives up sooner does not end the read: what comes late serves the next load. Only a device that takes
/// longer than disk.io_deadline is given up on.
void CacheCore::start_read(const std::shared_ptr<Promotion>& promotion, std::uint64_t deadline_ns) noexcept {
  promotion->pin = adopt_pin(promotion->fill.slot);
  const auto patience = static_cast<std::uint64_t>(std::chrono::nanoseconds(config_.disk.io_deadline).count());
  planning_.begin_io(promotion->block.length);
  DiskSubmit answer = DiskSubmit::kBusy;
  try {
    DiskRead job{
        .slot = promotion->copy.place.slot,
        .slot_bytes = promotion->copy.slot_bytes,
        .generation = promotion->copy.generation,
        .to = data(promotion->fill.slot),
        .length = promotion->copy.length,
        .deadline_ns =
            std::max(deadline_ns == UINT64_MAX ? 0 : deadline_ns, deadline_after(clock().now_ns(), patience)),
        .done = [self = shared_from_this(), promotion](const Status& status) { self->end_read(promotion, status); },
        .owner = std::make_shared<CopyPin>(promotion->pin.clone())};
    answer = disks_[promotion->copy.place.directory]->tier().read(std::move(job));
  } catch (const std::bad_alloc&) {
  }
  if (answer == DiskSubmit::kTaken) return;
  finish_promotion(promotion, answer == DiskSubmit::kBusy ? Promotion::State::kBusy : Promotion::State::kMiss);
}

void CacheCore::end_read(const std::shared_ptr<Promotion>& promotion, const Status& status) noexcept {
  if (!status) {
    const ErrorCode code = status.error().code;
    if (code == ErrorCode::kTimeout) return finish_promotion(promotion, Promotion::State::kDeadline);
    if (code == ErrorCode::kIo || code == ErrorCode::kCorrupt) {
      // One that was deleted meanwhile has lost its header, and nothing is wrong.
      if (lose_disk_copy({.id = promotion->block.id, .generation = promotion->block.generation})) {
        counters_.disk_unreadable.add();
      }
    }
    return finish_promotion(promotion, Promotion::State::kMiss);
  }
  bool taken = false;
  try {
    taken = submit([self = shared_from_this(), promotion] { self->verify_promotion(promotion); });
  } catch (const std::bad_alloc&) {
  }
  if (!taken) verify_promotion(promotion);  // no room in the queue: the driver pays
}

void CacheCore::verify_promotion(const std::shared_ptr<Promotion>& promotion) noexcept {
  const HeldBlock& block = promotion->block;
  const BlockIdentity claim{
      .fingerprint = promotion->fingerprint, .hash = promotion->hash, .generation = block.generation};
  if (block_checksum(claim, {data(block.slot), block.length}) == block.checksum) {
    return finish_promotion(promotion, Promotion::State::kReady);
  }
  // One that was deleted meanwhile may have been overwritten already.
  if (!lose_disk_copy({.id = block.id, .generation = block.generation})) {
    return finish_promotion(promotion, Promotion::State::kMiss);
  }
  counters_.disk_checksum_failures.add();
  log_line(LogLevel::kError, "checksum_disk",
           fmt::format("{}: a block on disk no longer has the checksum that it was written with; it was dropped and "
                       "counts as a miss (a failing device, or a crash that tore its last write)",
                       disks_[promotion->copy.place.directory]->path()));
  finish_promotion(promotion, Promotion::State::kCorrupt);
}

void CacheCore::finish_promotion(const std::shared_ptr<Promotion>& promotion, Promotion::State state) noexcept {
  {
    MutexLock lock(mutex_);
    const bool loaded = state == Promotion::State::kReady;
    const bool ready =
        store_.finish_promotion(promotion->fill, promotion->block.length, loaded, environment_.clock.now_ns());
    if (loaded && !ready) state = Promotion::State::kMiss;  // deleted meanwhile
    disk_store_.release(promotion->copy.place);
    if (const auto mine = promotions_.find(promotion->block.id);
        mine != promotions_.end() && mine->second == promotion) {
      promotions_.erase(mine);
    }
  }
  const bool read = state == Promotion::State::kReady;
  read ? planning_.end_io(promotion->block.length) : planning_.drop_io(promotion->block.length);
  promotion->reads->end(read);
  promotion->state.store(state, std::memory_order_release);
  wake();
}

/// The header goes before the slot may be used again. False: the copy is not there any more.
bool CacheCore::lose_disk_copy(BlockName name) noexcept {
  std::optional<DiskPlace> place;
  {
    MutexLock lock(mutex_);
    if (!store_.knows(name)) return false;
    place = disk_store_.give_up(name.id);
    if (place) disk_store_.count_lost();
  }
  if (place) clear_places(std::span(&*place, 1));
  return place.has_value();
}

}  // namespace tiercel::detail
