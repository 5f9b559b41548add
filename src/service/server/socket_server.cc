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

constexpr const char* kListSuffix = ".arena";
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

SocketServer::SocketServer(const Cache& cache, const SocketOptions& options, std::optional<EarlierArena> earlier)
    : core_(detail::CacheAccess::core(cache)),
      options_(options),
      service_(random_number()),
      open_blocks_(options.open_blocks),
      adoption_(
          core_,
          {.list_path = options.path + kListSuffix, .settle_ns = static_cast<std::uint64_t>(options.settle.count())},
          std::move(earlier)) {}

Result<SocketServer::TakenPath> SocketServer::take_path(const SocketOptions& options, const HostConfig& host) {
  TakenPath taken;
  TIERCEL_TRY_ASSIGN(taken.lock, wire::take_path({.path = options.path, .group = options.group}));
  TIERCEL_TRY_ASSIGN(taken.earlier, look_for_earlier_arena(options.path + kListSuffix, host));
  return taken;
}

Result<std::unique_ptr<SocketServer>> SocketServer::start(const Cache& cache, const SocketOptions& options) {
  TIERCEL_TRY_ASSIGN(TakenPath path, take_path(options, detail::CacheAccess::core(cache)->config().host));
  return start(cache, options, std::move(path));
}

Result<std::unique_ptr<SocketServer>> SocketServer::start(const Cache& cache, const SocketOptions& options,
                                                          TakenPath path) {
  std::unique_ptr<SocketServer> server(new SocketServer(cache, options, std::move(path.earlier)));
  if (server->core_->config().host.arena != ArenaKind::kMemfd) {
    return fail(ErrorCode::kInvalidArgument, "host.arena: \"anonymous\"; a service shares its arena: set \"memfd\"");
  }
  try {
    TIERCEL_TRY(server->listen(std::move(path.lock)));
  } catch (const std::system_error& error) {
    return fail(ErrorCode::kIo, fmt::format("service.threads: the system gives no more threads: {}", error.what()),
                error.code().value());
  }
  return server;
}

Status SocketServer::listen(FileDescriptor lock) {
  TIERCEL_TRY(adoption_.start());
  {
    const MutexLock report(mutex_);
    arena_report_ = adoption_.report();
  }
  TIERCEL_TRY_ASSIGN(listening_, wire::listen_at({.path = options_.path, .group = options_.group}, std::move(lock)));
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

// ---- members that have departed

/// A connection has ended; its grants wait for its process.
void SocketServer::send_off(std::uint64_t member, std::shared_ptr<Departed> departed) {
  connected_members_.erase(member);
  if (adoption_.survivors().is_here(member)) {  // it has not said what it holds
    adoption_.survivors().left(member);
  } else if (departed->grants.empty()) {
    adoption_.list().remove(member);
  } else {
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

/// What it held has ended.
void SocketServer::forget_departed(std::uint64_t member) {
  const auto at = departed_.find(member);
  lanes_[0]->reactor->unwatch(at->second->caller.pidfd.get());
  {
    const MutexLock lock(mutex_);
    reports_.erase(member);
  }
  at->second->grants.clear();
  departed_.erase(at);
  adoption_.list().remove(member);
}

/// A member of the earlier run has claimed what it still holds.
void SocketServer::has_said(std::uint64_t member) {
  adoption_.survivors().said(member);
  (void)step_adoption(core_->clock().now_ns());
}

std::uint64_t SocketServer::step_adoption(std::uint64_t now) {
  if (adoption_.stage() == ArenaStage::kServing) return UINT64_MAX;
  const bool waited = !adoption_.has_memory();
  const std::uint64_t next = adoption_.step(now);
  {
    ArenaReport report = adoption_.report();
    const MutexLock lock(mutex_);
    arena_report_ = std::move(report);
  }
  if (waited && adoption_.has_memory()) greet_waiting();
  return next;
}

/// The first lane's turn: greetings that take too long, processes that are gone. Answers when to look again.
std::uint64_t SocketServer::housekeep() {
  const std::uint64_t now = core_->clock().now_ns();
  std::uint64_t next = step_adoption(now);
  if (accept_again_ns_ != 0 && now >= accept_again_ns_) {
    accept_again_ns_ = 0;
    (void)lanes_[0]->reactor->watch(listening_.socket.get(), EPOLLIN, [this](std::uint32_t) { accept_callers(); });
  }
  if (accept_again_ns_ != 0) next = std::min(next, accept_again_ns_);
  next = std::min(next, drop_silent_callers(now));
  const auto settle_ns = static_cast<std::uint64_t>(options_.settle.count());
  for (auto at = departed_.begin(); at != departed_.end();) {
    Departed& departed = *at->second;
    const bool over = is_gone(departed.caller.pidfd) || !adoption_.list().lives(at->first);
    if (departed.gone_ns == 0 && over) departed.gone_ns = now;
    const std::uint64_t free_ns = departed.gone_ns == 0 ? UINT64_MAX : deadline_after(departed.gone_ns, settle_ns);
    const std::uint64_t member = (at++)->first;
    if (free_ns <= now) {
      forget_departed(member);
    } else {
      next = std::min({next, free_ns, deadline_after(now, 1'000'000'000)});
    }
  }
  return std::min(next, watch_idleness(now));
}

/// Ends the listening once nobody has been there for the grace time (idle_end.h). Answers when to look again.
std::uint64_t SocketServer::watch_idleness(std::uint64_t now) {
  if (!options_.idle_end || !listening_.socket) return UINT64_MAX;
  const bool adopting = adoption_.stage() != ArenaStage::kServing;  // members of an earlier run are waited for
  if (adopting || !connected_members_.empty() || !greetings_.empty() || !departed_.empty()) {
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
