#include "service/server/socket_server.h"

#include "base/log.h"
#include "base/try.h"
#include "cache/cache_access.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <random>
#include <system_error>
#include <utility>

namespace tiercel::service {
namespace {

constexpr std::uint64_t kAcceptPauseNs = 100'000'000;
constexpr std::uint64_t kLookAgainNs = 20'000'000;  // where somebody is about to come

std::uint64_t random_number() {
  std::random_device entropy;
  return (std::uint64_t{entropy()} << 32U | entropy()) | 1U;  // never 0
}

bool is_gone(const FileDescriptor& pidfd) {
  pollfd one{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  return poll(&one, 1, 0) == 1;
}

}  // namespace

// ---- life

SocketServer::SocketServer(const Cache& cache, const SocketOptions& options)
    : core_(detail::CacheAccess::core(cache)),
      options_(options),
      service_(random_number()),
      open_blocks_(options.open_blocks) {}

Result<std::unique_ptr<SocketServer>> SocketServer::start(const Cache& cache, const SocketOptions& options) {
  std::unique_ptr<SocketServer> server(new SocketServer(cache, options));
  if (server->core_->arena().mapping().fd() < 0) {
    return fail(ErrorCode::kInvalidArgument, "host.arena: \"anonymous\"; a service shares its arena: set \"memfd\"");
  }
  try {
    TIERCEL_TRY(server->listen());
  } catch (const std::system_error& error) {
    return fail(ErrorCode::kIo, fmt::format("service.threads: the system gives no more threads: {}", error.what()),
                error.code().value());
  }
  return server;
}

Status SocketServer::listen() {
  TIERCEL_TRY_ASSIGN(listening_, wire::listen_at({.path = options_.path, .group = options_.group}));
  for (std::uint32_t i = 0; i < std::max(options_.threads, 1U); ++i) {
    auto lane = std::make_unique<Lane>();
    TIERCEL_TRY_ASSIGN(lane->reactor, Reactor::create(fmt::format("tiercel-io-{}", i), core_->clock()));
    lanes_.push_back(std::move(lane));
  }
  TIERCEL_TRY(lanes_[0]->reactor->watch(listening_.socket.get(), EPOLLIN, [this](std::uint32_t) { accept_callers(); }));
  slow_.start();
  core_->set_progress_listener([this] { progressed(); });
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    lanes_[i]->reactor->start([this, i] {
      const std::uint64_t next = turn(*lanes_[i]);
      return i == 0 ? std::min(next, housekeep()) : next;
    });
  }
  lanes_[0]->reactor->wake();  // the time without a member begins, also where none ever comes
  return {};
}

SocketServer::~SocketServer() { stop(); }

void SocketServer::stop() noexcept {
  if (std::exchange(stopped_, true)) return;
  core_->set_progress_listener(nullptr);
  // The first lane ends last: what the others send off arrives there.
  for (auto lane = lanes_.rbegin(); lane != lanes_.rend(); ++lane) {
    (*lane)->reactor->stop();
    for (const auto& [_, connection] : (*lane)->connections) connection->member().end();
  }
  if (listening_.socket) {  // the first lane may have ended it before
    // A service that would end by itself: the next one waits for its memory, whatever ends this one.
    if (options_.idle_end) (void)options_.idle_end->try_lock();
    (void)::unlink(options_.path.c_str());
    listening_.socket = FileDescriptor();  // who waits in its backlog need not wait on
  }
  slow_.stop();
  for (const auto& lane : lanes_) {
    for (const auto& [_, connection] : lane->connections) {
      if (is_gone(connection->caller().pidfd)) connection->member().grants().clear();
    }
    lane->connections.clear();
  }
  for (const auto& [_, departed] : departed_) {
    if (is_gone(departed->caller.pidfd)) departed->grants.clear();
  }
  departed_.clear();
  greetings_.clear();
}

// ---- callers

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
    greetings_.emplace(fd, Greeting{.socket = std::move(socket), .until_ns = until, .hello = {}, .pidfd = {}});
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

void SocketServer::refuse(int socket, const Error& error) {
  refused_.fetch_add(1, std::memory_order_relaxed);
  const wire::Welcome no = wire::refusal(error);
  (void)wire::send_with_descriptors(socket, std::as_bytes(std::span(&no, 1)), {});
  lanes_[0]->reactor->unwatch(socket);
  greetings_.erase(socket);
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
  if ((*received)->bytes != sizeof(hello)) {
    protocol_errors_.fetch_add(1, std::memory_order_relaxed);
    return refuse(socket,
                  {.code = ErrorCode::kInvalidArgument, .message = "the caller does not speak Tiercel's protocol"});
  }
  if (const auto version = wire::common_version(hello); !version) return refuse(socket, version.error());
  if ((*received)->descriptors.size() != 1) {
    return refuse(socket, {.code = ErrorCode::kInvalidArgument, .message = "a caller must show its own pidfd"});
  }
  greeting.hello = hello;
  greeting.pidfd = std::move((*received)->descriptors[0]);
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

void SocketServer::greet(int socket) {
  const auto found = greetings_.find(socket);
  if (found == greetings_.end()) return;
  Greeting& greeting = found->second;
  Caller caller;
  if (const Status known = check_caller(greeting, caller); !known) return refuse(socket, known.error());

  // It takes up an earlier connection: that one ends first, and this caller waits for it.
  std::shared_ptr<Departed> earlier;
  const wire::Hello& hello = *greeting.hello;
  if (hello.service == service_ && hello.member != 0) {
    const auto connected = connected_members_.find(hello.member);
    if (connected != connected_members_.end() && connected->second == hello.token) {
      Lane& lane = lane_of(hello.member);
      lane.reactor->post([this, &lane, member = hello.member] {
        end(lane, member, fail(ErrorCode::kClosed, "its process has connected anew"));
      });
      return;  // send_off() calls again; if nothing comes, the greeting's time ends
    }
    const auto at = departed_.find(hello.member);
    if (at != departed_.end() && at->second->caller.token == hello.token) earlier = at->second;
  }
  if (!earlier && departed_.size() >= options_.connections) {
    return refuse(socket, {.code = ErrorCode::kLimit,
                           .message = fmt::format("service.connections: {} members have gone and left slots that their "
                                                  "processes may still use, which is the limit",
                                                  departed_.size())});
  }

  // Who comes back keeps its number: it may have to come back again.
  caller.member = earlier ? earlier->caller.member : next_member_++;
  caller.token = earlier ? earlier->caller.token : random_number();
  caller.since_ns = core_->clock().now_ns();
  auto ring = Mapping::share(
      {.bytes = options_.ring_bytes, .huge_pages = HugePages::kOff, .kind = ArenaKind::kMemfd, .name = "tiercel-ring"});
  if (!ring) return refuse(socket, ring.error());
  Lane& lane = lane_of(caller.member);
  auto member = std::make_unique<Member>(
      core_, options_.member, open_blocks_, std::span<const std::byte>((*ring)->data(), (*ring)->bytes()),
      [this, &lane, number = caller.member](std::uint64_t request, std::function<Result<Dropped>()> work) {
        return slow_.submit([this, &lane, number, request, work = std::move(work)] {
          auto dropped = std::make_shared<Result<Dropped>>(work());
          lane.reactor->post([this, &lane, number, request, dropped] {
            const auto at = lane.connections.find(number);
            if (at == lane.connections.end()) return;
            at->second->member().done_slow(request, *dropped, at->second->out());
            settle(lane, *at->second, at->second->flush());
          });
        });
      });
  member->set_process(caller.peer.pid);
  const Mapping& arena = core_->arena().mapping();
  wire::Welcome welcome{.version = *wire::common_version(hello),
                        .service = service_,
                        .member = caller.member,
                        .token = caller.token,
                        .arena_bytes = arena.bytes(),
                        .ring_bytes = (*ring)->bytes(),
                        .slots = core_->slot_ids(),
                        .max_payload = wire::kMaxRequestBytes,
                        .max_chain = options_.member.chains.max_chain,
                        .kept_chains = options_.member.chains.handles,
                        .kept_hashes = options_.member.chains.kept_hashes,
                        .adopted = earlier ? 1U : 0U};
  const int descriptors[] = {arena.fd(), (*ring)->fd()};
  const Status sent = wire::send_with_descriptors(socket, std::as_bytes(std::span(&welcome, 1)), descriptors);
  caller.pidfd = std::move(greeting.pidfd);
  auto connection = std::make_shared<std::unique_ptr<Connection>>(
      std::make_unique<Connection>(std::move(greeting.socket), std::move(caller), *ring, std::move(member)));
  // From here on nothing may fail but for memory, and then what was granted is lost, not used twice.
  connected_members_.insert_or_assign((*connection)->caller().member, (*connection)->caller().token);
  lanes_[0]->reactor->unwatch(socket);
  greetings_.erase(found);
  if (earlier) {
    lanes_[0]->reactor->unwatch(earlier->caller.pidfd.get());
    departed_.erase((*connection)->caller().member);
    (*connection)->member().grants().merge(std::move(earlier->grants));
    taken_up_.fetch_add(1, std::memory_order_relaxed);
  }
  // Also where the Welcome did not arrive: the connection's end takes care of the grants.
  accepted_.fetch_add(1, std::memory_order_relaxed);
  connected_.fetch_add(1, std::memory_order_relaxed);
  note_connected(**connection);
  lane.reactor->post([this, &lane, connection] { adopt(lane, std::move(*connection)); });
  if (!sent) log_line(LogLevel::kWarn, "service_welcome", sent.error().message);
}

/// A connection has ended; its grants wait for its process.
void SocketServer::send_off(std::uint64_t member, std::shared_ptr<Departed> departed) {
  connected_members_.erase(member);
  if (!departed->grants.empty()) {
    const int pidfd = departed->caller.pidfd.get();
    departed_.emplace(member, departed);
    note_departed(member, *departed);
    const Status watched = lanes_[0]->reactor->watch(pidfd, EPOLLIN, [this, member, pidfd](std::uint32_t) {
      const auto at = departed_.find(member);
      if (at == departed_.end() || !is_gone(at->second->caller.pidfd)) return;
      at->second->gone_ns = core_->clock().now_ns();
      lanes_[0]->reactor->unwatch(pidfd);
    });
    // Not watched: looked at now and then (housekeep).
    if (!watched) log_line(LogLevel::kWarn, "service_departed", watched.error().message);
  }
  for (const auto& [socket, greeting] : greetings_) {
    if (!greeting.hello || greeting.hello->member != member) continue;
    greet(socket);
    break;
  }
}

/// The first lane's turn: greetings that take too long, processes that are gone. Answers when to look again.
std::uint64_t SocketServer::housekeep() {
  const std::uint64_t now = core_->clock().now_ns();
  std::uint64_t next = UINT64_MAX;
  if (accept_again_ns_ != 0 && now >= accept_again_ns_) {
    accept_again_ns_ = 0;
    (void)lanes_[0]->reactor->watch(listening_.socket.get(), EPOLLIN, [this](std::uint32_t) { accept_callers(); });
  }
  if (accept_again_ns_ != 0) next = accept_again_ns_;
  for (auto at = greetings_.begin(); at != greetings_.end();) {
    if (at->second.until_ns <= now) {
      const int socket = at->first;
      ++at;
      refuse(socket, {.code = ErrorCode::kTimeout, .message = "the caller said nothing in time"});
    } else {
      next = std::min(next, at->second.until_ns);
      ++at;
    }
  }
  const auto settle_ns = static_cast<std::uint64_t>(options_.settle.count());
  for (auto at = departed_.begin(); at != departed_.end();) {
    Departed& departed = *at->second;
    if (departed.gone_ns == 0 && is_gone(departed.caller.pidfd)) departed.gone_ns = now;
    const std::uint64_t free_ns = departed.gone_ns == 0 ? UINT64_MAX : deadline_after(departed.gone_ns, settle_ns);
    if (free_ns <= now) {
      lanes_[0]->reactor->unwatch(departed.caller.pidfd.get());
      {
        const MutexLock lock(mutex_);
        reports_.erase(at->first);
      }
      departed.grants.clear();
      at = departed_.erase(at);
    } else {
      next = std::min({next, free_ns, deadline_after(now, 1'000'000'000)});
      ++at;
    }
  }
  return std::min(next, watch_idleness(now));
}

/// Ends the listening once nobody has been there for the grace time (idle_end.h). Answers when to look again.
std::uint64_t SocketServer::watch_idleness(std::uint64_t now) {
  if (!options_.idle_end || !listening_.socket) return UINT64_MAX;
  if (!connected_members_.empty() || !greetings_.empty() || !departed_.empty()) {
    idle_since_ns_ = 0;  // whatever ends that runs this again
    return UINT64_MAX;
  }
  if (idle_since_ns_ == 0) idle_since_ns_ = now;
  const std::uint64_t due =
      deadline_after(idle_since_ns_, static_cast<std::uint64_t>(options_.idle_end->grace().count()));
  if (now < due) return due;
  if (!options_.idle_end->try_lock()) return deadline_after(now, kLookAgainNs);
  pollfd waiting{.fd = listening_.socket.get(), .events = POLLIN, .revents = 0};
  if (poll(&waiting, 1, 0) != 0) {  // accepted in the next round
    options_.idle_end->unlock();
    return deadline_after(now, kLookAgainNs);
  }
  (void)::unlink(options_.path.c_str());
  lanes_[0]->reactor->unwatch(listening_.socket.get());
  listening_ = {};
  options_.idle_end->ended();
  return UINT64_MAX;
}

// ---- connections

void SocketServer::adopt(Lane& lane, std::unique_ptr<Connection> connection) {
  const std::uint64_t member = connection->caller().member;
  const int socket = connection->socket();
  const int pidfd = connection->caller().pidfd.get();
  lane.connections.emplace(member, std::move(connection));
  const auto on_socket = [this, &lane, member](std::uint32_t events) { ready(lane, member, events); };
  const auto on_process = [this, &lane, member](std::uint32_t) {
    const auto found = lane.connections.find(member);  // the event may be of an earlier descriptor of this number
    if (found == lane.connections.end() || !is_gone(found->second->caller().pidfd)) return;
    end(lane, member, fail(ErrorCode::kClosed, "its process has ended"));
  };
  Status watched = lane.reactor->watch(socket, EPOLLIN, on_socket);
  // A child that was forked may hold the socket open: the process's end is the connection's.
  if (watched) watched = lane.reactor->watch(pidfd, EPOLLIN, on_process);
  if (!watched) end(lane, member, watched);
}

void SocketServer::ready(Lane& lane, std::uint64_t member, std::uint32_t) {
  const auto found = lane.connections.find(member);
  if (found == lane.connections.end()) return;
  Connection& connection = *found->second;
  Status status;
  try {
    status = connection.serve();
    if (status && connection.has_loads) connection.member().finish_loads(connection.out());
    if (status) status = connection.flush();
  } catch (const std::bad_alloc&) {
    status = fail(ErrorCode::kOutOfMemory, "no memory for its request");
  }
  settle(lane, connection, status);
}

/// After replies were written: goes on, waits for room in the socket, or ends.
void SocketServer::settle(Lane& lane, Connection& connection, const Status& status) {
  if (!status) return end(lane, connection.caller().member, status);
  if (connection.wants_to_write() != connection.watched_for_writing) {
    connection.watched_for_writing = connection.wants_to_write();
    lane.reactor->change(connection.socket(),
                         EPOLLIN | (connection.watched_for_writing ? std::uint32_t{EPOLLOUT} : 0U));
  }
  if (!connection.has_session && connection.member().options() != nullptr) note_connected(connection);
  if (connection.has_more() && !connection.wants_to_write()) lane.with_more.push_back(connection.caller().member);
  const bool loads = connection.member().has_loads();
  if (loads == connection.has_loads) return;
  connection.has_loads = loads;
  if (!loads) {
    lane.with_loads.fetch_sub(1);
    return;
  }
  lane.with_loads.fetch_add(1);  // seq_cst: from here on progressed() wakes this thread
  lane.progressed.store(true);   // and what came before is looked at in turn()
}

void SocketServer::end(Lane& lane, std::uint64_t member, const Status& why) {
  const auto found = lane.connections.find(member);
  if (found == lane.connections.end()) return;
  const std::unique_ptr<Connection> connection = std::move(found->second);
  lane.connections.erase(found);
  lane.reactor->unwatch(connection->socket());
  lane.reactor->unwatch(connection->caller().pidfd.get());
  if (connection->has_loads) lane.with_loads.fetch_sub(1);
  const pid_t pid = connection->caller().peer.pid;
  connection->member().end();
  connected_.fetch_sub(1, std::memory_order_relaxed);
  {
    const MutexLock lock(mutex_);
    reports_.erase(member);
  }
  if (why.error().code != ErrorCode::kClosed) {
    protocol_errors_.fetch_add(1, std::memory_order_relaxed);
    log_line(LogLevel::kWarn, "service_connection",
             fmt::format("the connection of process {} was closed: {}", pid, why.error().message));
  }
  auto departed = std::make_shared<Departed>(
      Departed{.caller = connection->take_caller(), .grants = std::move(connection->member().grants()), .gone_ns = 0});
  lanes_[0]->reactor->post([this, member, departed] { send_off(member, departed); });
}

void SocketServer::disconnect(std::uint64_t member) {
  Lane& lane = lane_of(member);
  lane.reactor->post(
      [this, &lane, member] { end(lane, member, fail(ErrorCode::kClosed, "an operator has disconnected it")); });
}

std::uint64_t SocketServer::turn(Lane& lane) {
  for (const std::uint64_t member : std::exchange(lane.with_more, {})) ready(lane, member, EPOLLIN);
  if (!lane.with_more.empty()) {
    (void)turn_of_loads(lane);
    return 0;  // after whatever else is there
  }
  return turn_of_loads(lane);
}

std::uint64_t SocketServer::turn_of_loads(Lane& lane) {
  if (lane.with_loads.load() == 0) return UINT64_MAX;
  const std::uint64_t now = core_->clock().now_ns();
  const bool progress = lane.progressed.exchange(false);
  std::uint64_t next = UINT64_MAX;
  std::vector<std::uint64_t> members;
  for (const auto& [member, connection] : lane.connections) {
    if (connection->has_loads) members.push_back(member);
  }
  for (const std::uint64_t member : members) {
    const auto found = lane.connections.find(member);
    if (found == lane.connections.end()) continue;
    Connection& connection = *found->second;
    if (connection.is_full()) continue;  // it reads some first
    if (progress || connection.member().next_deadline_ns() <= now) {
      connection.member().finish_loads(connection.out());
      settle(lane, connection, connection.flush());
    }
    const auto still = lane.connections.find(member);
    if (still != lane.connections.end()) next = std::min(next, still->second->member().next_deadline_ns());
  }
  return lane.progressed.load() ? now : next;
}

void SocketServer::progressed() noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (const auto& lane : lanes_) {
    if (lane->with_loads.load() == 0) continue;
    if (!lane->progressed.exchange(true)) lane->reactor->wake();
  }
}

}  // namespace tiercel::service
