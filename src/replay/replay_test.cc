// Goal: what a report says of small workloads that one can follow by hand, and what is refused.
#include "replay/replay.h"
#include "workload/workload_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace tiercel {
namespace {

using ::testing::HasSubstr;

Workload workload_of(const std::vector<std::vector<std::uint64_t>>& sequences) {
  WorkloadBuilder builder;
  std::uint64_t now_ns = 0;
  for (const auto& ids : sequences) EXPECT_TRUE(builder.add({.arrival_ns = now_ns += 1'000'000'000}, ids));
  return std::move(builder).finish(false);
}

ReplayReport report_of(const Workload& workload, std::uint64_t capacity) {
  auto report = replay(workload, {.policies = {"s3-fifo", "arc"}, .capacities = {{.blocks = capacity}}});
  EXPECT_TRUE(report);
  return report ? *std::move(report) : ReplayReport{};
}

TEST(Replay, a_block_is_a_hit_only_if_all_before_it_are) {
  // With two blocks the tail of 1 2 3 goes first, so 1 and 2 are hits and 3 is none.
  const ReplayReport report = report_of(workload_of({{1, 2, 3}, {1, 2, 3}}), 2);
  EXPECT_EQ(report.cells[0].run_of("lru")->hits, 2U);
  EXPECT_EQ(report.cells[0].run_of("optimum")->hits, 2U);
  EXPECT_EQ(report.infinite_ratio(), 0.5);
}

TEST(Replay, the_optimum_keeps_what_is_used_next_and_refuses_what_is_never_used_again) {
  const ReplayReport report = report_of(workload_of({{1, 2}, {3}, {4, 5}, {1, 2}, {3}}), 2);
  EXPECT_EQ(report.cells[0].run_of("lru")->hits, 0U);
  EXPECT_EQ(report.cells[0].run_of("optimum")->hits, 2U);  // 1 2, or 1 and 3: the nearest are kept
}

TEST(Replay, closure_is_the_part_of_the_way_from_lru_to_the_optimum) {
  ReplayReport report{.block_uses = 1000, .unique_blocks = 10};
  const auto add_cell = [&report](std::uint64_t lru, std::uint64_t arc, std::uint64_t optimum) {
    report.cells.push_back({.runs = {{"lru", lru}, {"arc", arc}, {"optimum", optimum}}});
  };
  add_cell(100, 150, 200);  // half of the way
  add_cell(100, 200, 500);  // a quarter
  add_cell(100, 104, 104);  // a gap too small to count
  EXPECT_NEAR(*closure_of(report, report.cells[0], "arc"), 0.5, 1e-12);
  EXPECT_FALSE(closure_of(report, report.cells[2], "arc"));
  EXPECT_FALSE(closure_of(report, report.cells[0], "s3-fifo")) << "it was not run";
  const ReplayScore score = score_of(std::vector{report}, "arc");
  EXPECT_EQ(score.cells, 2U);
  EXPECT_NEAR(score.score, 150.0 / 500, 1e-12);
  EXPECT_NEAR(score.mean_closure, 0.375, 1e-12);
}

TEST(Replay, a_share_of_the_blocks_is_rounded_down_but_never_to_none) {
  std::vector<std::vector<std::uint64_t>> sequences;
  for (std::uint64_t id = 0; id < 250; ++id) sequences.push_back({id});
  const Workload workload = workload_of(sequences);
  EXPECT_EQ((ReplayCapacity{.share = 0.01}).of(workload), 2U);
  EXPECT_EQ((ReplayCapacity{.share = 0.10}).of(workload), 25U);
  EXPECT_EQ((ReplayCapacity{.share = 0.0001}).of(workload), 1U);
  EXPECT_EQ((ReplayCapacity{.blocks = 7}).of(workload), 7U);
}

TEST(Replay, what_cannot_be_replayed_is_refused_with_the_reason) {
  const auto error_of = [](const Workload& workload, const ReplayOptions& options) {
    const auto report = replay(workload, options);
    return report ? "(accepted)" : report.error().message;
  };
  const Workload workload = workload_of({{1}});
  EXPECT_THAT(error_of(workload, {.policies = {"fifo"}, .capacities = {{.blocks = 1}}}),
              HasSubstr("fifo is no policy; there are lru, s3-fifo"));
  EXPECT_THAT(error_of(workload, {}), HasSubstr("no capacity"));
  EXPECT_THAT(error_of(workload_of({{}}), {.capacities = {{.blocks = 1}}}), HasSubstr("the trace has no blocks"));
}

}  // namespace
}  // namespace tiercel
