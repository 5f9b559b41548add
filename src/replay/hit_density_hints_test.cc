// Goal: hints do what they say: a session that has ended makes room, unless what it used is others' too or it comes
// back all the same; a priority decides between blocks that are otherwise alike; hints that are wrong cost little.
#include "policy/hit_density.h"
#include "replay/hit_density_replay.h"
#include "replay/lru_replay.h"
#include "replay/replay.h"
#include "workload/workload_builder.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace tiercel {
namespace {

constexpr std::uint64_t kSecond_ns = 1'000'000'000;

struct Shape {
  std::uint64_t turns = 6;   // of each session
  std::uint64_t open = 20;   // sessions at a time
  std::uint64_t shared = 4;  // blocks that begin each session
  std::uint64_t own = 4;     // blocks that each turn adds
  bool comes_back = false;   // each session has one more turn, later than it said it would
};

/// Sessions in turn, each over after so many turns.
Workload sessions(const Shape& shape, std::uint64_t count) {
  WorkloadBuilder builder;
  std::uint64_t now_ns = 0;
  const auto turn = [&](std::uint64_t session, std::uint64_t number) {
    std::vector<std::uint64_t> ids(shape.shared);
    for (std::uint64_t i = 0; i < shape.shared; ++i) ids[i] = i;
    for (std::uint64_t i = 0; i < (number + 1) * shape.own; ++i) ids.push_back(1'000 * (session + 1) + i);
    EXPECT_TRUE(builder.add({.arrival_ns = now_ns += kSecond_ns,
                             .output_tokens = 100,
                             .session = static_cast<std::uint32_t>(session),
                             .ends_session = number + 1 == shape.turns},
                            ids));
  };
  const std::uint64_t step = shape.turns;  // one session begins and one ends every so many requests
  for (std::uint64_t round = 0; round < count * step; ++round) {
    const std::uint64_t newest = round / step;
    for (std::uint64_t back = 0; back < shape.turns; ++back) {
      const std::uint64_t age = back * shape.open;
      if (round % step == 0 && newest >= age) turn(newest - age, back);
    }
    if (shape.comes_back && round % step == 0 && newest >= shape.turns * shape.open) {
      turn(newest - shape.turns * shape.open, shape.turns - 1);
    }
  }
  return std::move(builder).finish(false);
}

struct Hits {
  std::uint64_t without = 0;
  std::uint64_t with = 0;
  std::uint64_t lru = 0;
  std::uint64_t uses = 0;
};

/// The hint is that of the workload's own making: finish() would mark the last request that there is.
Hits hits_of(Workload workload, const Shape& shape, std::uint64_t capacity) {
  std::vector<std::uint64_t> turns(workload.requests.size() + 1);
  for (WorkloadRequest& request : workload.requests) {
    request.ends_session = ++turns[request.session] == shape.turns;
  }
  HitDensityReplay without(capacity, 1);
  HitDensityReplay with(capacity, 1);
  LruReplay lru(capacity, workload.unique_blocks);
  return {.without = serve_all(workload, without),
          .with = serve_all(workload, with, {.session_end = true}),
          .lru = serve_all(workload, lru),
          .uses = workload.block_uses.size()};
}

TEST(HitDensityHints, a_session_that_has_ended_makes_room_for_those_that_have_not) {
  const Shape shape;
  const Hits hits = hits_of(sessions(shape, 400), shape, 700);
  EXPECT_GT(static_cast<double>(hits.with), static_cast<double>(hits.without) * 1.02) << hits.without;
  EXPECT_GT(hits.with, hits.lru);
}

TEST(HitDensityHints, what_others_use_too_stays) {
  const Shape shape{.turns = 1, .open = 1, .shared = 50, .own = 50};
  const Hits hits = hits_of(sessions(shape, 400), shape, 200);
  EXPECT_GE(hits.with, 398U * 50) << "the beginning of all is always there";
}

TEST(HitDensityHints, hints_that_are_wrong_are_seen_to_be) {
  for (const std::uint64_t capacity : {300U, 700U, 1'500U, 3'000U}) {
    const Shape shape{.comes_back = true};
    const Hits hits = hits_of(sessions(shape, 600), shape, capacity);
    EXPECT_GE(static_cast<double>(hits.with) + 0.01 * static_cast<double>(hits.uses), static_cast<double>(hits.lru))
        << capacity;
  }
}

TEST(HitDensityHints, without_a_session_only_what_has_no_fork_is_over) {
  HitDensityPolicy policy({.capacity = 8, .ghosts = 8});
  const auto use = [&](std::vector<std::uint64_t> blocks, std::uint64_t now_s, bool ends) {
    policy.use({.blocks = blocks, .now_ns = now_s * kSecond_ns, .ends_session = ends});
  };
  use({1, 2, 3, 4}, 1, false);
  use({1, 2, 5, 6}, 2, true);
  for (std::uint64_t i = 0; i < 200; ++i) use({100 + i, 1'000 + i}, 3 + i, true);
  EXPECT_EQ(policy.held(), 8U);
}

/// Hits of sequences of even and of odd numbers, in a round that the tier cannot hold.
std::pair<std::uint64_t, std::uint64_t> round_robin(std::int8_t even, std::int8_t odd) {
  HitDensityPolicy policy({.capacity = 40, .ghosts = 40});
  std::pair<std::uint64_t, std::uint64_t> hits;
  std::uint64_t now_ns = 0;
  for (int round = 0; round < 60; ++round) {
    for (std::uint64_t user = 0; user < 60; ++user) {
      const std::vector<std::uint64_t> name = {user + 1};
      (user % 2 == 0 ? hits.first : hits.second) += policy.holds(name[0]) ? 1U : 0U;
      policy.use({.blocks = name, .now_ns = now_ns += kSecond_ns, .priority = user % 2 == 0 ? even : odd});
    }
  }
  return hits;
}

TEST(HitDensityHints, a_priority_decides_between_what_is_alike) {
  const auto [even, odd] = round_robin(0, 0);
  const auto [raised, others] = round_robin(1, 0);
  const auto [normal, lowered] = round_robin(0, -1);
  EXPECT_GT(raised, even + 200);
  EXPECT_LT(others, odd);
  EXPECT_LT(lowered + 200, odd);
  EXPECT_GT(normal, even);
}

TEST(HitDensityHints, the_same_priority_for_all_is_none) {
  EXPECT_EQ(round_robin(1, 1), round_robin(0, 0));
  EXPECT_EQ(round_robin(-3, -3), round_robin(0, 0));
  EXPECT_EQ(round_robin(3, 3), round_robin(127, 127)) << "more than the most is the most";
}

}  // namespace
}  // namespace tiercel
