#include "service/client/link.h"

#include "base/try.h"
#include "service/client/handshake.h"

#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

namespace tiercel::service {
namespace {

constexpr std::size_t kInline = 512;  // hashes inside a request; more go ahead of it
constexpr int kAgainMs = 20;
constexpr std::size_t kMostUnsent = std::size_t{64} << 20U;

std::uint64_t now_ns() {
  static const SteadyClock kClock;
  return kClock.now_ns();
}

/// Milliseconds until the deadline, rounded up, for poll().
int patience(std::uint64_t deadline_ns) {
  const std::uint64_t now = now_ns();
  return deadline_ns <= now ? 0
                            : static_cast<int>(std::min<std::uint64_t>((deadline_ns - now) / 1'000'000 + 1, 60'000));
}

/// True: something is there, or the other end is gone.
bool wait_for(int socket, short events, std::uint64_t deadline_ns) {
  pollfd one{.fd = socket, .events = events, .revents = 0};
  for (;;) {
    const int ready = ::poll(&one, 1, patience(deadline_ns));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return true;  // what is read or written next says what is wrong
    if (ready == 0 && deadline_ns <= now_ns()) return false;
  }
}

/// That this process may use.
unsigned processors() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;  // more than a set holds: never mind
  return static_cast<unsigned>(CPU_COUNT(&set));
}

tl::unexpected<Error> went_away() { return fail(ErrorCode::kClosed, "the service went away"); }

}  // namespace

// ---- life

Result<std::shared_ptr<Link>> Link::open(const std::string& path, const Greeting& greeting, std::uint64_t deadline_ns,
                                         Refusal* refusal) {
  TIERCEL_TRY_ASSIGN(Handshake handshake, Handshake::begin(path, greeting));
  for (;;) {
    auto link = handshake.advance();
    if (!link && refusal != nullptr) *refusal = handshake.refusal();
    if (!link || *link) return link;
    if (!wait_for(handshake.socket(), POLLIN, deadline_ns)) {
      return tiercel::fail(ErrorCode::kTimeout, fmt::format("the service on {} does not answer", path));
    }
  }
}

Result<std::shared_ptr<Link>> Link::open_patiently(const std::string& path, const Greeting& greeting,
                                                   std::uint64_t deadline_ns, Refusal* refusal) {
  std::optional<Error> why;  // it was sent away before
  for (;;) {
    Refusal said;
    auto link = open(path, greeting, deadline_ns, &said);
    if (refusal != nullptr) *refusal = said;
    if (!link && said.for_now && now_ns() < deadline_ns) {
      why = std::move(link).error();
      (void)::poll(nullptr, 0, std::min(patience(deadline_ns), kAgainMs));
      continue;
    }
    const bool unanswered = !link && link.error().code == ErrorCode::kTimeout;
    if (unanswered && why) return tl::unexpected<Error>(std::move(*why));
    return link;
  }
}

Link::Link(FileDescriptor socket, const wire::Welcome& welcome, Mapping ring, FileDescriptor arena, FileDescriptor life)
    : socket_(std::move(socket)),
      welcome_(welcome),
      arena_(std::move(arena)),
      life_(std::move(life)),
      ring_(std::move(ring)),
      book_(welcome.kept_chains, welcome.kept_hashes),
      pace_(processors()) {}

Link::~Link() {
  if (::getpid() == process_) (void)::shutdown(socket_.get(), SHUT_RDWR);  // a forked child may hold it open
}

void Link::fail() noexcept {
  broken_.store(true, std::memory_order_release);
  (void)::shutdown(socket_.get(), SHUT_RDWR);  // whoever reads or writes comes back
  std::unordered_map<std::uint64_t, TicketPtr> tickets;
  {
    const MutexLock lock(mutex_);
    tickets.swap(tickets_);
    overdue_ = 0;
    for (const auto& [_, ticket] : tickets) ticket->done_ = ticket->broken_ = true;
  }
  changed_.notify_all();
}

bool Link::has_orphans() const {
  const MutexLock lock(mutex_);
  return std::ranges::any_of(tickets_, [](const auto& entry) { return entry.second->late_ != nullptr; });
}

bool Link::has_unsent() const {
  const MutexLock out(out_mutex_);
  return !out_.empty();
}

// ---- writing

void Link::add_frame(Builder& builder, std::uint64_t id, const Body& body) {
  builder.Finish(wire::CreateRequest(builder, id, body.type, body.offset));
  out_.add_frame(std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize())));
  builder.Clear();
}

