#include "service/client/remote_reservation.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

namespace tiercel::service {
namespace {

tl::unexpected<Error> no_answer(Error error) {
  if (error.code != ErrorCode::kTimeout) return fail(ErrorCode::kClosed, "commit: the service went away");
  return tl::unexpected<Error>(std::move(error));
}

}  // namespace

RemoteReservation::RemoteReservation(std::shared_ptr<Line> line, Line::Use use, std::size_t count,
                                     std::uint64_t block_bytes)
    : line_(std::move(line)),
      use_(std::move(use)),
      block_bytes_(block_bytes),
      outcomes_(count, Reserved::kBusy),
      items_(count) {}

void RemoteReservation::accept(const wire::Reply& reply) noexcept {
  const auto* reserved = reply.body_as_ReservedBlocks();
  if (reserved == nullptr) return;
  id_ = reserved->reservation();
  const auto* outcomes = reserved->outcomes();
  const auto* places = reserved->places();
  unsigned place = 0;
  for (std::size_t i = 0; i < items_.size() && outcomes != nullptr && i < outcomes->size(); ++i) {
    const unsigned outcome = outcomes->Get(static_cast<flatbuffers::uoffset_t>(i));
    if (outcome > static_cast<unsigned>(Reserved::kClosed)) continue;
    if (outcome == static_cast<unsigned>(Reserved::kYes)) {
      const bool there = places != nullptr && place < places->size() && places->Get(place)->length() == block_bytes_;
      auto grant = Holdings::Grant::kOutside;
      try {
        if (there) grant = use_.holdings->granted(*places->Get(place), use_.epoch);
      } catch (const std::bad_alloc&) {
      }
      if (grant != Holdings::Grant::kTaken) {  // none of the rest either
        if (grant == Holdings::Grant::kOutside) use_.link->fail();
        std::fill(outcomes_.begin() + static_cast<std::ptrdiff_t>(i), outcomes_.end(), Reserved::kClosed);
        return;
      }
      const wire::Place& where = *places->Get(place++);
      items_[i] = {.bytes = use_.holdings->bytes(where), .slot = where.slot(), .open = true};
    }
    outcomes_[i] = static_cast<Reserved>(outcome);
  }
}

std::span<std::byte> RemoteReservation::bytes(std::size_t item) const {
  return items_[item].open ? items_[item].bytes : std::span<std::byte>();
}

CopyPin RemoteReservation::begin_copy(std::size_t item) const {
  if (!items_[item].open) return {};
  use_.holdings->retain(items_[item].slot);
  return use_.holdings->adopt(items_[item].slot);
}

Status RemoteReservation::commit(std::size_t item, std::optional<std::size_t> size) {
  Item& it = items_[item];
  // The service answers these too; asked here, a writer that has ended costs no call.
  const std::size_t length = size.value_or(block_bytes_);
  if (it.open && (length == 0 || length > block_bytes_)) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("commit: a size of {} bytes; valid is 1 to {}, the block's size", length, block_bytes_));
  }
  if (!it.open) return fail(ErrorCode::kInvalidArgument, "commit: the writer is empty, committed or aborted");
  const bool release = use_.holdings->hand_back(it.slot, use_.epoch);
  try {
    return commit_at_service(item, length, release);
  } catch (const std::bad_alloc&) {
    if (release) {  // nobody knows how far it came: the next link tells the service what is held
      it.open = false;
      use_.holdings->handed_over();
      use_.link->fail();
    }
    throw;
  }
}

/// `release`: our handle and its grant are handed back; they come again where the service does not take them.
Status RemoteReservation::commit_at_service(std::size_t item, std::size_t length, bool release) {
  Item& it = items_[item];
  const auto gone = [&] {  // on this side nobody writes there any more
    if (!release) return;
    it.open = false;
    use_.holdings->handed_over();
  };
  const auto late = [release, slot = it.slot](Link& link, const wire::Reply& reply) {
    const auto* committed = reply.body_as_Committed();
    const bool done = committed != nullptr && committed->codes() != nullptr && committed->codes()->size() == 1 &&
                      committed->codes()->Get(0) == 0;
    if (done || !release) return;
    link.post([slot](LinkWriter& writer) {
      const wire::Grants grant(slot, 1);
      const auto list = writer.builder().CreateVectorOfStructs(&grant, 1);
      return wire::CreateRelease(writer.builder(), list);
    });
  };
  const std::uint64_t deadline = line_->deadline_ns();
  Line::give_back(use_);
  auto ticket = use_.link->start(
      [&](LinkWriter& writer) {
        const wire::Item one(length, static_cast<std::uint32_t>(item), false, release);
        const auto list = writer.builder().CreateVectorOfStructs(&one, 1);
        return wire::CreateCommit(writer.builder(), id_, list);
      },
      deadline);
  if (!ticket) {
    // kTimeout: nothing was sent. kClosed: perhaps it was; the next link says what is held, and this is left out.
    if (release && ticket.error().code == ErrorCode::kTimeout) {
      it.open = use_.holdings->take_again(it.slot, use_.epoch);
    } else {
      gone();
    }
    return no_answer(std::move(ticket).error());
  }
  auto reply = use_.link->wait(*ticket, deadline, late);
  const auto* committed = reply ? (*reply)->body_as_Committed() : nullptr;
  if (committed == nullptr || committed->codes() == nullptr || committed->codes()->size() != 1) {
    gone();  // nobody knows whether it was committed
    return no_answer(reply ? Error{.code = ErrorCode::kClosed} : std::move(reply).error());
  }
  if (committed->codes()->Get(0) == 0) {
    release ? gone() : let_go(it);
    return {};
  }
  if (release && !use_.holdings->take_again(it.slot, use_.epoch)) {
    it.open = false;  // a reply of before the connection was taken up anew: the slot is not ours any more
    return no_answer({.code = ErrorCode::kClosed});
  }
  if (committed->errors() == nullptr || committed->errors()->size() != 1)
    return no_answer({.code = ErrorCode::kClosed});
  return tl::unexpected<Error>(wire::read_error(*committed->errors()->Get(0)));
}

void RemoteReservation::let_go(Item& item) noexcept {
  if (std::exchange(item.open, false)) use_.holdings->release(item.slot);
}

void RemoteReservation::abort(std::size_t item) noexcept {
  if (!items_[item].open) return;
  try {
    use_.link->post([this, item](LinkWriter& writer) {
      const auto number = static_cast<std::uint32_t>(item);
      const auto list = writer.builder().CreateVector(&number, 1);
      return wire::CreateAbort(writer.builder(), id_, list);
    });
  } catch (const std::bad_alloc&) {  // it ends with the reservation
  }
  let_go(items_[item]);
}

void RemoteReservation::finish() noexcept {
  if (std::exchange(finished_, true) || !use_.link || id_ == 0) return;
  try {
    use_.link->post([this](LinkWriter& writer) { return wire::CreateEndReservation(writer.builder(), id_); });
  } catch (const std::bad_alloc&) {
    use_.link->fail();  // the service must not wait for writers that are gone
  }
  for (Item& item : items_) let_go(item);
  try {
    Line::give_back(use_);
    use_.link->flush();
  } catch (const std::bad_alloc&) {  // the client's thread tries again
  }
}

}  // namespace tiercel::service
