#include "policy/load_planner.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <random>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::size_t kRam = 0;
constexpr std::size_t kDisk = 1;

/// An engine that computes a token in 10 us, a disk with blocks of 64 tokens that takes `ms_per_block`.
class LoadPlannerTest : public ::testing::Test {
 protected:
  LoadPlannerTest() {
    for (const std::uint64_t tokens : {1000U, 2000U, 8000U}) engine_.add({.tokens = tokens}, tokens * 10'000);
  }
  void disk_takes(double ms_per_block, int reads = 40) {
    for (int i = 0; i < reads; ++i) {
      const std::uint64_t blocks = 1 + static_cast<std::uint64_t>(i % 20);
      planner_.add({.tier = kDisk,
                    .bytes = blocks * kBlockBytes,
                    .ns = static_cast<std::uint64_t>(ms_per_block * kMs * static_cast<double>(blocks))});
    }
  }
  void ram_takes(std::uint64_t ns_per_block) {
    planner_.add({.tier = kRam, .bytes = 10 * kBlockBytes, .ns = 10 * ns_per_block});
  }
  [[nodiscard]] LoadPlanner::Question question(std::span<const LoadPlanner::Run> runs,
                                               std::uint64_t prompt_tokens) const {
    return {.runs = runs, .block_bytes = kBlockBytes, .block_tokens = 64, .prompt_tokens = prompt_tokens};
  }

  static constexpr std::uint64_t kBlockBytes = 1U << 20U;
  PrefillModel engine_;
  LoadPlanner planner_;
};

TEST_F(LoadPlannerTest, loads_what_is_faster_to_load) {  // 64 tokens take 0.64 ms
  disk_takes(0.1);
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  const auto plan = planner_.plan(engine_, question(runs, 6500), 0);
  EXPECT_EQ(plan.blocks, 100U);
  EXPECT_EQ(plan.reason, LoadPlanner::Reason::kAll);
  EXPECT_NEAR(plan.load_ns, 10e6, 1e5);
  EXPECT_NEAR(plan.compute_ns, 1e6, 1e5);
  EXPECT_NEAR(plan.compute_all_ns, 65e6, 1e6);
  EXPECT_EQ(plan.probe_blocks, 0U);
}

TEST_F(LoadPlannerTest, leaves_what_is_faster_to_compute_and_keeps_what_is_in_ram) {
  disk_takes(2);
  ram_takes(1000);
  const std::array runs{LoadPlanner::Run{kRam, 30}, LoadPlanner::Run{kDisk, 70}};
  const auto plan = planner_.plan(engine_, question(runs, 6500), 0);
  EXPECT_EQ(plan.blocks, 30U);
  EXPECT_EQ(plan.left_blocks, 70U);
  EXPECT_EQ(plan.reason, LoadPlanner::Reason::kSlower);
}

TEST_F(LoadPlannerTest, crosses_a_slow_stretch_for_what_lies_behind_it) {
  disk_takes(2);
  ram_takes(1000);
  const std::array runs{LoadPlanner::Run{kRam, 10}, LoadPlanner::Run{kDisk, 2}, LoadPlanner::Run{kRam, 80}};
  EXPECT_EQ(planner_.plan(engine_, question(runs, 6500), 0).blocks, 92U);
  const std::array wider{LoadPlanner::Run{kRam, 10}, LoadPlanner::Run{kDisk, 60}, LoadPlanner::Run{kRam, 20}};
  EXPECT_EQ(planner_.plan(engine_, question(wider, 6500), 0).blocks, 10U);
}

TEST_F(LoadPlannerTest, what_the_engine_has_saves_nothing) {
  disk_takes(0.5);
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  auto asked = question(runs, 6500);
  EXPECT_EQ(planner_.plan(engine_, asked, 0).blocks, 100U);
  asked.context_tokens = 3200;  // half of it, so that twice the reading pays for each token
  EXPECT_EQ(planner_.plan(engine_, asked, 0).blocks, 0U);
}

TEST_F(LoadPlannerTest, a_queue_makes_a_tier_slower) {
  disk_takes(0.5);
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  auto asked = question(runs, 6500);
  asked.queued_bytes[kDisk] = 100 * kBlockBytes;
  EXPECT_EQ(planner_.plan(engine_, asked, 0).blocks, 0U);
}

TEST_F(LoadPlannerTest, a_slow_bus_counts) {
  disk_takes(0.5);
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  auto asked = question(runs, 6500);
  asked.copy_bytes_per_second = 1e9 * kBlockBytes / (0.3 * kMs);  // 0.3 ms a block
  EXPECT_EQ(planner_.plan(engine_, asked, 0).blocks, 0U);
}

TEST_F(LoadPlannerTest, whoever_waits_for_the_engine_makes_computing_dearer) {
  disk_takes(0.8);
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  auto asked = question(runs, 6500);
  EXPECT_EQ(planner_.plan(engine_, asked, 0).blocks, 0U);
  asked.waiting = 1;
  EXPECT_EQ(planner_.plan(engine_, asked, 0).blocks, 100U);
}

TEST_F(LoadPlannerTest, a_deadline_cuts_within_a_run) {
  disk_takes(0.1);
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  auto asked = question(runs, 6500);
  asked.deadline_ns = 5 * kMs;
  const auto plan = planner_.plan(engine_, asked, 0);
  EXPECT_NEAR(static_cast<double>(plan.blocks), 40, 2) << "four fifths of it";
  EXPECT_EQ(plan.reason, LoadPlanner::Reason::kDeadline);
}

TEST_F(LoadPlannerTest, unknown_is_optimistic) {
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  const auto untried = planner_.plan(engine_, question(runs, 6500), 0);
  EXPECT_EQ(untried.blocks, 100U);
  EXPECT_EQ(untried.reason, LoadPlanner::Reason::kNotTried);
  disk_takes(100);
  const auto unknown = planner_.plan(PrefillModel(), question(runs, 6500), 0);
  EXPECT_EQ(unknown.blocks, 100U);
  EXPECT_EQ(unknown.reason, LoadPlanner::Reason::kNotKnown);
}

TEST_F(LoadPlannerTest, a_tier_keeps_its_side_within_the_margin) {
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  disk_takes(0.60);  // 60 ms against 64
  EXPECT_EQ(planner_.plan(engine_, question(runs, 6500), 0).blocks, 100U);
  disk_takes(0.645, 400);  // a little slower than computing: stays
  EXPECT_EQ(planner_.plan(engine_, question(runs, 6500), 0).blocks, 100U);
  disk_takes(0.70, 400);
  EXPECT_EQ(planner_.plan(engine_, question(runs, 6500), 0).blocks, 0U);
  disk_takes(0.635, 400);  // a little faster again: stays
  EXPECT_EQ(planner_.plan(engine_, question(runs, 6500), 0).blocks, 0U);
}

TEST_F(LoadPlannerTest, a_tier_that_is_left_is_probed_within_a_tenth_of_its_time) {
  disk_takes(2);
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  std::uint64_t probed = 0;
  constexpr std::uint64_t kSeconds = 100;
  for (std::uint64_t now_ms = 0; now_ms < kSeconds * 1000; now_ms += 10) {
    probed += planner_.plan(engine_, question(runs, 6500), now_ms * kMs).probe_blocks;
  }
  EXPECT_GT(probed, kSeconds * 1000 / 2 / 20) << "it is probed";
  EXPECT_LT(probed, kSeconds * 1000 / 2 / 4) << "small probes and long ones: a fifth of its time at most";
}

TEST_F(LoadPlannerTest, a_tier_that_is_fast_again_is_noticed) {
  disk_takes(2);
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  ASSERT_EQ(planner_.plan(engine_, question(runs, 6500), 0).blocks, 0U);
  int requests = 0;
  std::uint64_t now_ns = 0;
  for (; requests < 20; ++requests, now_ns += 100 * kMs) {
    const auto plan = planner_.plan(engine_, question(runs, 6500), now_ns);
    if (plan.blocks == 100) break;
    if (plan.probe_blocks == 0) continue;
    planner_.add({.tier = kDisk, .bytes = plan.probe_blocks * kBlockBytes, .ns = plan.probe_blocks * kMs / 10});
  }
  EXPECT_LE(requests, 5);
}

TEST_F(LoadPlannerTest, a_wait_ends_when_nothing_came_for_as_long_as_it_could_save) {
  disk_takes(0.1);
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  const auto asked = question(runs, 6500);
  const auto plan = planner_.plan(engine_, asked, 0);
  std::uint64_t waited = LoadPlanner::first_look_ns(asked, plan);
  EXPECT_NEAR(static_cast<double>(waited), 12.5e6, 1e6) << "a quarter longer than expected";
  while (const auto more = LoadPlanner::go_on(engine_, asked, {.asked_blocks = 100, .elapsed_ns = waited})) {
    waited += *more;
  }
  EXPECT_NEAR(static_cast<double>(waited), 64e6, 33e6) << "100 blocks are computed in 64 ms";
}

TEST_F(LoadPlannerTest, what_comes_slowly_is_waited_for_while_that_is_faster_than_computing) {
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  const auto asked = question(runs, 6500);
  const auto at = [&](std::uint64_t ready, std::uint64_t elapsed_ms) {
    return LoadPlanner::go_on(engine_, asked,
                              {.asked_blocks = 100, .ready_blocks = ready, .elapsed_ns = elapsed_ms * kMs});
  };
  EXPECT_TRUE(at(50, 20)) << "20 ms more, against 32 of computing";
  EXPECT_FALSE(at(50, 40));
  EXPECT_TRUE(at(99, 40));
}

TEST_F(LoadPlannerTest, an_engine_that_is_not_known_waits_for_its_deadline_alone) {
  const std::array runs{LoadPlanner::Run{kDisk, 100}};
  EXPECT_EQ(LoadPlanner::go_on(PrefillModel(), question(runs, 6500), {.asked_blocks = 100, .elapsed_ns = 1U << 30U}),
            UINT64_MAX);
}

TEST_F(LoadPlannerTest, plans_the_same_from_the_same) {
  const auto run = [] {
    std::mt19937_64 random(7);
    LoadPlanner planner;
    PrefillModel engine;
    std::vector<std::uint64_t> blocks;
    for (std::uint64_t i = 1; i < 500; ++i) {
      engine.add({.context = random() % 4096, .tokens = 1 + random() % 4096}, 1 + random() % kMs);
      planner.add({.tier = random() % 3, .bytes = 1 + random() % kBlockBytes, .ns = 1 + random() % kMs});
      const std::array runs{LoadPlanner::Run{random() % 3, random() % 50},
                            LoadPlanner::Run{random() % 3, random() % 50}};
      const auto plan = planner.plan(engine,
                                     {.runs = runs,
                                      .block_bytes = kBlockBytes,
                                      .block_tokens = 16,
                                      .prompt_tokens = random() % 4096,
                                      .deadline_ns = i % 3 == 0 ? random() % kMs : UINT64_MAX},
                                     i * kMs);
      EXPECT_EQ(plan.blocks + plan.left_blocks, runs[0].blocks + runs[1].blocks);
      EXPECT_LE(plan.probe_blocks, plan.left_blocks);
      blocks.push_back(plan.blocks);
    }
    return blocks;
  };
  EXPECT_EQ(run(), run());
}

TEST(PrefillModel, tells_layers_attention_and_steps_apart) {
  PrefillModel model;
  EXPECT_TRUE(model.is_empty());
  const auto truth = [](double context, double tokens) {
    return 3e6 + 20'000 * tokens + 0.5 * tokens * (context + tokens / 2);
  };
  std::mt19937_64 random(3);
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t context = random() % 32'000;
    const std::uint64_t tokens = 16 + random() % 8'000;
    model.add({context, tokens},
              static_cast<std::uint64_t>(truth(static_cast<double>(context), static_cast<double>(tokens))));
  }
  for (const auto& [context, tokens] : {std::pair{0, 100}, {0, 30'000}, {20'000, 500}}) {
    const double expected = truth(context, tokens);
    EXPECT_NEAR(model.predict_ns({static_cast<std::uint64_t>(context), static_cast<std::uint64_t>(tokens)}), expected,
                0.05 * expected)
        << context << " " << tokens;
  }
  EXPECT_EQ(model.predict_ns({1000, 0}), 0);
}

TEST(FittedTimes, bad_samples_are_ignored) {
  FittedTimes<2> times(1);
  times.add({1, 10}, 0);
  times.add({1, 10}, -1);
  times.add({1, 0}, 5);
  times.add({1, 10}, std::numeric_limits<double>::infinity());
  EXPECT_EQ(times.samples(), 0U);
  EXPECT_EQ(times.predict_ns({1, 10}), 0);
}

TEST(FittedTimes, one_stray_changes_little_and_a_step_everything) {
  FittedTimes<2> times(1);
  for (int i = 1; i <= 60; ++i) times.add({1, 100.0 * (1 + i % 7)}, 1000.0 * (1 + i % 7));
  times.add({1, 400}, 400'000);
  EXPECT_NEAR(times.predict_ns({1, 400}), 4000, 600);
  times.add({1, 400}, 4000);
  for (int i = 0; i < 3; ++i) times.add({1, 400}, 40'000);
  EXPECT_NEAR(times.predict_ns({1, 400}), 40'000, 4000);
  for (int i = 0; i < 2; ++i) times.add({1, 400}, 4000);
  EXPECT_NEAR(times.predict_ns({1, 400}), 4000, 2000);
}

}  // namespace
}  // namespace tiercel
