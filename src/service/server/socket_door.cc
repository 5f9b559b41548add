#include "service/server/socket_door.h"

#include "base/try.h"
#include "service/server/socket_server.h"

#include <tiercel/client.h>

#include <fmt/format.h>

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

/// Adds one member to its engine: the ranks' pools and traffic are parts of the engine's.
void add_member(EngineReport& engine, const MemberReport& member) {
  if (member.rank == 0) engine.pid = member.pid;
  engine.members = member.members;
  engine.connected_ns = std::max(engine.connected_ns, member.connected_ns);
  EngineCounters& counters = *engine.counters;
  counters.stored_bytes += member.stored_bytes;
  counters.loaded_bytes += member.loaded_bytes;
  counters.load_ns += member.load_ns;
  if (member.pool == KvPool{}) return;
  KvPool pool = engine.kv_pool.value_or(KvPool{});
  pool.used_bytes += member.pool.used_bytes;
  pool.free_bytes += member.pool.free_bytes;
  pool.total_bytes += member.pool.total_bytes;
  engine.kv_pool = pool;
}

class SocketDoor final : public EngineDoor {
 public:
  explicit SocketDoor(std::unique_ptr<SocketServer> server) : server_(std::move(server)) {}

  [[nodiscard]] std::vector<EngineReport> engines() const override {
    std::map<std::string, EngineReport> engines;
    for (const MemberReport& member : server_->members()) {
      if (member.departed || member.model.empty()) continue;  // gone, or without a session yet
      // A session without a name is an engine of its own.
      const std::string id =
          member.engine_id.empty() ? fmt::format("{} (process {})", member.model, member.pid) : member.engine_id;
      auto [at, added] = engines.try_emplace(id);
      if (added) {
        at->second.engine_id = id;
        at->second.sessions = 0;
        at->second.counters = EngineCounters{};
        at->second.pid = member.pid;
      }
      ++at->second.sessions;
      add_member(at->second, member);
    }
    std::vector<EngineReport> reports;
    for (auto& [_, engine] : engines) reports.push_back(std::move(engine));
    return reports;
  }

  [[nodiscard]] ArenaReport arena() const override { return server_->arena(); }

  /// At once: who is inside sees its connection end, and goes on without the cache.
  Status close(std::chrono::nanoseconds) override {
    server_->stop();
    return {};
  }

 private:
  std::unique_ptr<SocketServer> server_;
};

}  // namespace

std::string socket_path(const Config& config) {
  return config.service.socket.empty() ? default_socket_path() : config.service.socket;
}

Door socket_door(const Config& config) {
  const SocketOptions options{.path = socket_path(config),
                              .group = config.service.group,
                              .threads = threads_of(config.service),
                              .connections = config.service.connections};
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
    return std::make_unique<SocketDoor>(std::move(server));
  };
  return {take_place, make};
}

}  // namespace tiercel::service
