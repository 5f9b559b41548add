// Goal: on workloads made to mislead what is learnt, the policy ends at most 1 % of the block uses behind LRU, since it
// falls back to it and says so; where it is not behind it does not.
#include "replay/hit_density_replay.h"
#include "replay/lru_replay.h"
#include "replay/optimum.h"
#include "replay/replay.h"
#include "workload/workload_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace tiercel {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::uint64_t kSecond_ns = 1'000'000'000;
constexpr std::uint32_t kShortAnswer = 10;
constexpr std::uint32_t kLongAnswer = 2'000;

class Uses {
 public:
  /// A sequence of `length` blocks of its own, told apart by `who`.
  void use(std::uint64_t who, std::uint64_t length, std::uint32_t output_tokens) {
    std::vector<std::uint64_t> ids(length);
    for (std::uint64_t i = 0; i < length; ++i) ids[i] = who * 64 + i;
    now_ns_ += kSecond_ns;
    ASSERT_TRUE(builder_.add({.arrival_ns = now_ns_, .output_tokens = output_tokens}, ids));
  }
  std::uint64_t fresh() { return next_++; }
  Workload finish() && { return std::move(builder_).finish(false); }

 private:
  WorkloadBuilder builder_;
  std::uint64_t now_ns_ = 0;
  std::uint64_t next_ = 0;
};

/// Of two kinds, told apart by the length of the answer, one comes back `gap` uses later and the other never; then the
/// roles change.
Workload roles_change(int uses_before, int uses_after, std::size_t gap, std::uint64_t length) {
  Uses uses;
  for (const bool before : {true, false}) {
    std::vector<std::uint64_t> due;
    for (int i = 0; i < (before ? uses_before : uses_after); ++i) {
      const std::uint64_t who = uses.fresh();
      due.push_back(who);
      uses.use(who, length, before ? kLongAnswer : kShortAnswer);           // comes back
      uses.use(uses.fresh(), length, before ? kShortAnswer : kLongAnswer);  // never
      if (due.size() > gap) uses.use(due[due.size() - 1 - gap], length, before ? kLongAnswer : kShortAnswer);
    }
  }
  return std::move(uses).finish();
}

/// A loop that a tier cannot hold, then one of half its length at another pace.
Workload loops(std::uint64_t users, int rounds) {
  Uses uses;
  for (int round = 0; round < rounds; ++round) {
    for (std::uint64_t user = 0; user < users; ++user) uses.use(user, 3, kShortAnswer);
  }
  for (int round = 0; round < 3 * rounds; ++round) {
    for (std::uint64_t user = 0; user < users / 4; ++user) uses.use(users + user, 3, kShortAnswer);
  }
  return std::move(uses).finish();
}

/// Sessions beside a scan that never comes back but looks the same.
Workload scan_beside_sessions(std::uint64_t sessions, int rounds) {
  Uses uses;
  for (int i = 0; i < 20 * rounds; ++i) uses.use(1'000'000 + static_cast<std::uint64_t>(i), 3, kShortAnswer);
  for (int round = 0; round < rounds; ++round) {
    for (std::uint64_t session = 0; session < sessions; ++session) {
      uses.use(session, 3, kShortAnswer);
      uses.use(2'000'000 + static_cast<std::uint64_t>(round) * sessions + session, 3, kShortAnswer);
    }
  }
  return std::move(uses).finish();
}

struct Outcome {
  double behind = 0;  // of the block uses
  bool fell_back = false;
  HitDensityPolicy::Safety safety;
};

Outcome outcome_of(const Workload& workload, std::uint64_t capacity) {
  HitDensityReplay learned(capacity, 1);
  LruReplay lru(capacity, workload.unique_blocks);
  const auto hits = static_cast<double>(serve_all(workload, learned));
  const auto lru_hits = static_cast<double>(serve_all(workload, lru));
  EXPECT_EQ(static_cast<double>(learned.policy().safety().lru_hits), lru_hits) << "the shadow is LRU";
  EXPECT_EQ(static_cast<double>(learned.policy().safety().hits), hits);
  return {.behind = (lru_hits - hits) / static_cast<double>(workload.block_uses.size()),
          .fell_back = learned.fell_back(),
          .safety = learned.policy().safety()};
}

TEST(HitDensitySafety, it_is_never_far_behind_lru) {
  for (const std::uint64_t length : {1U, 3U}) {
    for (const std::size_t gap : {10U, 40U, 100U}) {
      for (const std::uint64_t capacity : {2 * gap * length, 3 * gap * length, 4 * gap * length}) {
        EXPECT_LT(outcome_of(roles_change(2'000, 4'000, gap, length), capacity).behind, 0.01)
            << length << " " << gap << " " << capacity;
      }
    }
  }
  for (const std::uint64_t capacity : {30U, 100U, 200U, 400U}) {
    EXPECT_LT(outcome_of(loops(100, 20), capacity).behind, 0.01) << capacity;
    EXPECT_LT(outcome_of(scan_beside_sessions(50, 100), capacity).behind, 0.01) << capacity;
  }
}

TEST(HitDensitySafety, it_falls_back_and_says_so) {
  // LRU holds all sessions; a scan that looks the same has taught that nothing comes back.
  const Outcome outcome = outcome_of(scan_beside_sessions(50, 100), 400);
  EXPECT_TRUE(outcome.fell_back);
  EXPECT_LT(outcome.behind, 0.01);
  EXPECT_THAT(outcome.safety.text(), StartsWith("fell back to LRU at use "));
  EXPECT_THAT(outcome.safety.text(), HasSubstr("where LRU would have had "));
}

TEST(HitDensitySafety, where_it_is_ahead_it_does_not_fall_back) {
  const Outcome outcome = outcome_of(loops(100, 20), 200);
  EXPECT_FALSE(outcome.fell_back);
  EXPECT_LT(outcome.behind, 0);
  EXPECT_THAT(outcome.safety.text(), StartsWith("goes by what was learnt: "));
}

}  // namespace
}  // namespace tiercel
