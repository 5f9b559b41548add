// Goal: engines and the service may die at any moment: nobody reads a wrong byte, nobody waits beyond a deadline, and
// nothing is left held; and a process whose connection is cut keeps the slots that it may still write until it is gone.
// Usage: service_kill_test --host PROGRAM --engine PROGRAM [--kills N] [--host-kills N] [--seed N].
#include "base/random.h"
#include "tests/service/child.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

struct Arguments {
  std::string host;
  std::string engine;
  std::uint64_t kills = 60;
  std::uint64_t host_kills = 3;
  std::uint64_t seed = 1;
};
Arguments arguments;  // set by main before any test runs

class ServiceKill : public ::testing::Test {
 protected:
  ServiceKill() {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel-service-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    socket_ = name + "/s";
  }
  ~ServiceKill() override {
    host_.reset();
    std::filesystem::remove_all(directory_);
  }

  void start_host() {
    host_ = std::make_unique<Child>(std::vector<std::string>{arguments.host, socket_});
    ASSERT_EQ(host_->line(), "ready");
  }
  std::unique_ptr<Child> engine(const std::string& mode, std::uint64_t seed) {
    return std::make_unique<Child>(std::vector<std::string>{arguments.engine, socket_, mode, std::to_string(seed)});
  }
  std::string figures(const std::string& command = "?\n") {
    host_->say(command);
    return host_->line();
  }
  /// Waits until the figures begin so.
  ::testing::AssertionResult comes(const std::string& beginning) {
    std::string last;
    for (const auto end = std::chrono::steady_clock::now() + 20s; std::chrono::steady_clock::now() < end;) {
      last = figures();
      if (last.starts_with(beginning)) return ::testing::AssertionSuccess();
      std::this_thread::sleep_for(10ms);
    }
    return ::testing::AssertionFailure() << last;
  }

  std::string directory_;
  std::string socket_;
  std::unique_ptr<Child> host_;
};

constexpr const char* kNothingHeld = "copy_pins=0 quarantined=0 logical_pins=0 sessions=0 departed=0 ";

TEST_F(ServiceKill, nobody_reads_a_wrong_byte_and_nothing_is_left) {
  ASSERT_NO_FATAL_FAILURE(start_host());
  Random random(arguments.seed);
  std::vector<std::unique_ptr<Child>> engines;
  std::uint64_t started = 0;
  for (; started < 8; ++started) engines.push_back(engine("load", arguments.seed * 1'000 + started));
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
  }
  std::uint64_t visits = 0;
  for (const auto& one : engines) one->end_input();
  for (const auto& one : engines) {
    EXPECT_EQ(one->ended(20s), 0);
    const std::string said = one->line();
    visits += std::strtoull(said.c_str() + std::strlen("visits="), nullptr, 10);
  }
  EXPECT_GT(visits, 100U);  // the run was about something
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
  ASSERT_TRUE(comes("copy_pins=24 ")) << figures();
  EXPECT_NE(figures().find("departed=1"), std::string::npos) << figures();
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

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    if (flag == "--host") tiercel::arguments.host = argv[i + 1];
    if (flag == "--engine") tiercel::arguments.engine = argv[i + 1];
    if (flag == "--kills") tiercel::arguments.kills = std::strtoull(argv[i + 1], nullptr, 10);
    if (flag == "--host-kills") tiercel::arguments.host_kills = std::strtoull(argv[i + 1], nullptr, 10);
    if (flag == "--seed") tiercel::arguments.seed = std::strtoull(argv[i + 1], nullptr, 10);
  }
  return RUN_ALL_TESTS();
}
