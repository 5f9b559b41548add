// A node service on a small arena, for tests that kill it. Usage: service_host SOCKET. Prints "ready"; for each line on
// stdin prints its figures, and where that is "cut", ends all connections first; ends with its stdin.
#include "service/server/socket_server.h"
#include "tests/crash/crash_blocks.h"

#include <cstdio>
#include <iostream>
#include <string>

int main(int argc, char** argv) {
  using namespace tiercel;
  if (argc != 2) return 64;
  auto cache = Cache::open({.host = {.capacity = 8_MiB,
                                     .arena = ArenaKind::kMemfd,
                                     .prefault = false,
                                     .extent_bytes = 2_MiB,
                                     .min_slot_bytes = 16_KiB},
                            .workers = {.threads = 2}});
  if (!cache) return std::fprintf(stderr, "%s\n", cache.error().message.c_str()), 1;
  auto server = service::SocketServer::start(*cache, {.path = argv[1], .threads = 2});
  if (!server) return std::fprintf(stderr, "%s\n", server.error().message.c_str()), 1;
  std::puts("ready");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "cut") {
      for (const service::MemberReport& member : (*server)->members()) (*server)->disconnect(member.member);
    }
    const Stats stats = cache->stats();
    const service::SocketStats socket = (*server)->stats();
    std::printf(
        "copy_pins=%llu quarantined=%llu logical_pins=%llu sessions=%llu departed=%llu blocks=%llu errors=%llu\n",
        static_cast<unsigned long long>(stats.copy_pins),
        static_cast<unsigned long long>(stats.tiers[0].quarantined_slots),
        static_cast<unsigned long long>(stats.logical_pins), static_cast<unsigned long long>(stats.sessions),
        static_cast<unsigned long long>(socket.departed_members),
        static_cast<unsigned long long>(stats.tiers[0].blocks),
        static_cast<unsigned long long>(socket.protocol_errors));
    std::fflush(stdout);
  }
  (*server)->stop();
  (void)cache->close(std::chrono::seconds(0));
  return 0;
}
