#include "service/client/line.h"

#include "base/log.h"
#include "base/try.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace tiercel::service {
namespace {

std::uint64_t now_ns() {
  static const SteadyClock kClock;
  return kClock.now_ns();
}

/// Tells the service what is still held; whatever else it had granted ends.
void post_hold(Link& link, std::span<const wire::Grants> grants, std::uint64_t slot_bytes) {
  do {
    const auto piece = grants.first(std::min(grants.size(), wire::kMaxBatch));
    grants = grants.subspan(piece.size());
    link.post([&](LinkWriter& writer) {
      const auto list = writer.builder().CreateVectorOfStructs(piece.data(), piece.size());
      return wire::CreateHold(writer.builder(), list, grants.empty(), slot_bytes);
    });
  } while (!grants.empty());
}

void post_release(Link& link, std::span<const wire::Grants> grants) {
  while (!grants.empty()) {
    const auto piece = grants.first(std::min(grants.size(), wire::kMaxBatch));
    link.post([piece](LinkWriter& writer) {
      const auto list = writer.builder().CreateVectorOfStructs(piece.data(), piece.size());
      return wire::CreateRelease(writer.builder(), list);
    });
    grants = grants.subspan(piece.size());
  }
}

void post_release(Link& link, const flatbuffers::Vector<const wire::Place*>* places) {
  if (places == nullptr || places->size() == 0) return;
  std::vector<wire::Grants> grants;
  for (const wire::Place* place : *places) grants.emplace_back(place->slot(), 1);
  post_release(link, grants);
}

}  // namespace

Result<std::shared_ptr<Link>> Line::Home::open_link(const Link::Greeting& greeting, std::uint64_t deadline_ns, bool,
                                                    bool* let_go) {
  return Link::open(options().socket, greeting, deadline_ns, let_go);
}

Line::Line(std::shared_ptr<Home> home, const SessionOptions& options, std::uint64_t seed)
    : home_(std::move(home)), options_(options), random_(seed) {}

/// Nothing is held any more: not by a handle (it would hold the line), and not by a reply that nobody took.
Line::~Line() {
  const MutexLock lock(mutex_);
  if (!link_ || link_->broken()) return;
  try {
    post_hold(*link_, {}, slot_bytes_);
    link_->flush();
  } catch (const std::bad_alloc&) {  // it ends with this process
  }
}

std::uint64_t Line::deadline_ns() const noexcept {
  return now_ns() + static_cast<std::uint64_t>(std::chrono::nanoseconds(home_->options().call_deadline).count());
}

// ---- connecting

Status Line::open_session(Link& link, std::uint64_t deadline_ns) {
  TIERCEL_TRY_ASSIGN(
      const auto ticket,
      link.start([this](LinkWriter& writer) { return wire::write_open(writer.builder(), options_); }, deadline_ns));
  TIERCEL_TRY_ASSIGN(const auto* reply, link.wait(ticket, deadline_ns, [](Link&, const wire::Reply&) {}));
  if (const auto* error = reply->body_as_Error()) return tl::unexpected<Error>(wire::read_error(*error));
  const auto* opened = reply->body_as_Opened();
  if (opened == nullptr) return fail(ErrorCode::kUnsupported, "the service answers something else");
  if (block_bytes_ == 0) block_bytes_ = opened->block_bytes();
  if (slot_bytes_ == 0) slot_bytes_ = opened->slot_bytes();
  // A service that was restarted with another host.min_slot_bytes has an arena of its own.
  if (block_bytes_ != opened->block_bytes()) {
    return fail(ErrorCode::kUnsupported, "the service sees another block size than before");
  }
  return {};
}