/// What the socket takes now. kTimeout: the rest has to wait.
Status Link::send_some() {
  while (!out_.empty()) {
    const auto bytes = out_.pending();
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      out_.sent(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return tiercel::fail(ErrorCode::kTimeout, "the service takes nothing");
    } else if (errno != EINTR) {
      return went_away();
    }
  }
  return {};
}

/// All, by the deadline. While it waits others may write, and post what they give back.
Status Link::send_out(std::uint64_t deadline_ns) {
  for (;;) {
    Status sent;
    {
      const MutexLock out(out_mutex_);
      sent = send_some();
    }
    if (sent || sent.error().code != ErrorCode::kTimeout || !wait_for(socket_.get(), POLLOUT, deadline_ns)) return sent;
  }
}

Result<Link::TicketPtr> Link::start_with(const Write& write, std::uint64_t deadline_ns) {
  if (broken()) return went_away();
  bool overdue = false;
  {
    const MutexLock lock(mutex_);
    overdue = overdue_ > 0;
  }
  if (overdue) {
    drain();
    const MutexLock lock(mutex_);
    if (overdue_ > 0) return tiercel::fail(ErrorCode::kTimeout, "the service does not answer");
  }
  auto ticket = std::make_shared<Ticket>();
  ticket->id_ = next_id_.fetch_add(1, std::memory_order_relaxed);
  Status sent;
  try {
    const MutexLock out(out_mutex_);
    builder_.Clear();
    const Body body = write(*this);
    {
      const MutexLock lock(mutex_);
      tickets_.emplace(ticket->id_, ticket);
    }
    add_frame(builder_, ticket->id_, body);
    sent = send_some();
  } catch (const std::bad_alloc&) {
    fail();  // what the service was told of chains and what the book says may differ
    throw;
  }
  if (!sent && sent.error().code == ErrorCode::kTimeout) sent = send_out(deadline_ns);
  if (!sent && sent.error().code == ErrorCode::kClosed) fail();
  if (broken()) {
    fail();  // also what was added after the first
    return went_away();
  }
  return ticket;  // of what is not sent yet, the wait ends with the deadline
}

void Link::post_with(const Write& write) {
  if (broken()) return;
  const MutexLock out(out_mutex_);
  builder_.Clear();
  add_frame(builder_, 0, write(*this));
}

void Link::flush() {
  Status sent;
  bool unread = false;
  {
    const MutexLock out(out_mutex_);
    sent = send_some();
    unread = out_.pending().size() > kMostUnsent;
  }
  if (unread || (!sent && sent.error().code == ErrorCode::kClosed)) fail();
}

void Link::keep(std::uint32_t handle, std::size_t known, std::span<const BlockHash> hashes) {
  keep_builder_.Clear();
  const auto written = keep_builder_.CreateVectorOfStructs(wire::as_wire(hashes), hashes.size());
  const auto chain = wire::CreateChain(keep_builder_, 0, handle, static_cast<std::uint32_t>(known), 0, 0, written);
  const auto message = wire::CreateKeep(keep_builder_, chain);
  add_frame(keep_builder_, 0, {.type = wire::RequestBody::Keep, .offset = message.Union()});
}

/// False: the ring is too small, or holds what the service has not copied yet.
bool Link::keep_in_ring(std::uint32_t handle, std::size_t known, std::span<const BlockHash> hashes) {
  if (hashes.size_bytes() > ring_.bytes()) return false;
  std::uint64_t nobody = 0;
  const std::uint64_t id = next_id_.fetch_add(1, std::memory_order_relaxed);
  if (!ring_user_.compare_exchange_strong(nobody, id, std::memory_order_acq_rel)) return false;
  std::memcpy(ring_.data(), hashes.data(), hashes.size_bytes());
  keep_builder_.Clear();
  const auto chain = wire::CreateChain(keep_builder_, 0, handle, static_cast<std::uint32_t>(known), 0,
                                       static_cast<std::uint32_t>(hashes.size()));
  const auto message = wire::CreateKeep(keep_builder_, chain);
  add_frame(keep_builder_, id, {.type = wire::RequestBody::Keep, .offset = message.Union()});
  return true;
}

flatbuffers::Offset<wire::Chain> Link::chain(std::string_view tenant, std::span<const BlockHash> hashes) {
  const ChainBook::Place place = book_.put(hashes);
  for (const std::uint32_t handle : place.give_up) keep(handle, 0, {});
  std::size_t known = place.known;
  if (hashes.size() - known > kInline) {
    if (keep_in_ring(place.handle, known, hashes.subspan(known))) {
      known = hashes.size();
    }
    while (hashes.size() - known > kInline) {
      const std::size_t piece = std::min(wire::kMaxInlineHashes, hashes.size() - known);
      keep(place.handle, known, hashes.subspan(known, piece));
      known += piece;
    }
  }
  const auto rest = hashes.subspan(known);
  const auto name = builder_.CreateString(tenant);
  const auto written = rest.empty() ? 0 : builder_.CreateVectorOfStructs(wire::as_wire(rest), rest.size());
  return wire::CreateChain(builder_, name, place.handle, static_cast<std::uint32_t>(known), 0, 0, written);
}

