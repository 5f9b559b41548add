// Stores chains of blocks in a directory until it is killed, and says on its standard output what is acknowledged: a
// line "CHAIN BLOCKS" when so many leading blocks of a chain have their header page in the file. It knows from match(),
// which names the disk tier for a block once its copy there is ready. Usage: crash_writer DIRECTORY FIRST_CHAIN.
#include "tests/crash/crash_blocks.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <thread>

namespace tiercel::crash {
namespace {

struct Told {
  std::uint64_t number = 0;
  BlockChain blocks;
  std::size_t told = 0;
};

int run(const std::string& directory, std::uint64_t number) {
  auto cache = Cache::open(config(directory));
  if (!cache || !cache->wait_for_disks(std::chrono::seconds(20))) return 1;
  if (cache->disks().at(0).state != DiskDirectoryState::kOn) return 2;
  auto session = cache->open_session(options());
  if (!session) return 3;
  std::puts("ready");
  (void)std::fflush(stdout);
  std::deque<Told> waiting;
  for (;;) {
    if (waiting.size() < 16) {
      Told told{.number = number, .blocks = chain(session->space(), number)};
      ++number;
      Reservation room = session->reserve(told.blocks, 0);
      for (std::size_t i = 0; i < room.size(); ++i) {
        if (room.outcome(i) != Reserved::kYes) continue;
        fill(room.writer(i).bytes(), told.blocks[i]);
        if (!room.writer(i).commit()) return 4;
      }
      waiting.push_back(std::move(told));
    } else {
      std::this_thread::yield();
    }
    for (Told& told : waiting) {
      const Match match = session->match(told.blocks);
      std::size_t down = 0;
      while (down < match.blocks() && match.tiers(down).has(TierId::kDisk)) ++down;
      if (down <= told.told) continue;
      told.told = down;
      // One write a line: what a killed process had not said was not heard by anybody.
      std::printf("%llu %zu\n", static_cast<unsigned long long>(told.number), down);
      (void)std::fflush(stdout);
    }
    while (!waiting.empty() && waiting.front().told == waiting.front().blocks.size()) waiting.pop_front();
  }
}

}  // namespace
}  // namespace tiercel::crash

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  return tiercel::crash::run(argv[1], std::strtoull(argv[2], nullptr, 10));
}
