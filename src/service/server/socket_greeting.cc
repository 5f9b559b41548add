// Who comes in: callers are heard, checked and welcomed as members, on the first lane's thread.
#include "base/log.h"
#include "base/try.h"
#include "service/server/socket_server.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <utility>

namespace tiercel::service {
namespace {

constexpr std::uint64_t kAcceptPauseNs = 100'000'000;
constexpr std::uint64_t kArenaPatienceNs = 100'000'000;  // of a caller that waits for an arena; then it is told why
constexpr std::uint64_t kMembersOfEpoch = std::uint64_t{1} << 32U;

std::uint64_t random_number() {
  std::random_device entropy;
  return (std::uint64_t{entropy()} << 32U | entropy()) | 1U;  // never 0
}

}  // namespace

void SocketServer::accept_callers() {
  for (;;) {
    FileDescriptor socket(accept4(listening_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      if (errno == EMFILE || errno == ENFILE) {
        log_line(LogLevel::kError, "service_descriptors",
                 fmt::format("a caller was not accepted: {} (raise the limit of open files, LimitNOFILE of the unit)",
                             strerror(errno)));
        accept_again_ns_ = deadline_after(core_->clock().now_ns(), kAcceptPauseNs);
        lanes_[0]->reactor->unwatch(listening_.socket.get());
      }
      return;
    }
    const int fd = socket.get();
    const std::uint64_t until =
        deadline_after(core_->clock().now_ns(), static_cast<std::uint64_t>(options_.greeting.count()));
    greetings_.emplace(fd, Greeting{.socket = std::move(socket), .until_ns = until});
    if (connected_.load(std::memory_order_relaxed) + greetings_.size() > options_.connections) {
      refuse(fd, {.code = ErrorCode::kLimit,
                  .message = fmt::format("service.connections: {} processes are connected, which is the limit",
                                         options_.connections)});
      continue;
    }
    const Status watched =
        lanes_[0]->reactor->watch(fd, EPOLLIN, [this, fd](std::uint32_t events) { hear(fd, events); });
    if (!watched) greetings_.erase(fd);
  }
}

void SocketServer::refuse(int socket, const Error& error, Then then) {
  wire::Welcome no = wire::refusal(error);
  no.let_go = then == Then::kLetGo ? 1 : 0;
  no.for_now = then == Then::kAskAgain ? 1 : 0;
  (void)wire::send_with_descriptors(socket, std::as_bytes(std::span(&no, 1)), {});
  lanes_[0]->reactor->unwatch(socket);
  greetings_.erase(socket);
  if (then == Then::kAskAgain) return;  // it is still waiting
  refused_.fetch_add(1, std::memory_order_relaxed);
  log_line(LogLevel::kWarn, "service_refused", fmt::format("a caller was refused: {}", error.message));
}

void SocketServer::hear(int socket, std::uint32_t) {
  const auto found = greetings_.find(socket);
  if (found == greetings_.end()) return;
  Greeting& greeting = found->second;
  wire::Hello hello;
  auto received = wire::receive_with_descriptors(socket, std::as_writable_bytes(std::span(&hello, 1)));
  if (received && !*received) return;                            // nothing yet
  if (!received || (*received)->bytes == 0 || greeting.hello) {  // gone, or it speaks out of turn
    lanes_[0]->reactor->unwatch(socket);
    greetings_.erase(found);
    return;
  }
  constexpr std::size_t kVersions = 8;  // the bytes in which every release says what it speaks
  const bool speaks = (*received)->bytes >= kVersions && hello.magic == wire::kMagic;
  if (const auto version = wire::common_version(hello); speaks && !version) return refuse(socket, version.error());
  if (!speaks || (*received)->bytes != sizeof(hello)) {
    protocol_errors_.fetch_add(1, std::memory_order_relaxed);
    return refuse(socket,
                  {.code = ErrorCode::kInvalidArgument, .message = "the caller does not speak Tiercel's protocol"});
  }
  auto& shown = (*received)->descriptors;
  if (shown.empty() || shown.size() > 2) {
    return refuse(socket, {.code = ErrorCode::kInvalidArgument, .message = "a caller must show its own pidfd"});
  }
  greeting.hello = hello;
  greeting.pidfd = std::move(shown[0]);
  if (shown.size() == 2) greeting.arena = std::move(shown[1]);
  greet(socket);
}

/// Who is it? The kernel says, and what it shows must agree.
Status SocketServer::check_caller(const Greeting& greeting, Caller& caller) const {
  TIERCEL_TRY_ASSIGN(caller.peer, wire::peer_of(greeting.socket.get()));
  const uid_t self = geteuid();
  if (options_.group.empty() && caller.peer.uid != self && caller.peer.uid != 0) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("user {} may not use the cache of user {} (service.group admits a group)", caller.peer.uid, self));
  }
  const auto pid = wire::process_of(greeting.pidfd.get());
  if (!pid) return fail(ErrorCode::kInvalidArgument, "what the caller shows is no pidfd");
  if (*pid > 0 && caller.peer.pid > 0 && *pid != caller.peer.pid) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("process {} shows the pidfd of process {}", caller.peer.pid, *pid));
  }
  return {};
}

