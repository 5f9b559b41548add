#include "service/client/line.h"

#include "base/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

namespace tiercel::service {
namespace {

std::uint64_t now_ns() {
  static const SteadyClock kClock;
  return kClock.now_ns();
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

/// The latest, whichever thread posts it.
void Line::post_report(Link& link) const {
  {
    const MutexLock lock(report_mutex_);
    if (pool_ == KvPool{} && prefill_ == 0) return;
  }
  link.post([this](LinkWriter& writer) {
    const MutexLock lock(report_mutex_);
    return wire::CreatePool(writer.builder(), pool_.used_bytes, pool_.free_bytes, pool_.total_bytes, prefill_);
  });
}

void Line::send_report() {
  const auto use = this->use();
  if (!use) return;  // with the next link
  post_report(*use->link);
  nudge();
}

void Line::report_pool(const KvPool& pool) {
  {
    const MutexLock lock(report_mutex_);
    pool_ = pool;
  }
  send_report();
}

void Line::report_prefill(double bytes_per_second) {
  {
    const MutexLock lock(report_mutex_);
    prefill_ = bytes_per_second;
  }
  send_report();
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
  if (closed && (!holdings || holdings->empty())) {
    attempt_.reset();
    return UINT64_MAX;
  }
  if (!attempt_ && retry_ns_ == 0) {  // just broken: not all clients at once
    const auto pause = static_cast<std::uint64_t>(std::chrono::nanoseconds(home_->options().reconnect_pause).count());
    const std::uint64_t base = pause << std::min(failures_, 5U);
    retry_ns_ = now + base + random_.below(base / 2 + 1);
  }
  if (now < retry_ns_) return retry_ns_;
  retry_ns_ = 0;
  Result<bool> connected;
  try {
    connected = advance(now);
  } catch (const std::bad_alloc&) {
    attempt_.reset();
    throw;
  }
  if (connected && !*connected) return attempt_->deadline_ns;
  const bool for_now = attempt_->refusal.for_now;
  attempt_.reset();
  if (connected) {
    log_line(LogLevel::kInfo, "client_reconnected",
             fmt::format("connected again to the service on {}", home_->options().socket));
    return now;
  }
  failures_ = for_now ? 0 : failures_ + 1;  // a service that is about to serve is asked often
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
  if (attempt_) {
    if (attempt_->handshake) return Watch{.socket = attempt_->handshake->socket(), .replies = true};
    return Watch{.socket = attempt_->link->socket(), .replies = true, .unsent = attempt_->link->has_unsent()};
  }
  std::shared_ptr<Link> link;
  {
    const MutexLock lock(mutex_);
    link = link_;
  }
  if (!link || link->broken()) return std::nullopt;
  return Watch{.socket = link->socket(), .replies = link->has_orphans()};
}

}  // namespace tiercel::service