/// Greets with all that this line and its client have of the connection before.
Result<std::shared_ptr<Link>> Line::call(const std::shared_ptr<Holdings>& earlier, const Call& call) {
  Link::Greeting greeting;
  if (earlier) {
    const MutexLock lock(mutex_);
    if (link_) {
      greeting.hello.service = link_->welcome().service;
      greeting.hello.member = link_->welcome().member;
      greeting.hello.token = link_->welcome().token;
    }
  }
  const std::shared_ptr<const Mapping> arena = earlier ? earlier->arena() : home_->arena();
  if (arena) greeting.arena = arena->fd();
  bool let_go = false;
  // For what is still held of a closed session a service that is gone need not come back.
  auto link = closed() ? Link::open(home_->options().socket, greeting, call.deadline_ns, &let_go)
                       : home_->open_link(greeting, call.deadline_ns, call.lost, &let_go);
  if (!link && let_go) {  // but for what handles hold, the arena goes now
    const MutexLock lock(mutex_);
    holdings_ = nullptr;
  }
  return link;
}

Result<std::shared_ptr<Holdings>> Line::make_holdings(Link& link) {
  TIERCEL_TRY_ASSIGN(auto arena, home_->map(link));
  // While something is held, its handles keep the line, and the line keeps the home.
  return std::make_shared<Holdings>(std::move(arena), link.welcome().slots,
                                    [line = shared_from_this()] { line->home_->wake(); });
}

Result<Line::Use> Line::connect(std::uint64_t deadline_ns, bool lost) {
  std::shared_ptr<Holdings> earlier;
  std::uint64_t earlier_arena = 0;
  {
    const MutexLock lock(mutex_);
    earlier = held_.lock();
    earlier_arena = arena_;
  }
  TIERCEL_TRY_ASSIGN(auto link, call(earlier, {.deadline_ns = deadline_ns, .lost = lost}));
  if (home_->options().start) deadline_ns = this->deadline_ns();  // a start may have come before
  const wire::Welcome& welcome = link->welcome();
  // Of this run of the service, or of one that has adopted the arena: what is held goes on.
  const bool same = earlier && welcome.adopted != 0 && welcome.arena == earlier_arena;
  std::shared_ptr<Holdings> holdings = same ? earlier : nullptr;
  std::uint64_t epoch = 0;
  if (same) {
    (void)link->take_arena();
    const Holdings::All held = earlier->all();
    epoch = held.epoch;
    post_hold(*link, held.grants, slot_bytes_);
  } else {
    earlier = nullptr;
    TIERCEL_TRY_ASSIGN(holdings, make_holdings(*link));
  }
  holdings->keep_life(link->take_life());
  const bool closed = this->closed();
  if (closed && !same) {  // what handles still hold belongs to an arena that nobody serves any more
    const MutexLock lock(mutex_);
    held_.reset();
    return fail(ErrorCode::kClosed, "the session is closed");
  }
  if (!closed) TIERCEL_TRY(open_session(*link, deadline_ns));
  bool closed_meanwhile = false;
  {
    const MutexLock lock(mutex_);
    link_ = link;
    arena_ = welcome.arena;
    held_ = holdings;
    epoch_ = epoch;
    closed_meanwhile = closed_ && !closed;
    if (!closed_) holdings_ = holdings;
  }
  if (closed_meanwhile) link->post([](LinkWriter& writer) { return wire::CreateClose(writer.builder()); });
  link->flush();
  return Use{.link = std::move(link), .holdings = std::move(holdings), .epoch = epoch};
}

Status Line::open() {
  TIERCEL_TRY(connect(deadline_ns(), false));
  return {};
}

// ---- use

std::optional<Line::Use> Line::use() {
  const MutexLock lock(mutex_);
  if (closed_ || !link_ || !holdings_ || link_->broken()) return std::nullopt;
  return Use{.link = link_, .holdings = holdings_, .epoch = epoch_};
}

/// On a link that breaks this is lost, and not needed: what the next link says is held leaves it out.
void Line::give_back(const Use& use) {
  if (!use.link->broken()) post_release(*use.link, use.holdings->take_returned(use.epoch));
}

