// Goal: engines and the service may die at any moment: nobody reads a wrong byte, nobody waits beyond a deadline, and
// nothing is left held; and a process whose connection is cut keeps the slots that it may still write until it is gone.
// Usage: service_kill_test --host PROGRAM --engine PROGRAM [--kills N] [--host-kills N] [--seed N].
#include "base/random.h"
#include "tests/service/arena_memory.h"
#include "tests/service/service_programs.h"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace tiercel {
namespace {

class ServiceKill : public ServicePrograms {};

constexpr std::uint64_t kArenaBytes = std::uint64_t{8} << 20U;  // of service_host

TEST_F(ServiceKill, nobody_reads_a_wrong_byte_and_nothing_is_left) {
  ASSERT_NO_FATAL_FAILURE(start_host());
  Random random(arguments.seed);
  std::vector<std::unique_ptr<Child>> engines;
  std::uint64_t started = 0;
  for (; started < 8; ++started) engines.push_back(engine("load", arguments.seed * 1'000 + started));
  ArenaWatch watch;
  const auto watch_all = [&] {
    std::vector<pid_t> all{host_->pid()};
    for (const auto& one : engines) all.push_back(one->pid());
    watch.set(std::move(all));
  };
  watch_all();
  const std::uint64_t host_every =
      arguments.host_kills == 0 ? UINT64_MAX : arguments.kills / (arguments.host_kills + 1);
  for (std::uint64_t kill = 1; kill <= arguments.kills; ++kill) {
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(40'000)));
    for (const auto& one : engines) ASSERT_FALSE(one->ended()) << "an engine ended with status " << *one->ended();
    auto& victim = engines[random.below(engines.size())];
    victim->kill();
    victim = engine("load", arguments.seed * 1'000 + started++);
    if (random.below(4) == 0) (void)figures("cut\n");  // they connect again, with all that they hold
    if (kill % host_every == 0 && kill / host_every <= arguments.host_kills) {
      host_->kill();
      ASSERT_NO_FATAL_FAILURE(start_host());
    }
    ASSERT_FALSE(host_->ended());
    watch_all();
  }
  std::uint64_t visits = 0;
  for (const auto& one : engines) one->end_input();
  for (const auto& one : engines) {
    EXPECT_EQ(one->ended(20s), 0);
    const std::string said = one->line();
    visits += std::strtoull(said.c_str() + std::strlen("visits="), nullptr, 10);
  }
  EXPECT_GT(visits, 100U);  // the run was about something
  const ArenaMemory most = watch.stop();
  EXPECT_GT(watch.looks(), 100U);
  EXPECT_GT(most.bytes, kArenaBytes / 2) << "the arena was in use";
  EXPECT_LE(most.bytes, kArenaBytes + kArenaBytes / 20);
  EXPECT_EQ(most.arenas, 1U);
  EXPECT_TRUE(comes(kNothingHeld));
  EXPECT_NE(figures().find("errors=0"), std::string::npos) << figures();
  host_->end_input();
  EXPECT_EQ(host_->ended(20s), 0);
}

TEST_F(ServiceKill, a_service_that_hangs_costs_hits_and_nobody_waits) {
  ASSERT_NO_FATAL_FAILURE(start_host());
  std::vector<std::unique_ptr<Child>> engines;
  for (std::uint64_t i = 0; i < 4; ++i) engines.push_back(engine("load", i));
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(100ms);
    host_->signal(SIGSTOP);
    std::this_thread::sleep_for(800ms);  // longer than a call's deadline: they see a service that does not answer
    for (const auto& one : engines) ASSERT_FALSE(one->ended()) << "an engine ended with status " << *one->ended();
    host_->signal(SIGCONT);
  }
  std::this_thread::sleep_for(100ms);
  for (const auto& one : engines) one->end_input();
  for (const auto& one : engines) EXPECT_EQ(one->ended(20s), 0);
  EXPECT_TRUE(comes(kNothingHeld));
}

TEST_F(ServiceKill, a_zombie_keeps_its_slots_until_it_is_gone) {
  ASSERT_NO_FATAL_FAILURE(start_host());
  auto zombie = engine("zombie", 1'000'000);
  ASSERT_EQ(zombie->line(), "holds");
  (void)figures("cut\n");
  // Its loaded and its reserved slots wait for it: twice a chain of 12 blocks.
  ASSERT_TRUE(comes("copy_pins=24 quarantined=12 logical_pins=0 sessions=0 departed=1 ")) << figures();
  auto other = engine("fill", 1);
  // An arena of 512 slots: 488 can be held beside the zombie's.
  other->say("50\n");
  EXPECT_EQ(other->line(60s), "stored=488");
  ASSERT_FALSE(zombie->ended()) << "it read a wrong byte: status " << *zombie->ended();
  zombie->kill();
  EXPECT_TRUE(comes("copy_pins=0 quarantined=0 "));
  other->say("50\n");
  EXPECT_EQ(other->line(60s), "stored=512");
  other->end_input();
  EXPECT_EQ(other->ended(20s), 0);
  EXPECT_TRUE(comes(kNothingHeld));
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) { return tiercel::run_service_tests(argc, argv); }