// ---- reading

void Link::dispatch(std::span<const std::byte> payload) {
  const wire::Reply* reply = wire::verified_reply(payload);
  if (reply == nullptr) return fail();
  std::uint64_t id = reply->id();
  if (ring_user_.compare_exchange_strong(id, 0, std::memory_order_acq_rel)) return;
  TicketPtr ticket;
  {
    const MutexLock lock(mutex_);
    const auto found = tickets_.find(reply->id());
    if (found == tickets_.end()) return;
    ticket = found->second;
    tickets_.erase(found);
    if (ticket->overdue_) --overdue_;
    if (!ticket->late_) {
      ticket->payload_.resize((payload.size() + 7) / 8);
      std::memcpy(ticket->payload_.data(), payload.data(), payload.size());
      ticket->reply_ = flatbuffers::GetRoot<wire::Reply>(ticket->payload_.data());
      ticket->done_ = true;
      return;  // its waiter is woken by whoever read this
    }
  }
  ticket->late_(*this, *reply);
}

/// Of the one who reads: waits for bytes until the deadline and handles them. False: none came.
bool Link::read_or_throw(std::uint64_t deadline_ns) {
  const std::uint64_t begin = now_ns();
  const std::uint64_t look_until = std::min(deadline_ns, begin + pace_.spin_ns());
  for (;;) {
    const auto room = in_.room();
    const ssize_t got = ::recv(socket_.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (got > 0) {
      if (deadline_ns != 0) pace_.waited(now_ns() - begin);
      in_.filled(static_cast<std::size_t>(got));
      for (;;) {
        auto payload = in_.next();
        if (!payload) {
          fail();
          return true;
        }
        if (!*payload) return true;
        dispatch(**payload);
      }
    }
    if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
      fail();
      return true;
    }
    if (errno == EINTR) continue;
    if (deadline_ns == 0) return false;
    if (now_ns() < look_until) continue;
    if (!wait_for(socket_.get(), POLLIN, deadline_ns)) {
      pace_.waited(now_ns() - begin);
      return false;
    }
  }
}

bool Link::read_some(std::uint64_t deadline_ns) noexcept {
  try {
    return read_or_throw(deadline_ns);
  } catch (const std::bad_alloc&) {
    fail();
    return true;
  }
}

Result<const wire::Reply*> Link::wait(const TicketPtr& ticket, std::uint64_t deadline_ns, Late late) {
  MutexLock lock(mutex_);
  while (!ticket->done_) {
    if (!reading_) {
      reading_ = true;
      lock.unlock();
      const bool came = read_some(deadline_ns);
      lock.lock();
      reading_ = false;
      if (waiting_ > 0) changed_.notify_all();  // for their replies, or to read on
      if (came || ticket->done_) continue;
    } else {
      ++waiting_;
      const std::uint64_t now = now_ns();
      const auto left =
          std::chrono::nanoseconds(deadline_ns > now ? std::min<std::uint64_t>(deadline_ns - now, 1'000'000'000) : 0);
      changed_.wait_for(lock.native(), left);
      --waiting_;
      if (ticket->done_ || now_ns() < deadline_ns) continue;
    }
    ticket->late_ = std::move(late);
    ticket->overdue_ = true;
    ++overdue_;
    return tiercel::fail(ErrorCode::kTimeout, "the service has not answered in time");
  }
  if (ticket->broken_) return went_away();
  return ticket->reply_;
}

bool Link::poll(const TicketPtr& ticket) {
  {
    const MutexLock lock(mutex_);
    if (ticket->done_) return true;
  }
  drain();
  const MutexLock lock(mutex_);
  return ticket->done_;
}

void Link::drain() {
  MutexLock lock(mutex_);
  if (reading_ || broken()) return;
  reading_ = true;
  lock.unlock();
  (void)read_some(0);
  lock.lock();
  reading_ = false;
  if (waiting_ > 0) changed_.notify_all();
}

void Link::abandon(const TicketPtr& ticket, Late late) {
  const wire::Reply* here = nullptr;
  {
    const MutexLock lock(mutex_);
    if (ticket->broken_) return;
    if (ticket->done_) {
      here = ticket->reply_;
    } else {
      ticket->late_ = std::move(late);
      return;
    }
  }
  late(*this, *here);
}

}  // namespace tiercel::service
