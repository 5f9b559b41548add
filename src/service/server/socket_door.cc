#include "service/server/socket_door.h"

#include "base/try.h"
#include "service/server/socket_server.h"

#include <tiercel/client.h>

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

namespace tiercel::service {
namespace {

std::uint32_t threads_of(const ServiceConfig& config) {
  if (config.threads != 0) return config.threads;
  return std::clamp<std::uint32_t>(std::thread::hardware_concurrency(), 1, 4);
}

/// Adds one member to its engine: the ranks' pools, traffic and prefill are parts of the engine's.
void add_member(EngineReport& engine, const MemberReport& member) {
  if (member.rank == 0) engine.pid = member.pid;
  engine.members = member.members;
  engine.connected_ns = std::max(engine.connected_ns, member.connected_ns);
  EngineCounters& counters = *engine.counters;
  counters.stored_bytes += member.stored_bytes;
  counters.loaded_bytes += member.loaded_bytes;
  counters.load_ns += member.load_ns;
  if (member.prefill_bytes_per_second > 0) {
    engine.prefill_bytes_per_second = engine.prefill_bytes_per_second.value_or(0) + member.prefill_bytes_per_second;
  }
  if (member.pool == KvPool{}) return;
  KvPool pool = engine.kv_pool.value_or(KvPool{});
  pool.used_bytes += member.pool.used_bytes;
  pool.free_bytes += member.pool.free_bytes;
  pool.total_bytes += member.pool.total_bytes;
  engine.kv_pool = pool;
}

class SocketDoor final : public EngineDoor {
 public:
  SocketDoor(const Cache& cache, std::unique_ptr<SocketServer> server) : cache_(cache), server_(std::move(server)) {}

  [[nodiscard]] std::vector<EngineReport> engines() const override {
    std::map<std::string, EngineReport> engines;
    for (const MemberReport& member : server_->members()) {
      if (member.departed || member.model.empty()) continue;  // gone, or without a session yet
      const std::string id = engine_name(member.engine_id, member.model, {.pid = member.pid, .member = member.member});
      auto [at, added] = engines.try_emplace(id);
      if (added) {
        at->second.engine_id = id;
        at->second.sessions = 0;
        at->second.counters = EngineCounters{};
        at->second.pid = member.pid;
        at->second.mode = cache_.mode(id);
      }
      ++at->second.sessions;
      add_member(at->second, member);
    }
    std::vector<EngineReport> reports;
    for (auto& [_, engine] : engines) reports.push_back(std::move(engine));
    return reports;
  }

  [[nodiscard]] std::optional<SocketFigures> figures() const override {
    const SocketStats stats = server_->stats();
    return SocketFigures{.connections = stats.connections,
                         .accepted_connections = stats.accepted,
                         .refused_connections = stats.refused,
                         .protocol_errors = stats.protocol_errors,
                         .taken_up_connections = stats.taken_up,
                         .departed_members = stats.departed_members,
                         .departed_slots = stats.departed_slots};
  }

  [[nodiscard]] ArenaReport arena() const override { return server_->arena(); }

  /// At once: who is inside sees its connection end, and goes on without the cache.
  Status close(std::chrono::nanoseconds) override {
    server_->stop();
    return {};
  }

 private:
  const Cache& cache_;
  std::unique_ptr<SocketServer> server_;
};

}  // namespace

std::string socket_path(const Config& config) {
  return config.service.socket.empty() ? default_socket_path() : config.service.socket;
}

std::string admin_path(const std::string& socket) { return socket + ".admin"; }

Door socket_door(const Config& config, std::shared_ptr<start::IdleEnd> idle_end) {
  const SocketOptions options{.path = socket_path(config),
                              .group = config.service.group,
                              .threads = threads_of(config.service),
                              .connections = config.service.connections,
                              .idle_end = std::move(idle_end)};
  auto path = std::make_shared<SocketServer::TakenPath>();
  const auto take_place = [options, path, host = config.host]() -> Result<ArenaPlan> {
    TIERCEL_TRY_ASSIGN(*path, SocketServer::take_path(options, host));
    ArenaPlan plan{.later = path->earlier.has_value(), .place = path->lock.get()};
    if (plan.later && path->earlier->list && path->earlier->refusal.empty()) {
      plan.capacity = path->earlier->list->facts().bytes;
    }
    return plan;
  };
  const auto make = [options, path](Cache& cache) -> Result<std::unique_ptr<EngineDoor>> {
    TIERCEL_TRY_ASSIGN(auto server, SocketServer::start(cache, options, std::move(*path)));
    return std::make_unique<SocketDoor>(cache, std::move(server));
  };
  return {take_place, make};
}

}  // namespace tiercel::service
