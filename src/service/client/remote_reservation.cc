#include "service/client/remote_reservation.h"

#include <fmt/format.h>

#include <new>
#include <utility>

namespace tiercel::service {

RemoteReservation::RemoteReservation(std::shared_ptr<Line> line, Line::Use use, const wire::ReservedBlocks& reply,
                                     std::size_t count, std::uint64_t block_bytes)
    : line_(std::move(line)),
      use_(std::move(use)),
      id_(reply.reservation()),
      block_bytes_(block_bytes),
      outcomes_(count, Reserved::kBusy),
      items_(count) {
  const auto* outcomes = reply.outcomes();
  const auto* places = reply.places();
  unsigned place = 0;
  for (std::size_t i = 0; i < count && outcomes != nullptr && i < outcomes->size(); ++i) {
    const unsigned outcome = outcomes->Get(static_cast<flatbuffers::uoffset_t>(i));
    if (outcome > static_cast<unsigned>(Reserved::kClosed)) continue;
    if (outcome == static_cast<unsigned>(Reserved::kYes)) {
      if (places == nullptr || place >= places->size() || !use_.holdings->granted(*places->Get(place))) {
        use_.link->fail();  // it does not do what the protocol says
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
  const bool release = use_.holdings->hand_back(it.slot);
  const auto late = [release, holdings = use_.holdings, slot = it.slot](Link& link, const wire::Reply& reply) {
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
  Error error{.code = ErrorCode::kClosed, .os_error = 0, .message = "commit: the service went away"};
  const auto ticket = use_.link->start(
      [&](LinkWriter& writer) {
        const wire::Item one(length, static_cast<std::uint32_t>(item), false, release);
        const auto list = writer.builder().CreateVectorOfStructs(&one, 1);
        return wire::CreateCommit(writer.builder(), id_, list);
      },
      deadline);
  const auto reply = ticket ? use_.link->wait(*ticket, deadline, late) : tl::unexpected<Error>(ticket.error());
  if (!reply) {
    // Nobody knows whether it was committed; nobody writes there any more on this side.
    if (release && !ticket) {
      use_.holdings->take_again(it.slot);
    } else if (release) {
      it.open = false;
    }
    if (reply.error().code == ErrorCode::kTimeout) error = reply.error();
    return tl::unexpected<Error>(std::move(error));
  }
  const auto* committed = (*reply)->body_as_Committed();
  if (committed == nullptr || committed->codes() == nullptr || committed->codes()->size() != 1) {
    if (release) it.open = false;
    return tl::unexpected<Error>(std::move(error));
  }
  if (committed->codes()->Get(0) == 0) {
    if (release) {
      it.open = false;
    } else {
      let_go(it);
    }
    return {};
  }
  if (release) use_.holdings->take_again(it.slot);
  if (committed->errors() != nullptr && committed->errors()->size() == 1) {
    error = wire::read_error(*committed->errors()->Get(0));
  }
  return tl::unexpected<Error>(std::move(error));
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
  if (std::exchange(finished_, true) || !use_.link) return;
  try {
    use_.link->post([this](LinkWriter& writer) { return wire::CreateEndReservation(writer.builder(), id_); });
  } catch (const std::bad_alloc&) {
    use_.link->fail();  // the service must not wait for writers that are gone
  }
  for (Item& item : items_) let_go(item);
  Line::give_back(use_);
  use_.link->flush();
}

}  // namespace tiercel::service