void Line::undo_late(Link& link, const wire::Reply& reply) {
  if (const auto* loaded = reply.body_as_Loaded()) post_release(link, loaded->blocks());
  if (const auto* granted = reply.body_as_Granted()) post_release(link, granted->places());
  if (const auto* reserved = reply.body_as_ReservedBlocks()) {
    post_release(link, reserved->places());
    link.post([number = reserved->reservation()](LinkWriter& writer) {
      return wire::CreateEndReservation(writer.builder(), number);
    });
  }
  if (const auto* taken = reply.body_as_PinTaken()) {
    link.post([pin = taken->pin()](LinkWriter& writer) { return wire::CreateUnpin(writer.builder(), pin); });
  }
}

void Line::close() noexcept {
  std::shared_ptr<Link> link;
  std::shared_ptr<Holdings> holdings;
  std::uint64_t epoch = 0;
  {
    const MutexLock lock(mutex_);
    if (std::exchange(closed_, true)) return;
    link = link_;
    holdings = std::exchange(holdings_, nullptr);
    epoch = epoch_;
  }
  if (link && !link->broken() && holdings) {
    try {
      // Waited for: what comes after, from whomever, finds the session gone.
      (void)ask({.link = link, .holdings = holdings, .epoch = epoch},
                [](LinkWriter& writer) { return wire::CreateClose(writer.builder()); });
    } catch (const std::bad_alloc&) {
      link->fail();  // the service sees it too
    }
  }
  home_->wake();
}

bool Line::closed() const {
  const MutexLock lock(mutex_);
  return closed_;
}

bool Line::sync() {
  Use use;
  {
    const MutexLock lock(mutex_);
    use = {.link = link_, .holdings = held_.lock(), .epoch = epoch_};
  }
  if (!use.link || !use.holdings || use.link->broken()) return true;
  return ask(use, [](LinkWriter& writer) { return wire::CreatePing(writer.builder()); }).has_value();
}

// ---- maintenance

std::uint64_t Line::maintain(std::uint64_t now) {
  std::shared_ptr<Link> link;
  std::shared_ptr<Holdings> holdings;
  std::uint64_t epoch = 0;
  bool closed = false;
  {
    const MutexLock lock(mutex_);
    link = link_;
    holdings = held_.lock();
    epoch = epoch_;
    closed = closed_;
  }
  if (link && !link->broken()) {
    if (holdings) give_back({.link = link, .holdings = holdings, .epoch = epoch});
    if (link->has_orphans()) link->drain();
    link->flush();
    failures_ = 0;
    retry_ns_ = 0;
    return UINT64_MAX;
  }
  if (closed && (!holdings || holdings->empty())) return UINT64_MAX;
  if (retry_ns_ == 0) {  // just broken: not all clients at once
    const auto pause = static_cast<std::uint64_t>(std::chrono::nanoseconds(home_->options().reconnect_pause).count());
    const std::uint64_t base = pause << std::min(failures_, 5U);
    retry_ns_ = now + base + random_.below(base / 2 + 1);
  }
  if (now < retry_ns_) return retry_ns_;
  retry_ns_ = 0;
  const auto connected = connect(deadline_ns(), true);
  if (connected) {
    log_line(LogLevel::kInfo, "client_reconnected",
             fmt::format("connected again to the service on {}", home_->options().socket));
    return now;
  }
  ++failures_;
  log_line(LogLevel::kWarn, "client_reconnect",
           fmt::format("{}: {}", home_->options().socket, connected.error().message));
  return maintain(now_ns());
}

bool Line::idle() {
  const MutexLock lock(mutex_);
  return closed_ && held_.expired();
}

void Line::lost(int socket) {
  std::shared_ptr<Link> link;
  {
    const MutexLock lock(mutex_);
    if (link_ && link_->socket() == socket) link = link_;
  }
  if (!link) return;
  link->drain();  // replies that came before the end
  link->fail();
}

std::optional<Line::Watch> Line::watch() {
  std::shared_ptr<Link> link;
  {
    const MutexLock lock(mutex_);
    link = link_;
  }
  if (!link || link->broken()) return std::nullopt;
  return Watch{.socket = link->socket(), .replies = link->has_orphans()};
}

}  // namespace tiercel::service
