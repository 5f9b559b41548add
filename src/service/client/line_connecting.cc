// How a line comes to its link: greeted with all that this line and its client have of the link before, then the
// session opened. For the first time on the caller's thread, which waits; again on the client's, which does not.
#include "base/try.h"
#include "service/client/line.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace tiercel::service {

void Line::post_hold(Link& link, std::span<const wire::Grants> grants, std::uint64_t slot_bytes) {
  do {
    const auto piece = grants.first(std::min(grants.size(), wire::kMaxBatch));
    grants = grants.subspan(piece.size());
    link.post([&](LinkWriter& writer) {
      const auto list = writer.builder().CreateVectorOfStructs(piece.data(), piece.size());
      return wire::CreateHold(writer.builder(), list, grants.empty(), slot_bytes);
    });
  } while (!grants.empty());
}

// ---- the greeting

Line::Attempt Line::look_back() const {
  Attempt attempt;
  attempt.deadline_ns = deadline_ns();
  const MutexLock lock(mutex_);
  attempt.earlier = held_.lock();
  attempt.earlier_arena = arena_;
  return attempt;
}

Line::Shown Line::show(const Attempt& attempt) const {
  Shown shown;
  if (attempt.earlier) {
    const MutexLock lock(mutex_);
    if (link_) {
      shown.greeting.hello.service = link_->welcome().service;
      shown.greeting.hello.member = link_->welcome().member;
      shown.greeting.hello.token = link_->welcome().token;
    }
  }
  shown.arena = attempt.earlier ? attempt.earlier->arena() : home_->arena();
  if (shown.arena) shown.greeting.arena = shown.arena->fd();
  return shown;
}

void Line::note_refusal(const Attempt& attempt) {
  if (!attempt.refusal.let_go) return;
  const MutexLock lock(mutex_);  // but for what handles hold, the arena goes now
  holdings_ = nullptr;
}

Result<std::shared_ptr<Link>> Line::open_link(Attempt& attempt, bool lost) {
  const Shown shown = show(attempt);
  auto link = home_->open_link(shown.greeting, attempt.deadline_ns, lost, &attempt.refusal);
  if (!link) note_refusal(attempt);
  return link;
}

// ---- the session

Result<std::shared_ptr<Holdings>> Line::make_holdings(Link& link) {
  TIERCEL_TRY_ASSIGN(auto arena, home_->map(link));
  // While something is held, its handles keep the line, and the line keeps the home.
  return std::make_shared<Holdings>(std::move(arena), link.welcome().slots,
                                    [line = shared_from_this()] { line->home_->wake(); });
}

/// There is a link: says what is held, and asks for the session.
Status Line::welcomed(Attempt& attempt) {
  Link& link = *attempt.link;
  const wire::Welcome& welcome = link.welcome();
  // Of this run of the service, or of one that has adopted the arena: what is held goes on.
  const bool same = attempt.earlier && welcome.adopted != 0 && welcome.arena == attempt.earlier_arena;
  if (same) {
    (void)link.take_arena();
    attempt.holdings = std::move(attempt.earlier);
    const Holdings::All held = attempt.holdings->all();
    attempt.epoch = held.epoch;
    post_hold(link, held.grants, slot_bytes_);
  } else {
    attempt.earlier = nullptr;
    TIERCEL_TRY_ASSIGN(attempt.holdings, make_holdings(link));
  }
  attempt.holdings->keep_life(link.take_life());
  attempt.closed = closed();
  if (attempt.closed && !same) {  // what handles still hold belongs to an arena that nobody serves any more
    const MutexLock lock(mutex_);
    held_.reset();
    return fail(ErrorCode::kClosed, "the session is closed");
  }
  if (attempt.closed) return {};
  const auto ask = [this](LinkWriter& writer) { return wire::write_open(writer.builder(), options_); };
  TIERCEL_TRY_ASSIGN(attempt.opening, link.start(ask, 0));  // what the socket does not take is flushed
  return {};
}

