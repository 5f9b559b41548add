#include "service/client/remote_load.h"

#include <algorithm>
#include <new>
#include <utility>

namespace tiercel::service {
namespace {

std::uint64_t now_ns() {
  static const SteadyClock kClock;
  return kClock.now_ns();
}

/// What a service that works needs to answer after the deadline; then it counts as one that does not answer.
constexpr std::uint64_t kGraceNs = 100'000'000;
/// How long a question may wait for room in the socket: whoever asks looks again soon.
constexpr std::uint64_t kAskNs = 1'000'000;

}  // namespace

RemoteLoad::RemoteLoad(std::shared_ptr<Line> line, Line::Use use, Link::TicketPtr ticket, std::size_t blocks,
                       std::uint64_t deadline_ns)
    : line_(std::move(line)),
      use_(std::move(use)),
      ticket_(std::move(ticket)),
      blocks_(blocks),
      until_ns_(deadline_after(deadline_after(now_ns(), deadline_ns), kGraceNs)) {}

RemoteLoad::~RemoteLoad() {
  if (!finished_) give_up();
}

/// The answer will be undone when it comes, and is not waited for.
void RemoteLoad::give_up() noexcept {
  finished_ = true;
  try {
    use_.link->post([this](LinkWriter& writer) { return wire::CreateCancelLoad(writer.builder(), ticket_->id()); });
    use_.link->abandon(ticket_, Line::undo_late);
    if (part_) use_.link->abandon(std::exchange(part_, nullptr), Line::undo_late);
    use_.link->flush();
  } catch (const std::bad_alloc&) {
    use_.link->fail();  // the service sees it, and so does the line
  }
}

void RemoteLoad::finish(const wire::Reply& reply) {
  if (part_ && use_.link->poll(part_)) take_part();  // it came first
  if (finished_) return;                             // and was the last that could be taken
  if (part_) use_.link->abandon(std::exchange(part_, nullptr), Line::undo_late);  // the load was not open any more
  const auto* loaded = reply.body_as_Loaded();
  finished_ = true;
  if (loaded == nullptr || loaded->outcome() > kLoadOutcomes - 1) return;
  outcome_ = static_cast<LoadOutcome>(loaded->outcome());
  (void)take_places(*loaded);
}

/// False: not all; the outcome says why.
bool RemoteLoad::take_places(const wire::Loaded& loaded) {
  if (loaded.blocks() == nullptr) return true;
  try {
    refs_.reserve(blocks_);  // what so_far() has shown stays where it is
    for (const wire::Place* place : *loaded.blocks()) {
      const auto grant =
          refs_.size() == blocks_ ? Holdings::Grant::kOutside : use_.holdings->granted(*place, use_.epoch);
      if (grant != Holdings::Grant::kTaken) {
        outcome_ = LoadOutcome::kClosed;
        if (grant == Holdings::Grant::kOutside) use_.link->fail();  // it does not do what the protocol says
        return false;
      }
      refs_.emplace_back(use_.holdings->adopt(place->slot()), use_.holdings->bytes(*place));
    }
    return true;
  } catch (const std::bad_alloc&) {
    outcome_ = LoadOutcome::kBusy;
    use_.link->fail();  // what it granted and we could not note ends with it
    return false;
  }
}

/// Of a part that is here. After one that could not be taken nothing that follows it may count: the load ends.
void RemoteLoad::take_part() noexcept {
  const Link::TicketPtr part = std::exchange(part_, nullptr);  // the reply lives as long as it
  const auto reply = use_.link->wait(part, 0, Line::undo_late);
  if (!reply) return;
  const auto* loaded = (*reply)->body_as_Loaded();
  if (loaded != nullptr && take_places(*loaded)) return;
  if (loaded == nullptr) outcome_ = LoadOutcome::kClosed;
  const LoadOutcome why = outcome_;
  give_up();
  outcome_ = why;
}

void RemoteLoad::ask_for_part() {
  if (use_.link->welcome().version < wire::kSoFarVersion) return;
  auto asked =
      use_.link->start([this](LinkWriter& writer) { return wire::CreateSoFar(writer.builder(), ticket_->id()); },
                       deadline_after(now_ns(), kAskNs));
  if (asked) part_ = std::move(*asked);
}

std::span<const BlockRef> RemoteLoad::so_far() {
  if (done()) return refs_;
  if (part_ && use_.link->poll(part_)) take_part();
  if (!finished_ && !part_) ask_for_part();
  return refs_;
}

bool RemoteLoad::done() {
  if (!finished_ && use_.link->poll(ticket_)) {
    (void)wait();
  } else if (!finished_ && now_ns() >= until_ns_) {
    outcome_ = LoadOutcome::kDeadline;
    give_up();
  }
  return finished_;
}

std::span<const BlockRef> RemoteLoad::wait() {
  if (finished_) return refs_;
  const auto reply = use_.link->wait(ticket_, until_ns_, Line::undo_late);
  if (reply) {
    finish(**reply);
  } else {
    finished_ = true;  // a late answer is undone
    if (part_) use_.link->abandon(std::exchange(part_, nullptr), Line::undo_late);
    outcome_ = reply.error().code == ErrorCode::kTimeout ? LoadOutcome::kDeadline : LoadOutcome::kClosed;
  }
  return refs_;
}

std::vector<BlockRef> RemoteLoad::take() {
  (void)wait();
  return std::exchange(refs_, {});
}

}  // namespace tiercel::service