/// Is there no arena that it could get? Then it waits, or has been refused. What it shows may be the one.
bool SocketServer::needs_arena(Greeting& greeting) {
  if (adoption_.has_memory()) return false;
  const int socket = greeting.socket.get();
  const bool shows = static_cast<bool>(greeting.arena);
  if (shows && adoption_.offered(std::move(greeting.arena))) {
    lanes_[0]->reactor->post([this] { greet_waiting(); });
    return false;
  }
  if (shows) {
    refuse(socket, adoption_.reason(), Then::kLetGo);
  } else {
    const std::uint64_t until = deadline_after(core_->clock().now_ns(), kArenaPatienceNs);
    greeting.until_ns = std::min(greeting.until_ns, until);
  }
  return true;
}

void SocketServer::greet_waiting() {
  std::vector<int> waiting;
  for (const auto& [socket, greeting] : greetings_) {
    if (greeting.hello) waiting.push_back(socket);
  }
  for (const int socket : waiting) greet(socket);
}

void SocketServer::greet(int socket) {
  const auto found = greetings_.find(socket);
  if (found == greetings_.end()) return;
  Greeting& greeting = found->second;
  Caller caller;
  if (const Status known = check_caller(greeting, caller); !known) return refuse(socket, known.error());
  const wire::Hello& hello = *greeting.hello;
  if (needs_arena(greeting)) return;

  // It takes up an earlier connection: that one ends first, and this caller waits for it.
  Earlier earlier;
  if (hello.member != 0) {
    const auto connected = connected_members_.find(hello.member);
    if (connected != connected_members_.end() && connected->second == hello.token) {
      Lane& lane = lane_of(hello.member);
      lane.reactor->post([this, &lane, member = hello.member] {
        end(lane, member, fail(ErrorCode::kClosed, "its process has connected anew"));
      });
      return;  // send_off() calls again; if nothing comes, the greeting's time ends
    }
    const auto at = departed_.find(hello.member);
    if (at != departed_.end() && at->second->caller.token == hello.token) earlier.departed = at->second;
  }
  earlier.survivor = !earlier.departed && adoption_.survivors().knows(hello.member, hello.token);
  const bool takes_up = earlier.departed || earlier.survivor;
  if (!takes_up && departed_.size() >= options_.connections) {
    return refuse(socket, {.code = ErrorCode::kLimit,
                           .message = fmt::format("service.connections: {} members have gone and left slots that their "
                                                  "processes may still use, which is the limit",
                                                  departed_.size())});
  }
  // Who comes back keeps its number: it may have to come back again.
  caller.member = takes_up ? hello.member : adoption_.list().facts().epoch * kMembersOfEpoch + ++next_member_;
  caller.token = takes_up ? hello.token : random_number();
  caller.since_ns = core_->clock().now_ns();
  if (!takes_up) {  // before it gets the arena: a later run must know of it
    const Status listed = adoption_.list().add({.member = caller.member,
                                                .token = caller.token,
                                                .start_time = start_time_of(caller.peer.pid),
                                                .pid_namespace = own_pid_namespace(),
                                                .pid = caller.peer.pid});
    if (!listed) return refuse(socket, listed.error());
  }
  welcome(socket, std::move(caller), earlier);
}