Status Line::check_opened(const wire::Reply& reply) {
  if (const auto* error = reply.body_as_Error()) return tl::unexpected<Error>(wire::read_error(*error));
  const auto* opened = reply.body_as_Opened();
  if (opened == nullptr) return fail(ErrorCode::kUnsupported, "the service answers something else");
  if (block_bytes_ == 0) block_bytes_ = opened->block_bytes();
  if (slot_bytes_ == 0) slot_bytes_ = opened->slot_bytes();
  // A service that was restarted with another host.min_slot_bytes has an arena of its own.
  if (block_bytes_ != opened->block_bytes()) {
    return fail(ErrorCode::kUnsupported, "the service sees another block size than before");
  }
  return {};
}

void Line::publish(Attempt& attempt) {
  bool closed_meanwhile = false;
  {
    const MutexLock lock(mutex_);
    link_ = attempt.link;
    arena_ = attempt.link->welcome().arena;
    held_ = attempt.holdings;
    epoch_ = attempt.epoch;
    closed_meanwhile = closed_ && !attempt.closed;
    if (!closed_) holdings_ = attempt.holdings;
  }
  if (attempt.opening) post_report(*attempt.link);
  if (closed_meanwhile) attempt.link->post([](LinkWriter& writer) { return wire::CreateClose(writer.builder()); });
  attempt.link->flush();
}

Status Line::open() {
  Attempt attempt = look_back();
  TIERCEL_TRY_ASSIGN(attempt.link, open_link(attempt, false));
  const std::uint64_t deadline =
      home_->options().start ? deadline_ns() : attempt.deadline_ns;  // a start takes its time
  TIERCEL_TRY(welcomed(attempt));
  TIERCEL_TRY_ASSIGN(const auto* reply,
                     attempt.link->wait(attempt.opening, deadline, [](Link&, const wire::Reply&) {}));
  TIERCEL_TRY(check_opened(*reply));
  publish(attempt);
  return {};
}

// ---- again

/// Sets the link, once it is there.
Status Line::advance_handshake() {
  auto link = attempt_->handshake ? attempt_->handshake->advance() : Result<std::shared_ptr<Link>>(nullptr);
  if (!attempt_->handshake) {
    const Shown shown = show(*attempt_);
    auto begun = home_->greet(shown.greeting);
    if (begun) {
      attempt_->handshake.emplace(std::move(*begun));
    } else {
      link = tl::unexpected<Error>(std::move(begun).error());
    }
  } else if (!link) {
    attempt_->refusal = attempt_->handshake->refusal();
    note_refusal(*attempt_);
  }
  // For what is still held of a closed session a service that is gone need not come back. A start is waited for: there
  // is nobody to whom the other lines could connect meanwhile.
  if (!link && !closed() && home_->may_start_after(link.error())) {
    link = open_link(*attempt_, true);
    attempt_->deadline_ns = deadline_ns();
  }
  if (!link) return tl::unexpected<Error>(std::move(link).error());
  if (!*link) return {};
  attempt_->handshake.reset();
  attempt_->link = std::move(*link);
  return welcomed(*attempt_);
}

/// Begins to connect again, or goes on with it as far as it can without waiting for the service. False: not yet there.
Result<bool> Line::advance(std::uint64_t now) {
  if (!attempt_) attempt_ = look_back();
  if (!attempt_->link) TIERCEL_TRY(advance_handshake());
  if (attempt_->link) {
    Link& link = *attempt_->link;
    link.flush();
    if (!attempt_->opening || link.poll(attempt_->opening)) {
      if (attempt_->opening) {
        TIERCEL_TRY_ASSIGN(const auto* reply, link.wait(attempt_->opening, 0, nullptr));
        TIERCEL_TRY(check_opened(*reply));
      }
      publish(*attempt_);
      return true;
    }
  }
  if (now < attempt_->deadline_ns) return false;
  return fail(ErrorCode::kTimeout, fmt::format("the service on {} does not answer", home_->options().socket));
}

}  // namespace tiercel::service
