#include "cache/local_reservation.h"

#include "base/try.h"
#include "cache/local_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <new>
#include <optional>
#include <random>

namespace tiercel::detail {
namespace {

/// Differs from process to process: a rank's order that outlived a service must not name another reservation of the
/// next one.
std::uint64_t first_reservation_id() {
  std::random_device entropy;
  return (std::uint64_t{entropy()} << 32U) + 1;
}

std::uint64_t next_reservation_id() {
  static std::atomic<std::uint64_t> next{first_reservation_id()};  // relaxed: only uniqueness matters
  return next.fetch_add(1, std::memory_order_relaxed);
}

/// Bits 1 to members - 1: what the scheduler member waits for besides itself.
std::uint64_t parts_of_others(std::uint32_t members) {
  return members >= 64 ? ~std::uint64_t{1} : ((std::uint64_t{1} << members) - 1) & ~std::uint64_t{1};
}

}  // namespace

LocalReservation::LocalReservation(std::shared_ptr<CacheCore> core, const Request& request,
                                   std::shared_ptr<EngineGroup> engine)
    : core_(std::move(core)),
      engine_(std::move(engine)),
      fingerprint_(request.chain.space.fingerprint()),
      id_(next_reservation_id()),
      block_bytes_(request.block_bytes),
      started_ns_(core_->clock().now_ns()),
      hashes_(request.chain.hashes.begin(),
              request.chain.hashes.begin() + static_cast<std::ptrdiff_t>(request.first + request.count)),
      first_(request.first),
      outcomes_(request.count, request.answer.value_or(Reserved::kClosed)),
      items_(request.count) {
  if (request.answer == Reserved::kBusy) {
    core_->counters().mode_refused_reserves.add();
    return;
  }
  std::vector<Fill> fills(request.count);
  if (!request.answer) {
    try {
      core_->begin_fills(request.chain, request.first, request.slot_bytes, outcomes_, fills);
    } catch (const std::bad_alloc&) {  // what has begun keeps its writer; for the rest there is no room
      std::ranges::replace(outcomes_, Reserved::kClosed, Reserved::kBusy);
    }
  }
  MutexLock lock(mutex_);
  for (std::size_t i = 0; i < request.count; ++i) {
    core_->counters().reserve_outcomes[static_cast<std::size_t>(outcomes_[i])].add();
    if (outcomes_[i] != Reserved::kYes) continue;
    items_[i] = {
        .fill = fills[i], .state = State::kOpen, .parts_missing = engine_ ? parts_of_others(engine_->members()) : 0};
  }
  core_->counters().reserve_latency.add(core_->clock().now_ns() - started_ns_);
}

LocalReservation::~LocalReservation() { finish(); }

std::span<std::byte> LocalReservation::bytes(std::size_t item) const {
  MutexLock lock(mutex_);
  const Item& it = items_[item];
  if (it.state != State::kOpen) return {};
  return {core_->data(it.fill.slot), block_bytes_};
}

CopyPin LocalReservation::begin_copy(std::size_t item) const {
  MutexLock lock(mutex_);
  const Item& it = items_[item];
  if (it.state != State::kOpen && it.state != State::kRevoked) return {};
  core_->retain(it.fill.slot);
  return core_->adopt_pin(it.fill.slot);
}

Status LocalReservation::commit(std::size_t item, std::optional<std::size_t> size) {
  const std::size_t length = size.value_or(block_bytes_);
  if (length == 0 || length > block_bytes_) {
    core_->counters().commit_failures.add();
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("commit: a size of {} bytes; valid is 1 to {}, the block's size", length, block_bytes_));
  }
  Status status;
  std::optional<Fill> fill;
  {
    MutexLock lock(mutex_);
    Item& it = items_[item];
    if (it.state == State::kOpen && it.parts_missing != 0) {
      status = fail(ErrorCode::kIncomplete, fmt::format("commit: members {:#x} (a bit each) have not reported their "
                                                        "part of block {}",
                                                        it.parts_missing, first_ + item));
    } else if (it.state == State::kOpen) {
      it.state = State::kDone;
      committed_any_ = true;
      fill = it.fill;
    } else if (it.state == State::kRevoked) {
      status = fail(ErrorCode::kClosed, "commit: the session or a member of its group has ended");
    } else {
      status = fail(ErrorCode::kInvalidArgument, "commit: the writer is empty, committed or aborted");
    }
  }
  if (fill) {  // without the lock: in paranoid mode a commit may have to take the checksum itself
    status = core_->commit(
        *fill, {.fingerprint = fingerprint_, .hash = hashes_[first_ + item], .generation = fill->generation},
        static_cast<std::uint32_t>(length));
  }
  if (status) {
    core_->counters().fill_latency.add(core_->clock().now_ns() - started_ns_);
  } else {
    core_->counters().commit_failures.add();
  }
  return status;
}

void LocalReservation::abort(std::size_t item) noexcept {
  MutexLock lock(mutex_);
  Item& it = items_[item];
  const State before = std::exchange(it.state, it.state == State::kNone ? State::kNone : State::kDone);
  if (before == State::kOpen) core_->abort(it.fill);
  if (before == State::kRevoked) core_->release(it.fill.slot);
}

void LocalReservation::finish() noexcept {
  std::vector<BlockHash> used;
  for (std::size_t i = 0; i < size(); ++i) abort(i);
  {
    MutexLock lock(mutex_);
    if (std::exchange(committed_any_, false)) used = std::move(hashes_);
  }
  if (engine_) engine_->remove(id_);
  const auto stored = std::ranges::find_if(outcomes_, [](Reserved outcome) { return outcome != Reserved::kExists; });
  core_->touch_chain_later(std::move(used), first_ + static_cast<std::size_t>(stored - outcomes_.begin()));
}

void LocalReservation::revoke() noexcept {
  MutexLock lock(mutex_);
  for (Item& item : items_) {
    if (item.state != State::kOpen) continue;
    item.state = State::kRevoked;
    core_->abandon(item.fill);
  }
}

Status LocalReservation::check_blocks(std::span<const std::size_t> blocks) const {
  for (const std::size_t block : blocks) {
    if (block >= first_ && block - first_ < items_.size() && items_[block - first_].state != State::kNone) continue;
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("group: block {} has no writer in reservation {}", block, id_));
  }
  return {};
}

Result<std::vector<BlockPart>> LocalReservation::parts(std::span<const std::size_t> blocks) const {
  std::vector<BlockPart> parts;
  parts.reserve(blocks.size());
  MutexLock lock(mutex_);
  TIERCEL_TRY(check_blocks(blocks));
  for (const std::size_t block : blocks) {
    const Item& item = items_[block - first_];
    if (item.state != State::kOpen) {  // committed, aborted or revoked: nobody may write there any more
      return fail(ErrorCode::kNotFound, fmt::format("group: block {} of reservation {} has ended", block, id_));
    }
    core_->retain(item.fill.slot);
    parts.emplace_back(core_->adopt_pin(item.fill.slot), std::span(core_->data(item.fill.slot), block_bytes_));
  }
  return parts;
}

Status LocalReservation::report(std::span<const std::size_t> blocks, std::uint32_t member) {
  MutexLock lock(mutex_);
  TIERCEL_TRY(check_blocks(blocks));
  for (const std::size_t block : blocks) items_[block - first_].parts_missing &= ~(std::uint64_t{1} << member);
  return {};
}

SlotId LocalReservation::slot(std::size_t item) const {
  MutexLock lock(mutex_);
  return items_[item].fill.slot;
}

}  // namespace tiercel::detail
