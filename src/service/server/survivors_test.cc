// Goal: a survivor is waited for until it has said what it holds, or is proved gone for the settle time; and what the
// system proves about processes.
#include "service/server/survivors.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace tiercel::service {
namespace {

class FakeProbe final : public LifeProbe {
 public:
  explicit FakeProbe(std::set<std::uint64_t>& gone) : gone_(gone) {}
  [[nodiscard]] bool is_gone(const ListedMember& member) override { return gone_.contains(member.member); }

 private:
  std::set<std::uint64_t>& gone_;
};

constexpr std::uint64_t kSettle = 100;

std::vector<ListedMember> members(std::uint64_t count) {
  std::vector<ListedMember> list;
  for (std::uint64_t number = 1; number <= count; ++number) list.push_back({.member = number, .token = number * 10});
  return list;
}

class SurvivorsTest : public testing::Test {
 protected:
  using Numbers = std::vector<std::uint64_t>;
  std::set<std::uint64_t> gone_;
  Survivors survivors_{members(3), std::make_unique<FakeProbe>(gone_), kSettle};
};

TEST_F(SurvivorsTest, nobody_is_none) {
  Survivors none;
  EXPECT_TRUE(none.empty());
  EXPECT_TRUE(none.look(0).empty());
}

TEST_F(SurvivorsTest, are_known_by_number_and_token) {
  EXPECT_TRUE(survivors_.knows(2, 20));
  EXPECT_FALSE(survivors_.knows(2, 21));
  EXPECT_FALSE(survivors_.knows(4, 40));
}

TEST_F(SurvivorsTest, who_comes_and_goes_without_a_word_is_still_waited_for) {
  survivors_.came(1);
  EXPECT_TRUE(survivors_.is_here(1));
  EXPECT_FALSE(survivors_.knows(1, 10)) << "one connection at a time";
  survivors_.left(1);
  EXPECT_TRUE(survivors_.knows(1, 10));
  EXPECT_EQ(survivors_.waiting().size(), 3U);
  survivors_.came(1);
  survivors_.said(1);
  EXPECT_EQ(survivors_.waiting().size(), 2U);
  survivors_.left(1);
  EXPECT_FALSE(survivors_.knows(1, 10)) << "it is a member like others";
}

TEST_F(SurvivorsTest, who_is_gone_is_waited_for_until_its_devices_are_quiet) {
  gone_ = {1, 3};
  EXPECT_TRUE(survivors_.look(1'000).empty());
  EXPECT_TRUE(survivors_.look(1'000 + kSettle - 1).empty());
  EXPECT_EQ(survivors_.look(1'000 + kSettle), (Numbers{1, 3}));
  EXPECT_TRUE(survivors_.look(9'000).empty());
  EXPECT_FALSE(survivors_.empty());
}

TEST_F(SurvivorsTest, of_who_is_connected_the_connection_s_end_is_awaited) {
  survivors_.came(2);
  gone_ = {2};
  EXPECT_TRUE(survivors_.look(1'000).empty());
  EXPECT_TRUE(survivors_.look(5'000).empty());
  survivors_.left(2);
  EXPECT_TRUE(survivors_.look(6'000).empty());
  EXPECT_EQ(survivors_.look(6'000 + kSettle), (Numbers{2}));
}

RC_GTEST_PROP(SurvivorsProperty, nobody_is_forgotten_before_a_word_or_an_end, ()) {
  std::set<std::uint64_t> gone;
  constexpr std::uint64_t kCount = 5;
  Survivors survivors(members(kCount), std::make_unique<FakeProbe>(gone), kSettle);
  std::set<std::uint64_t> here;
  std::set<std::uint64_t> resolved;
  std::map<std::uint64_t, std::uint64_t> seen_gone;
  std::uint64_t now = 1;
  for (int step = 0; step < 60; ++step) {
    const auto number = *rc::gen::inRange<std::uint64_t>(1, kCount + 1);
    switch (*rc::gen::inRange(0, 5)) {
      case 0:
        if (survivors.knows(number, number * 10) && !gone.contains(number)) {
          survivors.came(number);
          here.insert(number);
        }
        break;
      case 1:
        if (here.erase(number) > 0) survivors.left(number);
        break;
      case 2:
        if (here.contains(number)) {
          survivors.said(number);
          resolved.insert(number);
        }
        break;
      case 3:
        gone.insert(number);
        break;
      default:
        now += *rc::gen::inRange<std::uint64_t>(0, kSettle);
        for (const std::uint64_t one : gone) {
          if (!here.contains(one)) seen_gone.emplace(one, now);
        }
        for (const std::uint64_t one : survivors.look(now)) {
          RC_ASSERT(gone.contains(one) && !here.contains(one) && now >= seen_gone.at(one) + kSettle);
          resolved.insert(one);
        }
    }
    std::set<std::uint64_t> waiting;
    for (const ListedMember& member : survivors.waiting()) waiting.insert(member.member);
    for (std::uint64_t one = 1; one <= kCount; ++one) RC_ASSERT(waiting.contains(one) != resolved.contains(one));
  }
}

// ---- the system's word

class Probe : public testing::Test {
 protected:
  Probe() {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel-probe-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    list_ = std::make_unique<MemberList>(*MemberList::create(name + "/s.arena", {.arena = 1, .boot = boot_id()}));
    EXPECT_EQ(::pipe2(end_, O_CLOEXEC), 0);
    child_ = ::fork();
    if (child_ == 0) {
      ::close(end_[1]);
      char byte = 0;
      (void)!::read(end_[0], &byte, 1);
      ::_exit(0);
    }
    ::close(end_[0]);
  }
  ~Probe() override {
    end_child();
    std::filesystem::remove_all(directory_);
  }
  void end_child() {
    if (child_ <= 0) return;
    ::close(end_[1]);
    int status = 0;
    EXPECT_EQ(::waitpid(std::exchange(child_, 0), &status, 0) > 0, true);
  }
  [[nodiscard]] ListedMember listed() const {
    return {.member = 1,
            .token = 2,
            .start_time = start_time_of(child_),
            .pid_namespace = own_pid_namespace(),
            .pid = child_};
  }
  bool is_gone(const ListedMember& member) { return ProcessProbe(*list_, std::span(&member, 1)).is_gone(member); }

  std::string directory_;
  std::unique_ptr<MemberList> list_;
  int end_[2]{};
  pid_t child_ = 0;
};

TEST_F(Probe, a_process_lives_until_it_has_ended_whoever_holds_its_life_descriptor) {
  const auto life = list_->life(1);  // a copy that a child of its own has kept
  const ListedMember member = listed();
  ProcessProbe probe(*list_, std::span(&member, 1));
  EXPECT_FALSE(probe.is_gone(member));
  end_child();
  EXPECT_TRUE(probe.is_gone(member));
}

TEST_F(Probe, who_has_closed_its_life_descriptor_has_let_go) {
  auto life = list_->life(1);
  const ListedMember member = listed();
  ProcessProbe probe(*list_, std::span(&member, 1));
  EXPECT_FALSE(probe.is_gone(member));
  life = fail(ErrorCode::kClosed, "");
  EXPECT_TRUE(probe.is_gone(member));
}

TEST_F(Probe, a_number_that_another_process_has_now_is_a_process_that_is_gone) {
  const auto life = list_->life(1);
  ListedMember member = listed();
  ++member.start_time;
  EXPECT_TRUE(is_gone(member));
}

TEST_F(Probe, where_a_number_means_nothing_the_life_descriptor_alone_tells) {
  auto life = list_->life(1);
  ListedMember elsewhere = listed();
  ++elsewhere.pid_namespace;
  ++elsewhere.start_time;
  ListedMember hidden = listed();
  hidden.pid = 0;
  ListedMember ageless = listed();
  ageless.start_time = 0;
  for (const ListedMember& member : {elsewhere, hidden, ageless}) EXPECT_FALSE(is_gone(member));
  life = fail(ErrorCode::kClosed, "");
  for (const ListedMember& member : {elsewhere, hidden, ageless}) EXPECT_TRUE(is_gone(member));
}

}  // namespace
}  // namespace tiercel::service
