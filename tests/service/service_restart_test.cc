// Goal: a service that was killed and started again adopts the arena that its clients still map: memory is never there
// twice, and no slot is handed out that a process may still write, whether it comes back, does not, or is stopped.
// Usage: service_restart_test --host PROGRAM --engine PROGRAM.
#include "tests/service/arena_memory.h"
#include "tests/service/service_programs.h"

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace tiercel {
namespace {

constexpr std::uint64_t kArenaBytes = std::uint64_t{8} << 20U;  // of service_host: 512 slots
constexpr std::uint64_t kMost = kArenaBytes + kArenaBytes / 20;

class ServiceRestart : public ServicePrograms {
 protected:
  void SetUp() override { ASSERT_NO_FATAL_FAILURE(start_host()); }
  void restart_host(const std::vector<std::string>& more = {}) {
    host_->kill();
    ASSERT_NO_FATAL_FAILURE(start_host(more));
  }
  std::unique_ptr<Child> holding(const std::string& mode, std::uint64_t seed = 1'000'000) {
    auto child = engine(mode, seed);
    EXPECT_EQ(child->line(), "holds");
    return child;
  }
  /// What `filler` can store and hold now, of at most 600 blocks.
  static std::string fills(Child& filler) {
    filler.say("50\n");
    return filler.line(60s);
  }
  /// Nothing can be stored, for several times as long as it takes to hand out an arena that nobody may write.
  ::testing::AssertionResult nothing_is_handed_out(Child& filler) {
    for (int look = 0; look < 10; ++look) {
      if (const std::string stored = fills(filler); stored != "stored=0") {
        return ::testing::AssertionFailure() << stored << " with " << figures();
      }
      std::this_thread::sleep_for(50ms);
    }
    return ::testing::AssertionSuccess();
  }
  ArenaMemory memory(std::initializer_list<const Child*> children) const {
    std::vector<pid_t> all{host_->pid()};
    for (const Child* child : children) all.push_back(child->pid());
    return arena_memory(all);
  }
  static std::string waits_for(const Child& child) { return "waits=" + std::to_string(child.pid()) + " "; }
};

TEST_F(ServiceRestart, a_zombie_keeps_its_slots_over_a_restart_until_it_is_gone) {
  auto zombie = holding("zombie");
  auto filler = engine("fill", 1);
  ASSERT_EQ(fills(*filler), "stored=488");
  for (int restart = 0; restart < 2; ++restart) {  // the second time in the middle of an adoption
    ASSERT_NO_FATAL_FAILURE(restart_host());
    ASSERT_TRUE(comes("sessions=1 ")) << "who comes back is served";
    ASSERT_TRUE(comes(waits_for(*zombie)));
    EXPECT_TRUE(nothing_is_handed_out(*filler)) << "nobody knows what the zombie may write";
    EXPECT_NE(figures().find("arena=withheld"), std::string::npos) << figures();
    EXPECT_EQ(memory({zombie.get(), filler.get()}).arenas, 1U);
  }
  EXPECT_NE(figures().find("epoch=3 "), std::string::npos) << figures();
  ASSERT_FALSE(zombie->ended()) << "it read a wrong byte: status " << *zombie->ended();
  zombie->kill();
  ASSERT_TRUE(comes("arena=serving "));
  EXPECT_EQ(fills(*filler), "stored=512");
  const ArenaMemory most = memory({filler.get()});
  EXPECT_EQ(most.arenas, 1U);
  EXPECT_LE(most.bytes, kMost);
}

TEST_F(ServiceRestart, who_comes_back_keeps_what_it_holds_and_no_more) {
  auto holder = holding("holder");
  auto filler = engine("fill", 1);
  ASSERT_TRUE(comes("sessions=2 "));
  ASSERT_NO_FATAL_FAILURE(restart_host());
  ASSERT_TRUE(comes("arena=serving "));
  ASSERT_TRUE(comes("copy_pins=24 quarantined=24 ")) << "its loaded and its reserved slots: twice a chain of 12 blocks";
  ASSERT_TRUE(comes("sessions=2 "));
  EXPECT_EQ(fills(*filler), "stored=488");
  ASSERT_FALSE(holder->ended()) << "it read a wrong byte: status " << *holder->ended();
  holder->say("let go\n");
  ASSERT_EQ(holder->line(), "released");
  ASSERT_TRUE(comes("copy_pins=0 quarantined=0 "));
  EXPECT_EQ(fills(*filler), "stored=512");
  EXPECT_EQ(memory({holder.get(), filler.get()}).arenas, 1U);
}

TEST_F(ServiceRestart, a_client_that_is_stopped_is_waited_for) {
  auto holder = holding("holder");
  auto filler = engine("fill", 1);
  ASSERT_TRUE(comes("sessions=2 "));
  holder->signal(SIGSTOP);
  ASSERT_NO_FATAL_FAILURE(restart_host());
  ASSERT_TRUE(comes("sessions=1 "));
  ASSERT_TRUE(comes(waits_for(*holder)));
  EXPECT_TRUE(nothing_is_handed_out(*filler));
  holder->signal(SIGCONT);
  ASSERT_TRUE(comes("arena=serving "));
  EXPECT_EQ(fills(*filler), "stored=488");
  ASSERT_FALSE(holder->ended()) << "it read a wrong byte: status " << *holder->ended();
}

TEST_F(ServiceRestart, an_arena_that_nobody_offers_is_waited_for_and_not_doubled) {
  auto zombie = holding("zombie");
  ASSERT_NO_FATAL_FAILURE(restart_host());
  auto filler = engine("fill", 1);  // tries until it is let in
  ASSERT_TRUE(comes("arena=awaited ")) << figures();
  ASSERT_TRUE(comes(waits_for(*zombie)));
  EXPECT_EQ(memory({zombie.get(), filler.get()}).arenas, 1U);
  zombie->kill();
  ASSERT_TRUE(comes("arena=serving "));
  EXPECT_EQ(fills(*filler), "stored=512");
  EXPECT_EQ(memory({filler.get()}).arenas, 1U);
}

TEST_F(ServiceRestart, an_arena_of_another_size_is_let_go_before_there_is_a_new_one) {
  auto holder = holding("holder");
  ASSERT_NO_FATAL_FAILURE(restart_host({"4"}));
  ASSERT_TRUE(comes("arena=refused ")) << figures();
  ASSERT_TRUE(comes(waits_for(*holder)));
  ASSERT_NO_FATAL_FAILURE(restart_host({"6"}));  // and again, with yet another
  ASSERT_TRUE(comes("arena=refused ")) << figures();
  EXPECT_EQ(memory({holder.get()}).arenas, 1U);
  ASSERT_FALSE(holder->ended()) << "it read a wrong byte: status " << *holder->ended();
  holder->say("let go\n");
  ASSERT_EQ(holder->line(), "released");
  ASSERT_TRUE(comes("arena=serving "));
  ASSERT_TRUE(comes("sessions=1 ")) << "it has its session again, in the new arena";
  auto filler = engine("fill", 1);
  EXPECT_EQ(fills(*filler), "stored=384");
  EXPECT_EQ(memory({holder.get(), filler.get()}).arenas, 1U);
}

TEST_F(ServiceRestart, with_nobody_left_it_serves_at_once) {
  auto holder = holding("holder");
  holder->kill();
  ASSERT_NO_FATAL_FAILURE(restart_host());
  EXPECT_NE(figures().find("arena=serving epoch=1 waits=nobody"), std::string::npos) << figures();
}

TEST_F(ServiceRestart, blocks_on_disk_come_back_into_the_adopted_arena) {
  const std::string folder = directory_ + "/blocks";
  std::filesystem::create_directory(folder);
  ASSERT_NO_FATAL_FAILURE(restart_host({"8", folder}));
  auto filler = engine("fill", 5'000);
  filler->say("20\n");
  ASSERT_EQ(filler->line(60s), "stored=240");
  ASSERT_TRUE(comes("disk=240 "));
  auto holder = holding("holder");
  ASSERT_TRUE(comes("disk=252 "));
  auto checker = engine("check", 5'000);
  checker->say("20\n");
  ASSERT_EQ(checker->line(60s), "loaded=240");
  ASSERT_NO_FATAL_FAILURE(restart_host({"8", folder}));
  ASSERT_TRUE(comes("disk=252 ")) << figures();
  ASSERT_TRUE(comes("arena=serving epoch=2 "));
  ASSERT_TRUE(comes("sessions=3 "));
  checker->say("20\n");
  EXPECT_EQ(checker->line(60s), "loaded=240");
  ASSERT_FALSE(holder->ended()) << "it read a wrong byte: status " << *holder->ended();
  EXPECT_EQ(memory({filler.get(), holder.get(), checker.get()}).arenas, 1U);
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) { return tiercel::run_service_tests(argc, argv); }
