// The core's asynchronous steps: each is a task of the executor or a completion of the copy engine, and may find the
// cache closed.
#include "cache/checksum.h"
#include "cache/core.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace tiercel::detail {

bool CacheCore::submit_task(Task task) {
  const Gate::Pass pass = users_.enter();
  return pass && environment_.executor.submit(std::move(task));
}

void CacheCore::wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns) {
  const Gate::Pass pass = users_.enter();
  if (!pass) return;
  environment_.executor.wait_until([&] { return closed() || ready(); }, deadline_ns);
}

void CacheCore::wake() noexcept {
  const Gate::Pass pass = users_.enter();
  if (pass) environment_.executor.wake();
}

// ---- touches

void CacheCore::touch_later(std::vector<BlockName> tail_first) {
  if (tail_first.empty()) return;
  const std::uint64_t count = tail_first.size();
  const bool taken = submit([self = shared_from_this(), names = std::move(tail_first)] {
    const std::uint64_t now = self->clock().now_ns();
    for (std::size_t done = 0; done < names.size(); done += kSlice) {
      MutexLock lock(self->mutex_);
      self->store_.touch(std::span(names).subspan(done, std::min(kSlice, names.size() - done)), now);
    }
  });
  if (!taken) counters_.touches_shed.add(count);
}

void CacheCore::touch_chain_later(std::vector<BlockHash> head_first) {
  if (head_first.empty()) return;
  const std::uint64_t count = head_first.size();
  const bool taken = submit([self = shared_from_this(), hashes = std::move(head_first)] {
    const std::uint64_t now = self->clock().now_ns();
    for (std::size_t left = hashes.size(); left > 0;) {
      MutexLock lock(self->mutex_);
      for (const std::size_t end = left - std::min(left, kSlice); left > end; --left) {
        const BlockId id = self->store_.table().find(hashes[left - 1], 0);
        if (id == kNoBlock) continue;
        const BlockName name{.id = id, .generation = self->store_.table()[id].generation};
        self->store_.touch(std::span(&name, 1), now);
      }
    }
  });
  if (!taken) counters_.touches_shed.add(count);
}

// ---- checksums of paranoid mode

void CacheCore::verify_later(const Fill& fill, const BlockIdentity& identity, std::uint32_t length) {
  copy_pins_.add();  // the one that commit() took
  CopyPin own = adopt_pin(fill.slot);
  const auto verify = [fill, fingerprint = identity.fingerprint, hash = identity.hash, length](CacheCore& core) {
    const BlockIdentity claim{.fingerprint = fingerprint, .hash = hash, .generation = fill.generation};
    const std::uint64_t checksum = block_checksum(claim, {core.data(fill.slot), length});
    MutexLock lock(core.mutex_);
    core.store_.finish_verify({.id = fill.id, .generation = fill.generation}, checksum);
  };
  std::shared_ptr<CopyPin> pin;
  try {
    pin = std::make_shared<CopyPin>(std::move(own));
  } catch (const std::bad_alloc&) {
    pin = nullptr;
  }
  if (pin && submit([self = shared_from_this(), verify, pin] { verify(*self); })) return;
  verify(*this);  // no room in the queue, or no memory: the committer pays
}

// ---- hand-over

void CacheCore::kick_handover() {
  {
    MutexLock lock(mutex_);
    if (handover_active_ || (!store_.handover_wanted() && !store_.handover_running())) return;
    handover_active_ = true;
    if (!store_.handover_running()) {
      const auto limit = std::chrono::nanoseconds(config_.limits.handover_deadline).count();
      handover_deadline_ns_ = deadline_after(clock().now_ns(), static_cast<std::uint64_t>(limit));
    }
  }
  if (submit([self = shared_from_this()] { self->run_handover(); })) return;
  MutexLock lock(mutex_);
  handover_active_ = false;
  store_.give_up_handover();
}

void CacheCore::run_handover() {
  std::vector<SlotMove> moves;
  HostStore::HandoverStep step{};
  {
    MutexLock lock(mutex_);
    step = store_.step_handover(clock().now_ns(), handover_deadline_ns_, moves);
    // kWait: a writer is in the way. The next commit or reserve comes back here; the deadline ends it then.
    if (step != HostStore::HandoverStep::kMoves && moves.empty()) {
      handover_active_ = false;
      return;
    }
  }
  finish_moves(std::move(moves));
}

/// Copies the blocks of `moves`, finishes each, and goes on with the next slice after the last.
void CacheCore::finish_moves(std::vector<SlotMove> moves) {
  struct Batch {
    std::shared_ptr<CacheCore> core;
    std::atomic<std::size_t> left;  // completions that are still to come; acq_rel orders them before the next slice
    explicit Batch(std::shared_ptr<CacheCore> c, std::size_t n) : core(std::move(c)), left(n) {}
    void one_done() {
      if (left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
      if (core->submit([self = core] { self->run_handover(); })) return;
      MutexLock lock(core->mutex_);
      core->handover_active_ = false;
      core->store_.give_up_handover();
    }
  };
  auto batch = std::make_shared<Batch>(shared_from_this(), moves.size() + 1);
  for (const SlotMove& move : moves) {
    CopyJob job{.work = ByteCopy{.to = data(move.to), .from = data(move.from), .bytes = move.length},
                .direction = CopyDirection::kStore,
                .done = [batch, move](const Status& status) {
                  {
                    MutexLock lock(batch->core->mutex_);
                    batch->core->store_.finish_move(move, status.has_value());
                  }
                  batch->one_done();
                }};
    bool taken = false;
    if (const Gate::Pass pass = users_.enter()) taken = environment_.copies.submit(std::move(job));
    if (!taken) {
      {
        MutexLock lock(mutex_);
        store_.finish_move(move, false);
      }
      batch->one_done();
    }
  }
  batch->one_done();
}

}  // namespace tiercel::detail
