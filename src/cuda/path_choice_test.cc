// Goal: a plan that a step waits for takes the path that is shorter by what was measured, and beside a model the one
// that leaves it alone, unless it costs too much; what plans take corrects it, for a busy and an idle GPU apart, and no
// single measurement turns it round; a file that is not whole and plausible gives nothing.
#include "cuda/path_choice.h"

#include <gtest/gtest.h>

namespace tiercel::gpu {
namespace {

constexpr std::uint64_t kMiB = 1U << 20U;

/// Staged: 20 us and 52 GB/s at any run. Merged: 5 us and 2 us a copy, and 55 GB/s.
PathCosts plausible_costs() {
  PathCosts costs;
  for (const CopyDirection direction : {CopyDirection::kStore, CopyDirection::kLoad}) {
    for (std::size_t run = 0; run < kCalibratedRuns.size(); ++run) {
      costs.at(direction, CopyPath::kStaged, run) = {20'000, 19'230};
      costs.at(direction, CopyPath::kMerged, run) = {5'000, 18'180 + 2'000'000'000 / kCalibratedRuns[run] / 4};
    }
  }
  return costs;
}

GpuCopyOptions without_pace(std::uint64_t merge_bytes = 0) {
  return {.store_bytes_per_second = 0, .merge_bytes = merge_bytes};
}

CopyPath path_of(const PathChoice& choice, std::uint64_t bytes, std::uint64_t run, GpuLoad load = GpuLoad::kBusy) {
  return choice.choose(CopyDirection::kLoad, bytes, run, load).path;
}

TEST(PathChoiceTest, without_costs_the_mean_run_decides) {
  const PathChoice choice(without_pace(kMiB));
  EXPECT_EQ(path_of(choice, 64 * kMiB, kMiB), CopyPath::kMerged);
  EXPECT_EQ(path_of(choice, 64 * kMiB, kMiB - 1), CopyPath::kStaged);
  EXPECT_EQ(choice.merges_from(), kMiB);
}

TEST(PathChoiceTest, takes_the_shorter_path) {
  const PathChoice choice(without_pace(), plausible_costs());
  EXPECT_EQ(path_of(choice, 64 * kMiB, 16U << 10U, GpuLoad::kIdle), CopyPath::kStaged);
  EXPECT_EQ(path_of(choice, 64 * kMiB, 512, GpuLoad::kIdle), CopyPath::kStaged);
  EXPECT_EQ(path_of(choice, 64 * kMiB, 256U << 10U, GpuLoad::kIdle), CopyPath::kStaged);
  EXPECT_EQ(path_of(choice, 64 * kMiB, 512U << 10U, GpuLoad::kIdle), CopyPath::kMerged) << "nearly alike, and long";
  EXPECT_EQ(path_of(choice, 64 * kMiB, kMiB, GpuLoad::kIdle), CopyPath::kMerged);
  EXPECT_EQ(path_of(choice, 64 * kMiB, 64 * kMiB, GpuLoad::kIdle), CopyPath::kMerged);
  EXPECT_EQ(path_of(choice, 256U << 10U, 256U << 10U, GpuLoad::kIdle), CopyPath::kMerged)
      << "a small plan: its fixed cost counts";
}

/// Merged: `times` as long as staged, at any run of 64 KiB and more.
PathCosts merging_takes(double times) {
  PathCosts costs;
  for (const CopyDirection direction : {CopyDirection::kStore, CopyDirection::kLoad}) {
    for (std::size_t run = 0; run < kCalibratedRuns.size(); ++run) {
      costs.at(direction, CopyPath::kStaged, run) = {0, 20'000};
      costs.at(direction, CopyPath::kMerged, run) = {0, static_cast<std::uint64_t>(20'000 * times)};
    }
  }
  return costs;
}

TEST(PathChoiceTest, beside_a_model_loads_of_long_runs_go_without_a_stage_unless_that_is_much_longer) {
  const PathChoice nearly(without_pace(), merging_takes(1.09));
  EXPECT_EQ(path_of(nearly, 64 * kMiB, kQuietRun), CopyPath::kMerged);
  EXPECT_EQ(path_of(nearly, 64 * kMiB, kQuietRun, GpuLoad::kIdle), CopyPath::kStaged) << "a step waits for it";
  EXPECT_EQ(path_of(nearly, 64 * kMiB, kQuietRun - 1), CopyPath::kStaged) << "too many copies";
  EXPECT_EQ(nearly.choose(CopyDirection::kStore, 64 * kMiB, kQuietRun, GpuLoad::kBusy).path, CopyPath::kStaged)
      << "without a pace: as fast as it goes";
  EXPECT_EQ(nearly.merges_from(), kQuietRun);
  const PathChoice longer(without_pace(), merging_takes(1.11));
  EXPECT_EQ(path_of(longer, 64 * kMiB, kQuietRun), CopyPath::kStaged);
}

TEST(PathChoiceTest, stores_at_a_pace_go_without_a_stage_where_that_keeps_the_pace) {
  // Staged 50 GB/s, merged 20; a pace of 13 is well below it, one of 14 is not.
  const auto store = [](std::uint64_t pace, std::uint64_t run) {
    const PathChoice choice({.store_bytes_per_second = pace}, merging_takes(2.5));
    EXPECT_EQ(choice.choose(CopyDirection::kLoad, 64 * kMiB, run, GpuLoad::kBusy).path, CopyPath::kStaged);
    return choice.choose(CopyDirection::kStore, 64 * kMiB, run, GpuLoad::kBusy).path;
  };
  EXPECT_EQ(store(13'000'000'000, kQuietRun), CopyPath::kMerged);
  EXPECT_EQ(store(14'000'000'000, kQuietRun), CopyPath::kStaged);
  EXPECT_EQ(store(0, kQuietRun), CopyPath::kStaged);
  EXPECT_EQ(store(1'000'000'000, kQuietRun - 1), CopyPath::kStaged) << "too many copies";
}

TEST(PathChoiceTest, predictions_lie_between_those_of_the_calibrated_runs) {
  const PathCosts costs = plausible_costs();
  const auto predict = [&](std::uint64_t run) {
    return costs.predict_ns(CopyDirection::kLoad, CopyPath::kMerged, 64 * kMiB, run);
  };
  for (std::uint64_t run = 1024; run < 2 * kMiB; run *= 2) {
    EXPECT_LE(predict(2 * run), predict(run));
    EXPECT_LE(predict(2 * run), predict(run + run / 2));
  }
  EXPECT_DOUBLE_EQ(predict(8U << 10U), 2 * predict(16U << 10U)) << "twice the copies";
}

TEST(PathChoiceTest, what_plans_take_turns_the_choice_for_that_load_alone) {
  PathChoice choice(without_pace(), plausible_costs());
  const auto slow = [&] {
    const PathEstimate estimate = choice.choose(CopyDirection::kLoad, 64 * kMiB, kMiB, GpuLoad::kBusy);
    EXPECT_EQ(estimate.path, CopyPath::kMerged);
    choice.record(CopyDirection::kLoad, estimate, static_cast<std::uint64_t>(estimate.predicted_ns * 1.5));
  };
  choice.record(CopyDirection::kLoad, choice.choose(CopyDirection::kLoad, 64 * kMiB, kMiB, GpuLoad::kBusy), 1U << 30U);
  EXPECT_LE(choice.correction(CopyDirection::kLoad, CopyPath::kMerged, 3, GpuLoad::kBusy), 1.4) << "one is no rule";
  for (int i = 0; i < 40 && path_of(choice, 64 * kMiB, kMiB) == CopyPath::kMerged; ++i) slow();
  EXPECT_EQ(path_of(choice, 64 * kMiB, kMiB), CopyPath::kStaged);
  EXPECT_EQ(path_of(choice, 64 * kMiB, kMiB, GpuLoad::kIdle), CopyPath::kMerged);
  EXPECT_EQ(choice.choose(CopyDirection::kStore, 64 * kMiB, kMiB, GpuLoad::kBusy).path, CopyPath::kMerged);
  // Not taken, the other path is forgotten and tried again.
  int plans = 0;
  for (; plans < 1000 && path_of(choice, 64 * kMiB, kMiB) == CopyPath::kStaged; ++plans) {
    const PathEstimate estimate = choice.choose(CopyDirection::kLoad, 64 * kMiB, kMiB, GpuLoad::kBusy);
    choice.record(CopyDirection::kLoad, estimate, static_cast<std::uint64_t>(estimate.predicted_ns));
  }
  EXPECT_GT(plans, 3);
  EXPECT_LT(plans, 500);
  EXPECT_NE(choice.text().find("corrected by"), std::string::npos);
}

TEST(PathChoiceTest, costs_survive_their_text_and_nothing_else_is_taken) {
  const PathCosts costs = plausible_costs();
  const std::string text = to_text(costs);
  ASSERT_EQ(parse_costs(text), costs);
  for (std::size_t length = 0; length + 7 < text.size(); ++length) {
    EXPECT_FALSE(parse_costs(text.substr(0, length))) << "cut at " << length;
  }
  EXPECT_FALSE(parse_costs(text + "load staged 1048576 1 1\n"));
  std::string swapped = text;
  swapped.replace(swapped.find("store"), 5, "stone");
  EXPECT_FALSE(parse_costs(swapped));
  PathCosts free = costs;
  free.at(CopyDirection::kLoad, CopyPath::kStaged, 2).femtoseconds_per_byte = 0;
  EXPECT_FALSE(parse_costs(to_text(free)));
  free.at(CopyDirection::kLoad, CopyPath::kStaged, 2) = {2'000'000'000, 1};
  EXPECT_FALSE(parse_costs(to_text(free)));
}

}  // namespace
}  // namespace tiercel::gpu