std::unique_ptr<Member> SocketServer::make_member(const Caller& caller, const Mapping& ring, bool claims) {
  Lane& lane = lane_of(caller.member);
  const std::uint64_t number = caller.member;
  MemberWord word{.claims = claims,
                  .said = [this, number] { lanes_[0]->reactor->post([this, number] { has_said(number); }); }};
  auto member = std::make_unique<Member>(
      core_, options_.member, open_blocks_, std::span<const std::byte>(ring.data(), ring.bytes()),
      [this, &lane, number](std::uint64_t request, std::function<Result<Dropped>()> work) {
        return slow_.submit([this, &lane, number, request, work = std::move(work)] {
          auto dropped = std::make_shared<Result<Dropped>>(work());
          lane.reactor->post([this, &lane, number, request, dropped] {
            const auto at = lane.connections.find(number);
            if (at == lane.connections.end()) return;
            at->second->member().done_slow(request, *dropped, at->second->out());
            settle(lane, *at->second, at->second->flush());
          });
        });
      },
      std::move(word));
  member->set_owner({.pid = caller.peer.pid, .member = number});
  return member;
}

void SocketServer::welcome(int socket, Caller caller, const Earlier& earlier) {
  const auto found = greetings_.find(socket);
  const std::uint64_t number = caller.member;
  const bool takes_up = earlier.departed || earlier.survivor;
  auto ring = Mapping::share(
      {.bytes = options_.ring_bytes, .huge_pages = HugePages::kOff, .kind = ArenaKind::kMemfd, .name = "tiercel-ring"});
  const auto life = adoption_.list().life(number);
  if (!ring || !life) {
    if (!takes_up) adoption_.list().remove(number);
    return refuse(socket, ring ? life.error() : ring.error());
  }
  Lane& lane = lane_of(number);
  auto member = make_member(caller, **ring, earlier.survivor);
  const Mapping& arena = core_->arena().mapping();
  const wire::Welcome welcome{.version = *wire::common_version(*found->second.hello),
                              .service = service_,
                              .member = number,
                              .token = caller.token,
                              .arena_bytes = arena.bytes(),
                              .ring_bytes = (*ring)->bytes(),
                              .slots = core_->slot_ids(),
                              .max_payload = wire::kMaxRequestBytes,
                              .max_chain = options_.member.chains.max_chain,
                              .kept_chains = options_.member.chains.handles,
                              .kept_hashes = options_.member.chains.kept_hashes,
                              .adopted = takes_up ? 1U : 0U,
                              .arena = adoption_.list().facts().arena};
  const int descriptors[] = {arena.fd(), (*ring)->fd(), life->get()};
  const Status sent = wire::send_with_descriptors(socket, std::as_bytes(std::span(&welcome, 1)), descriptors);
  caller.pidfd = std::move(found->second.pidfd);
  auto connection = std::make_shared<std::unique_ptr<Connection>>(
      std::make_unique<Connection>(std::move(found->second.socket), std::move(caller), *ring, std::move(member)));
  // From here on nothing may fail but for memory, and then what was granted is lost, not used twice.
  connected_members_.insert_or_assign(number, (*connection)->caller().token);
  lanes_[0]->reactor->unwatch(socket);
  greetings_.erase(found);
  if (earlier.departed) {
    lanes_[0]->reactor->unwatch(earlier.departed->caller.pidfd.get());
    departed_.erase(number);
    (*connection)->member().grants().merge(std::move(earlier.departed->grants));
  }
  if (earlier.survivor) adoption_.survivors().came(number);
  if (takes_up) taken_up_.fetch_add(1, std::memory_order_relaxed);
  // Also where the Welcome did not arrive: the connection's end takes care of the grants.
  accepted_.fetch_add(1, std::memory_order_relaxed);
  connected_.fetch_add(1, std::memory_order_relaxed);
  note_connected(**connection);
  lane.reactor->post([this, &lane, connection] { adopt(lane, std::move(*connection)); });
  if (!sent) log_line(LogLevel::kWarn, "service_welcome", sent.error().message);
}

std::uint64_t SocketServer::drop_silent_callers(std::uint64_t now) {
  std::uint64_t next = UINT64_MAX;
  for (auto at = greetings_.begin(); at != greetings_.end();) {
    const auto& [socket, greeting] = *at++;
    if (greeting.until_ns > now) {
      next = std::min(next, greeting.until_ns);
    } else if (greeting.hello && !adoption_.has_memory()) {
      refuse(socket, adoption_.reason(), Then::kAskAgain);
    } else {
      refuse(socket,
             {.code = ErrorCode::kTimeout,
              .message = greeting.hello ? "its earlier connection does not end" : "the caller said nothing in time"});
    }
  }
  return next;
}

}  // namespace tiercel::service
