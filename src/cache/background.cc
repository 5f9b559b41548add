// The core's asynchronous steps: each is a task of the executor or a completion of the copy engine, and may find the
// cache closed.
#include "cache/core.h"
#include "model/block_checksum.h"

#include <algorithm>
#include <memory>
#include <new>
#include <utility>

namespace tiercel::detail {

bool CacheCore::submit(Task task) noexcept {
  const Gate::Pass pass = users_.enter();
  return pass && environment_.executor.submit(std::move(task));  // the queue has its room already
}

void CacheCore::wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns) {
  const Gate::Pass pass = users_.enter();
  if (!pass) return;
  environment_.executor.wait_until([&] { return closed() || ready(); }, deadline_ns);
}

void CacheCore::wake() noexcept {
  if (const Gate::Pass pass = users_.enter()) environment_.executor.wake();
  const MutexLock lock(listener_mutex_);
  if (listener_) listener_();
}

void CacheCore::set_progress_listener(std::function<void()> listener) {
  const MutexLock lock(listener_mutex_);
  listener_ = std::move(listener);
}

// ---- touches

void CacheCore::touch_later(std::span<const HeldBlock> head_first) noexcept {
  if (head_first.empty()) return;
  bool taken = false;
  try {
    std::vector<BlockName> names;
    names.reserve(head_first.size());
    for (std::size_t i = head_first.size(); i > 0; --i) {
      names.push_back({.id = head_first[i - 1].id, .generation = head_first[i - 1].generation});
    }
    taken = submit([self = shared_from_this(), tail_first = std::move(names)] {
      const std::uint64_t now = self->clock().now_ns();
      for (std::size_t done = 0; done < tail_first.size(); done += kSlice) {
        MutexLock lock(self->mutex_);
        const auto slice = std::span(tail_first).subspan(done, std::min(kSlice, tail_first.size() - done));
        self->store_.touch(slice, now);
        self->touch_disk(slice, now);
      }
      self->reconsider_demotions(tail_first);
    });
  } catch (const std::bad_alloc&) {  // a touch is advice
  }
  if (!taken) counters_.touches_shed.add(head_first.size());
}

void CacheCore::touch_chain_later(std::vector<BlockHash> head_first, std::size_t used_again) noexcept {
  if (head_first.empty()) return;
  const std::uint64_t count = head_first.size();
  bool taken = false;
  try {
    taken = submit([self = shared_from_this(), hashes = std::move(head_first), used_again] {
      const std::uint64_t now = self->clock().now_ns();
      for (std::size_t left = hashes.size(); left > 0;) {
        MutexLock lock(self->mutex_);
        for (const std::size_t end = left - std::min(left, kSlice); left > end; --left) {
          const BlockId id = self->store_.table().find(hashes[left - 1], 0);
          if (id == kNoBlock) continue;
          const BlockName name{.id = id, .generation = self->store_.table()[id].generation};
          self->store_.touch(std::span(&name, 1), now);
          self->touch_disk(std::span(&name, 1), now);
        }
      }
      self->reconsider_demotions(std::span(hashes).first(std::min(used_again, hashes.size())));
    });
  } catch (const std::bad_alloc&) {
  }
  if (!taken) counters_.touches_shed.add(count);
}

// ---- checksums of paranoid mode

void CacheCore::verify(const Verification& work) noexcept {
  const BlockIdentity claim{.fingerprint = work.fingerprint, .hash = work.hash, .generation = work.fill.generation};
  const std::uint64_t checksum = block_checksum(claim, {data(work.fill.slot), work.length});
  {
    MutexLock lock(mutex_);
    if (!store_.finish_verify({.id = work.fill.id, .generation = work.fill.generation}, checksum)) return;
    consider_demotion(work.fill.id);
  }
  kick_demotion();
}

