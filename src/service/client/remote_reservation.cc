#include "service/client/remote_reservation.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

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
  const WriterCommit one{.writer = item, .size = size};
  Status status;
  commit_batch(std::span(&one, 1), std::span(&status, 1));
  return status;
}

void RemoteReservation::commit_several(std::span<const WriterCommit> items, std::span<Status> statuses) {
  for (std::size_t done = 0; done < items.size(); done += wire::kMaxBatch) {
    const std::size_t count = std::min(items.size() - done, wire::kMaxBatch);
    try {
      commit_batch(items.subspan(done, count), statuses.subspan(done, count));
    } catch (const std::bad_alloc&) {  // the link is broken by now: nothing of the rest can be committed either
      for (std::size_t i = done; i < items.size(); ++i) statuses[i] = fail(ErrorCode::kOutOfMemory, "no memory");
      return;
    }
  }
}

void RemoteReservation::commit_batch(std::span<const WriterCommit> items, std::span<Status> statuses) {
  std::vector<Sent> sent;
  sent.reserve(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    Item& it = items_[items[i].writer];
    const std::size_t length = items[i].size.value_or(block_bytes_);
    // The service answers these too; asked here, a writer that has ended costs no call.
    if (it.open && (length == 0 || length > block_bytes_)) {
      statuses[i] =
          fail(ErrorCode::kInvalidArgument,
               fmt::format("commit: a size of {} bytes; valid is 1 to {}, the block's size", length, block_bytes_));
    } else if (!it.open) {
      statuses[i] = fail(ErrorCode::kInvalidArgument, "commit: the writer is empty, committed or aborted");
    } else {
      it.open = false;  // until the answer is known: an item that is named twice is committed once
      sent.push_back({.place = i, .item = items[i].writer, .length = length});
    }
  }
  if (sent.empty()) return;
  for (Sent& one : sent) one.release = use_.holdings->hand_back(items_[one.item].slot, use_.epoch);
  try {
    commit_at_service(sent, statuses);
  } catch (const std::bad_alloc&) {
    for (Sent& one : sent) {
      if (!one.settled) gone(one);
    }
    use_.link->fail();  // nobody knows how far it came: the next link tells the service what is held
    throw;
  }
}

/// Nobody knows what became of it, or it was committed: on this side nobody writes there any more.
void RemoteReservation::gone(Sent& sent) noexcept {
  sent.settled = true;
  if (sent.release) {
    use_.holdings->handed_over();
  } else {
    use_.holdings->release(items_[sent.item].slot);
  }
}

/// It was not committed, and the writer is as it was; or, of an epoch that is over, empty.
void RemoteReservation::keep(Sent& sent) noexcept {
  sent.settled = true;
  Item& it = items_[sent.item];
  it.open = !sent.release || use_.holdings->take_again(it.slot, use_.epoch);
}

void RemoteReservation::commit_at_service(std::span<Sent> sent, std::span<Status> statuses) {
  const auto each = [&](auto&& action) {
    for (Sent& one : sent) action(one);
  };
  // Made before anything is sent: a reply that comes too late must find what to give back.
  auto handed = std::make_shared<std::vector<std::pair<std::uint32_t, bool>>>();
  handed->reserve(sent.size());
  each([&](const Sent& one) { handed->emplace_back(items_[one.item].slot, one.release); });
  const auto late = [handed](Link& link, const wire::Reply& reply) {
    const auto* committed = reply.body_as_Committed();
    const bool whole =
        committed != nullptr && committed->codes() != nullptr && committed->codes()->size() == handed->size();
    std::vector<wire::Grants> back;
    for (std::size_t i = 0; i < handed->size(); ++i) {
      const bool done = whole && committed->codes()->Get(static_cast<flatbuffers::uoffset_t>(i)) == 0;
      if (!done && (*handed)[i].second) back.emplace_back((*handed)[i].first, 1);
    }
    if (back.empty()) return;
    link.post([&back](LinkWriter& writer) {
      const auto list = writer.builder().CreateVectorOfStructs(back);
      return wire::CreateRelease(writer.builder(), list);
    });
  };
  const std::uint64_t deadline = line_->deadline_ns();
  Line::give_back(use_);
  auto ticket = use_.link->start(
      [&](LinkWriter& writer) {
        std::vector<wire::Item> items;
        items.reserve(sent.size());
        each([&](const Sent& one) {
          items.emplace_back(one.length, static_cast<std::uint32_t>(one.item), false, one.release);
        });
        const auto list = writer.builder().CreateVectorOfStructs(items);
        return wire::CreateCommit(writer.builder(), id_, list);
      },
      deadline);
  const auto fail_all = [&](const Error& error) {
    each([&](const Sent& one) { statuses[one.place] = no_answer(error); });
  };
  if (!ticket) {
    // kTimeout: nothing was sent. kClosed: perhaps it was; the next link says what is held, and this is left out.
    const bool kept = ticket.error().code == ErrorCode::kTimeout;
    each([&](Sent& one) { kept || !one.release ? keep(one) : gone(one); });
    return fail_all(ticket.error());
  }
  const auto reply = use_.link->wait(*ticket, deadline, late);
  const auto* committed = reply ? (*reply)->body_as_Committed() : nullptr;
  if (committed == nullptr || committed->codes() == nullptr || committed->codes()->size() != sent.size()) {
    each([&](Sent& one) { one.release ? gone(one) : keep(one); });  // nobody knows what was committed
    return fail_all(reply ? Error{.code = ErrorCode::kClosed} : reply.error());
  }
  unsigned error = 0;
  for (unsigned at = 0; at < sent.size(); ++at) settle(sent[at], *committed, at, error, statuses[sent[at].place]);
}

/// One item of an answer. `error` counts the sentences, which stand in the order of the failures.
void RemoteReservation::settle(Sent& sent, const wire::Committed& committed, unsigned at, unsigned& error,
                               Status& status) {
  if (committed.codes()->Get(at) == 0) return gone(sent);
  const unsigned sentence = error++;
  keep(sent);
  // Not open: a reply of before the connection was taken up anew, and the slot is not ours any more.
  if (!items_[sent.item].open || committed.errors() == nullptr || sentence >= committed.errors()->size()) {
    status = no_answer({.code = ErrorCode::kClosed});
    return;
  }
  status = tl::unexpected<Error>(wire::read_error(*committed.errors()->Get(sentence)));
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
