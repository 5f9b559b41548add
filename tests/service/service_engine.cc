// An engine without a model, for tests that kill it. Usage: service_engine SOCKET load|zombie|holder|check|fill SEED.
//
// load: stores, loads, pins and drops blocks whose bytes follow from their names until its stdin ends. Exit status: 0;
//   2: it read a wrong byte; 3: a call took longer than it may.
// zombie: loads and reserves some blocks, says "holds", and goes on writing what it reserved and reading what it loaded
//   until it is killed (2: what it loaded has changed). It does not connect again when it is cut off.
// holder: as a zombie that connects again when it is cut off; a line on stdin makes it let go of all, and say
// "released". check: for each line of stdin loads so many of the blocks that "fill" with this seed has stored first,
// checks them,
//   and prints how many were there.
// fill: for each line of stdin stores a number of new blocks, loads each, and prints how many of them could be stored.
#include "base/random.h"
#include "tests/crash/crash_blocks.h"

#include <tiercel/client.h>

#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>
#include <thread>

namespace tiercel::crash {
namespace {

using namespace std::chrono_literals;
using SteadyTime = std::chrono::steady_clock;

constexpr auto kCall = 500ms;
constexpr auto kSlack = 3s;  // what a machine with other things to do may add

/// Ends the process where a call took too long.
template <class Call>
auto timed(const char* what, std::chrono::nanoseconds most, Call&& call) {
  const auto start = SteadyTime::now();
  auto result = call();
  const auto took = SteadyTime::now() - start;
  if (took > most + kSlack) {
    std::fprintf(stderr, "%s took %lld ms\n", what, static_cast<long long>(took / 1ms));
    ::_exit(3);
  }
  return result;
}

[[noreturn]] void wrong(const char* what) {
  std::fprintf(stderr, "wrong bytes: %s\n", what);
  ::_exit(2);
}

bool stdin_ended() {
  pollfd in{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  return ::poll(&in, 1, 0) == 1;
}

Session open(const std::string& socket, std::chrono::milliseconds reconnect) {
  for (;;) {  // the service may be down for a moment
    auto client = Client::connect({.socket = socket, .call_deadline = kCall, .reconnect_pause = reconnect});
    if (client) {
      auto session = client->open_session(options());
      if (session) return std::move(*session);
    }
    std::this_thread::sleep_for(10ms);
  }
}

/// One conversation: what is there is loaded and checked, what is not is stored.
void visit(Session& session, Random& random, std::uint64_t number, std::vector<BlockRef>& kept) {
  const BlockChain ours = chain(session.space(), number);
  const std::size_t there = timed("match", kCall, [&] { return session.match(ours).blocks(); });
  Load load = timed("load", kCall, [&] { return session.load(ours, there, 200ms); });
  if (random.below(8) == 0) load = {};  // changed its mind
  const auto blocks = timed("wait", 300ms, [&] { return load.wait(); });
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (!is_whole(blocks[i].bytes(), ours[i])) wrong("a load");
  }
  const std::size_t have = blocks.size();
  if (random.below(3) == 0 && have > 0) kept = load.take();
  Reservation room = timed("reserve", kCall, [&] { return session.reserve(ours, have); });
  for (std::size_t i = 0; i < room.size(); ++i) {
    if (room.outcome(i) != Reserved::kYes) continue;
    fill(room.writer(i).bytes(), ours[have + i]);
    if (random.below(10) == 0) {
      room.writer(i).abort();
      break;
    }
    (void)timed("commit", kCall, [&] { return room.writer(i).commit(); });
  }
  if (random.below(16) == 0) {
    auto pin = timed("pin", kCall, [&] { return session.pin(ours, 4, 1s); });
    if (pin) (void)timed("pinned", kCall, [&] { return pin->blocks(); });
  }
  if (random.below(32) == 0) (void)timed("drop", kCall, [&] { return session.drop(ours, random.below(ours.size())); });
}

int run_load(const std::string& socket, std::uint64_t seed) {
  Session session = open(socket, 20ms);
  Random random(seed);
  std::uint64_t visits = 0;
  std::vector<BlockRef> kept;
  std::vector<BlockHash> names;
  std::uint64_t kept_number = 0;
  while (!stdin_ended()) {
    const std::uint64_t number = random.below(120);
    if (!kept.empty()) {  // what is held stays what it is, whoever comes and goes
      const BlockChain ours = chain(session.space(), kept_number);
      for (std::size_t i = 0; i < kept.size(); ++i) {
        if (!is_whole(kept[i].bytes(), ours[i])) wrong("a block that is held");
      }
      kept.clear();
    }
    kept_number = number;
    visit(session, random, number, kept);
    ++visits;
  }
  std::printf("visits=%llu\n", static_cast<unsigned long long>(visits));
  return 0;
}

int run_zombie(const std::string& socket, std::uint64_t seed, std::chrono::milliseconds reconnect) {
  Session session = open(socket, reconnect);
  const BlockChain known = chain(session.space(), seed);
  {
    Reservation room = session.reserve(known, 0);
    for (std::size_t i = 0; i < room.size(); ++i) {
      fill(room.writer(i).bytes(), known[i]);
      if (!room.writer(i).commit()) return 1;
    }
  }
  Load load = session.load(known, known.size(), 1s);
  if (load.wait().size() != known.size()) return 1;
  Reservation room = session.reserve(chain(session.space(), seed + 1), 0);
  if (room.size() != kChainBlocks || room.outcome(kChainBlocks - 1) != Reserved::kYes) return 1;
  std::vector<std::span<std::byte>> places;
  for (std::size_t i = 0; i < room.size(); ++i) places.push_back(room.writer(i).bytes());
  std::puts("holds");
  std::fflush(stdout);
  for (std::uint64_t round = 0; !stdin_ended(); ++round) {
    for (const auto place : places) std::memset(place.data(), static_cast<int>(round), place.size());
    const auto blocks = load.wait();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (!is_whole(blocks[i].bytes(), known[i])) wrong("what the zombie had loaded");
    }
  }
  load = {};
  room = {};
  std::string line;
  std::getline(std::cin, line);
  std::puts("released");
  std::fflush(stdout);
  while (std::getline(std::cin, line)) {
  }
  return 0;
}

int run_check(const std::string& socket, std::uint64_t seed) {
  Session session = open(socket, 20ms);
  for (std::string line; std::getline(std::cin, line);) {
    const std::uint64_t chains = std::strtoull(line.c_str(), nullptr, 10);
    std::uint64_t loaded = 0;
    for (std::uint64_t i = 0; i < chains; ++i) {
      const BlockChain ours = chain(session.space(), seed + i);
      Load load = session.load(ours, ours.size(), 1s);
      const auto blocks = load.wait();
      for (std::size_t k = 0; k < blocks.size(); ++k) {
        if (!is_whole(blocks[k].bytes(), ours[k])) wrong("what was stored before");
      }
      loaded += blocks.size();
    }
    std::printf("loaded=%llu\n", static_cast<unsigned long long>(loaded));
    std::fflush(stdout);
  }
  return 0;
}

int run_fill(const std::string& socket, std::uint64_t seed) {
  Session session = open(socket, 20ms);
  std::uint64_t number = seed;
  for (std::string line; std::getline(std::cin, line);) {
    std::uint64_t stored = 0;
    const std::uint64_t chains = std::strtoull(line.c_str(), nullptr, 10);
    std::vector<Load> loads;  // held, so that nothing goes again
    for (std::uint64_t i = 0; i < chains; ++i) {
      const BlockChain ours = chain(session.space(), number++);
      {
        Reservation room = session.reserve(ours, 0);
        for (std::size_t k = 0; k < room.size(); ++k) {
          if (room.outcome(k) != Reserved::kYes) break;
          fill(room.writer(k).bytes(), ours[k]);
          if (!room.writer(k).commit()) break;
        }
      }
      loads.push_back(session.load(ours, ours.size(), 1s));
      const auto blocks = loads.back().wait();
      for (std::size_t k = 0; k < blocks.size(); ++k) {
        if (!is_whole(blocks[k].bytes(), ours[k])) wrong("what was stored beside a zombie");
      }
      stored += blocks.size();
    }
    for (std::size_t i = 0; i < loads.size(); ++i) {
      const BlockChain ours = chain(session.space(), number - chains + i);
      const auto blocks = loads[i].wait();
      for (std::size_t k = 0; k < blocks.size(); ++k) {
        if (!is_whole(blocks[k].bytes(), ours[k])) wrong("what was held beside a zombie");
      }
    }
    std::printf("stored=%llu\n", static_cast<unsigned long long>(stored));
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace tiercel::crash

int main(int argc, char** argv) {
  if (argc != 4) return 64;
  const std::string mode = argv[2];
  const std::uint64_t seed = std::strtoull(argv[3], nullptr, 10);
  if (mode == "load") return tiercel::crash::run_load(argv[1], seed);
  if (mode == "zombie") return tiercel::crash::run_zombie(argv[1], seed, std::chrono::seconds(60));
  if (mode == "holder") return tiercel::crash::run_zombie(argv[1], seed, std::chrono::milliseconds(20));
  if (mode == "check") return tiercel::crash::run_check(argv[1], seed);
  if (mode == "fill") return tiercel::crash::run_fill(argv[1], seed);
  return 64;
}
