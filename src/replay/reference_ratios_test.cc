// Goal: the policies get the hit ratios that an independent simulator got on the same traces at 1, 5, 10, 20 and 50 %
// of the blocks: LRU and the optimum to the fourth digit, S3-FIFO and ARC to 0.005.
#include "replay/replay.h"
#include "workload/read_workload.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <string>

namespace tiercel {
namespace {

using Ratios = std::array<double, 5>;

struct Reference {
  const char* trace;
  std::uint64_t unique_blocks;
  Ratios lru;
  Ratios s3_fifo;
  Ratios s3_fifo_1;
  Ratios arc;
  Ratios optimum;
};

constexpr std::array<Reference, 5> kReferences = {{
    {"mooncake_conversation",
     182'790,
     {.0525, .1958, .2789, .3453, .3631},
     {.0748, .1874, .2448, .3276, .3619},
     {.0755, .1909, .2437, .3067, .3627},
     {.0650, .2101, .2843, .3201, .3627},
     {.2464, .3664, .3664, .3664, .3664}},
    {"mooncake_synthetic",
     43'924,
     {.0381, .1566, .2623, .3931, .5888},
     {.0451, .1550, .2598, .3829, .5740},
     {.0398, .1559, .2689, .4019, .6035},
     {.0420, .1628, .2624, .4030, .6035},
     {.1854, .3956, .5063, .6080, .6396}},
    {"claude_code_opus_merged_blk512",
     234'244,
     {.4228, .9331, .9553, .9614, .9614},
     {.4709, .9187, .9540, .9597, .9612},
     {.4790, .9242, .9558, .9605, .9613},
     {.4789, .9269, .9533, .9610, .9611},
     {.7225, .9559, .9614, .9614, .9614}},
    {"lmcache_agents_64B",
     25'809,
     {.4960, .8419, .8963, .8967, .8973},
     {.3750, .7705, .8685, .8935, .8972},
     {.4186, .8036, .8851, .8947, .8973},
     {.4026, .7952, .8942, .8935, .8946},
     {.5351, .8463, .8973, .8973, .8973}},
    {"sharegpt_lmbench_64B",
     6'258,
     {.0000, .0264, .0290, .0396, .3011},
     {.0000, .0264, .0290, .1792, .3633},
     {.0000, .0264, .0290, .1792, .4394},
     {.0000, .0264, .0290, .0396, .4159},
     {.0290, .1287, .2212, .3952, .6757}},
}};

constexpr double kFourthDigit = 0.000051;  // the tables are rounded
constexpr double kNear = 0.005;

class ReferenceRatios : public testing::TestWithParam<Reference> {};

TEST_P(ReferenceRatios, are_reproduced) {
  const Reference& reference = GetParam();
  const auto workload = read_workload(std::string(TIERCEL_TRACES "/") + reference.trace + ".jsonl.zst");
  ASSERT_TRUE(workload) << workload.error().message;
  ASSERT_EQ(workload->unique_blocks, reference.unique_blocks);
  const auto report =
      replay(*workload, {.policies = {"s3-fifo", "s3-fifo-1", "arc"},
                         .capacities = {{.share = .01}, {.share = .05}, {.share = .1}, {.share = .2}, {.share = .5}}});
  ASSERT_TRUE(report) << report.error().message;
  for (std::size_t i = 0; i < report->cells.size(); ++i) {
    const ReplayCell& cell = report->cells[i];
    const auto expect = [&](const char* policy, const Ratios& ratios, double tolerance) {
      EXPECT_NEAR(report->ratio(cell.run_of(policy)->hits), ratios.at(i), tolerance)
          << policy << " with " << cell.capacity << " blocks";
    };
    expect("lru", reference.lru, kFourthDigit);
    expect("optimum", reference.optimum, kFourthDigit);
    expect("s3-fifo", reference.s3_fifo, kNear);
    expect("s3-fifo-1", reference.s3_fifo_1, kNear);
    expect("arc", reference.arc, kNear);
  }
}

INSTANTIATE_TEST_SUITE_P(Traces, ReferenceRatios, testing::ValuesIn(kReferences),
                         [](const auto& instance) { return std::string(instance.param.trace); });

}  // namespace
}  // namespace tiercel