void CacheCore::verify_later(const Verification& work) noexcept {
  copy_pins_.fetch_add(1);  // the one that commit() took
  CopyPin pin = adopt_pin(work.fill.slot);
  bool taken = false;
  try {
    auto held = std::make_shared<CopyPin>(pin.clone());
    taken = submit([self = shared_from_this(), work, held = std::move(held)] { self->verify(work); });
  } catch (const std::bad_alloc&) {
  }
  if (!taken) verify(work);  // no room in the queue, or no memory for the task: the committer pays
}

// ---- hand-over

void CacheCore::kick_handover() noexcept {
  {
    MutexLock lock(mutex_);
    if (handover_active_ || (!store_.handover_wanted() && !store_.handover_running())) return;
    handover_active_ = true;
    if (!store_.handover_running()) {
      const auto limit = std::chrono::nanoseconds(config_.limits.handover_deadline).count();
      handover_deadline_ns_ = deadline_after(clock().now_ns(), static_cast<std::uint64_t>(limit));
    }
  }
  bool taken = false;
  try {
    taken = submit([self = shared_from_this()] { self->run_handover(); });
  } catch (const std::bad_alloc&) {
  }
  if (!taken) give_up_handover();
}

void CacheCore::give_up_handover() noexcept {
  MutexLock lock(mutex_);
  handover_active_ = false;
  store_.give_up_handover();
}

/// Leaves it as it is; the next commit or reserve goes on with it.
void CacheCore::park_handover() noexcept {
  MutexLock lock(mutex_);
  handover_active_ = false;
}

void CacheCore::run_handover() noexcept {
  std::vector<SlotMove> moves;
  try {
    moves.reserve(HostStore::kMovesPerStep);
  } catch (const std::bad_alloc&) {
    return give_up_handover();
  }
  {
    MutexLock lock(mutex_);
    const auto step = store_.step_handover(clock().now_ns(), handover_deadline_ns_, moves);
    // kWait: a writer is in the way. The next commit or reserve comes back here; the deadline ends it then.
    if (step != HostStore::HandoverStep::kMoves && moves.empty()) {
      handover_active_ = false;
      return;
    }
  }
  try {
    start_moves(moves);
  } catch (const std::bad_alloc&) {  // before the first copy: all blocks stay where they are
    for (const SlotMove& move : moves) finish_move(move, false);
    give_up_handover();
  }
}

void CacheCore::finish_move(const SlotMove& move, bool copied) noexcept {
  MutexLock lock(mutex_);
  store_.finish_move(move, copied);
}

/// Copies the blocks of `moves`, finishes each, and goes on with the next slice after the last.
void CacheCore::start_moves(const std::vector<SlotMove>& moves) {
  struct Batch {
    std::shared_ptr<CacheCore> core;
    std::atomic<std::size_t> left;     // completions that are still to come; acq_rel orders them before the next slice
    std::atomic<bool> refused{false};  // the copy engine had no room; relaxed: `left` orders it
    Task next_slice;                   // made before the first copy: nothing after it may run out of memory
    void one_done() noexcept {
      if (left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
      if (refused.load(std::memory_order_relaxed)) return core->park_handover();
      if (!core->submit(std::move(next_slice))) core->give_up_handover();
    }
  };
  auto batch = std::make_shared<Batch>();
  batch->core = shared_from_this();
  batch->left.store(moves.size() + 1, std::memory_order_relaxed);  // relaxed: not shared yet
  batch->next_slice = [self = shared_from_this()] { self->run_handover(); };
  for (const SlotMove& move : moves) {
    bool taken = false;
    try {
      CopyJob job{.work = ByteCopy{.to = data(move.to), .from = data(move.from), .bytes = move.length},
                  .direction = CopyDirection::kStore,
                  .done = [batch, move](const Status& status) {
                    batch->core->finish_move(move, status.has_value());
                    batch->one_done();
                  }};
      if (const Gate::Pass pass = users_.enter()) taken = environment_.copies.submit(std::move(job));
    } catch (const std::bad_alloc&) {
    }
    if (taken) continue;
    batch->refused.store(true, std::memory_order_relaxed);
    finish_move(move, false);
    batch->one_done();
  }
  batch->one_done();
}

}  // namespace tiercel::detail
