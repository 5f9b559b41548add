// A node service on a small arena, for tests that kill it. Usage: service_host SOCKET [ARENA_MIB [FOLDER...]]. Adopts
// the arena of a run before it. With folders it keeps blocks on disk there. Prints "ready"; for each line on stdin
// prints its figures; ends with its stdin. Before that it does what the line says:
//   cut          ends all connections
//   drop TENANT  deletes it; prints what that did in place of the figures
//   disks        waits until all folders are indexed, or known not to come
//   engines      in place of the figures prints the names of the engines that have a session
#include "cache/cache_access.h"
#include "service/server/member.h"
#include "service/server/socket_server.h"
#include "tests/crash/crash_blocks.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>

namespace {

using namespace tiercel;

std::string waits_for(const service::ArenaReport& arena) {
  std::string pids;
  for (const std::int64_t pid : arena.waits_for) pids += (pids.empty() ? "" : ",") + std::to_string(pid);
  return pids.empty() ? "nobody" : pids;
}

void print(const Result<Dropped>& dropped) {
  if (dropped) {
    std::printf("blocks=%llu pending=%llu \n", static_cast<unsigned long long>(dropped->blocks),
                static_cast<unsigned long long>(dropped->pending));
  } else {
    std::printf("%s\n", dropped.error().message.c_str());
  }
  std::fflush(stdout);
}

/// Those names by which people can switch them.
void print_engines(Cache& cache, const service::SocketServer& server) {
  for (const service::MemberReport& member : server.members()) {
    if (member.model.empty()) continue;
    const std::string name =
        service::engine_name(member.engine_id, member.model, {.pid = member.pid, .member = member.member});
    if (cache.set_mode(name, Mode::kOn)) std::printf("%s, ", name.c_str());
  }
  std::puts("");
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  const std::uint64_t arena_mib = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 8;
  Config config{.host = {.capacity = arena_mib << 20U,
                         .arena = ArenaKind::kMemfd,
                         .prefault = false,
                         .extent_bytes = 2_MiB,
                         .min_slot_bytes = 16_KiB},
                .workers = {.threads = 2}};
  if (argc > 3) {
    config.disk.directories.assign(argv + 3, argv + argc);
    config.disk.capacity = 64_MiB;
    config.disk.probe_interval = std::chrono::milliseconds(100);
    config.disk.io_deadline = std::chrono::seconds(2);
  }
  const auto complain = [](const Error& error) { return std::fprintf(stderr, "%s\n", error.message.c_str()), 1; };
  const service::SocketOptions options{.path = argv[1], .threads = 2};
  auto path = service::SocketServer::take_path(options, config.host);
  if (!path) return complain(path.error());
  auto cache = detail::CacheAccess::open(config, path->earlier.has_value(), path->lock.get());
  if (!cache) return complain(cache.error());
  auto server = service::SocketServer::start(*cache, options, std::move(*path));
  if (!server) return complain(server.error());
  std::puts("ready");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "cut") {
      for (const service::MemberReport& member : (*server)->members()) (*server)->disconnect(member.member);
    }
    if (line == "disks") (void)cache->wait_for_disks(std::chrono::seconds(20));
    if (line.starts_with("drop ")) {
      print(cache->drop_tenant(line.substr(5)));
      continue;
    }
    if (line == "engines") {
      print_engines(*cache, **server);
      continue;
    }
    const Stats stats = cache->stats();
    const service::SocketStats socket = (*server)->stats();
    const service::ArenaReport arena = (*server)->arena();
    std::printf(
        "copy_pins=%llu quarantined=%llu logical_pins=%llu sessions=%llu departed=%llu blocks=%llu errors=%llu "
        "disk=%llu arena=%s epoch=%llu waits=%s \n",
        static_cast<unsigned long long>(stats.copy_pins),
        static_cast<unsigned long long>(stats.tiers[0].quarantined_slots),
        static_cast<unsigned long long>(stats.logical_pins), static_cast<unsigned long long>(stats.sessions),
        static_cast<unsigned long long>(socket.departed_members),
        static_cast<unsigned long long>(stats.tiers[0].blocks), static_cast<unsigned long long>(socket.protocol_errors),
        static_cast<unsigned long long>(stats.tiers[1].blocks),
        std::string(service::arena_stage_name(arena.stage)).c_str(), static_cast<unsigned long long>(arena.epoch),
        waits_for(arena).c_str());
    std::fflush(stdout);
  }
  (*server)->stop();
  (void)cache->close(std::chrono::seconds(0));
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return argc < 2 ? 64 : run(argc, argv); }
