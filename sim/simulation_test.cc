// Goal: a seed repeats its run to the last event, a healthy cache passes, and every planted error is reported.
#include "sim/simulation.h"
#include "base/log.h"
#include "sim/campaign.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace tiercel::sim {
namespace {

SimulationOptions with(std::uint64_t seed, bool disk = false) {
  return {.seed = seed, .request = {.disk = disk, .crashes = true, .tears = true}};
}

class SimulationTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_log_sink([](LogLevel, std::string_view) {});
  }
  static void TearDownTestSuite() { set_log_sink({}); }
  /// The first seed that reports `words`, with its sentence; an empty string if none of 60 does.
  static std::string planted(Plant plant, std::uint32_t directories = 0) {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      SimulationOptions options = with(seed, directories > 0);
      options.plant = plant;
      options.request.directories = std::max(1U, directories);
      const Outcome outcome = simulate(options);
      if (!outcome.ok) return outcome.violation;
    }
    return {};
  }
};

TEST_F(SimulationTest, TheSameSeedIsTheSameRun) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const Outcome first = simulate(with(seed));
    const Outcome second = simulate(with(seed));
    EXPECT_TRUE(first.ok) << first.violation;
    EXPECT_EQ(first.trace_hash, second.trace_hash) << "seed " << seed;
    EXPECT_EQ(first.events, second.events);
    EXPECT_NE(first.trace_hash, simulate(with(seed + 100)).trace_hash);
  }
}

TEST_F(SimulationTest, ACampaignDoesNotDependOnItsJobs) {
  CampaignOptions options{.run = with(1), .runs = 20};
  const CampaignResult one = run_campaign(options);
  options.jobs = 2;
  const CampaignResult two = run_campaign(options);
  EXPECT_EQ(one.sum.trace_hash, two.sum.trace_hash);
  EXPECT_EQ(one.runs, 20U);
  EXPECT_TRUE(one.failures.empty()) << describe(options, one);
  EXPECT_GT(one.sum.crashes, 0U);
  EXPECT_GT(one.sum.loaded_blocks, 0U);
  EXPECT_GT(one.sum.deletes, 0U);
}

TEST_F(SimulationTest, WrongBytesAreReported) {
  EXPECT_THAT(planted(Plant::kWrongBytes), testing::HasSubstr("wrong bytes"));
}
TEST_F(SimulationTest, AMixedBlockIsReported) {
  EXPECT_THAT(planted(Plant::kMixedBlock), testing::HasSubstr("a mixed block"));
}
TEST_F(SimulationTest, AResurrectedDeleteIsReported) {
  EXPECT_THAT(planted(Plant::kResurrected), testing::HasSubstr("a resurrected delete"));
}
TEST_F(SimulationTest, ADeadlineOverrunIsReported) {
  EXPECT_THAT(planted(Plant::kLate), testing::HasSubstr("a deadline overrun"));
}
TEST_F(SimulationTest, AnOrphanAfterACrashIsReported) {
  EXPECT_THAT(planted(Plant::kOrphan), testing::HasSubstr("an orphan"));
}

TEST_F(SimulationTest, WhatADiskHasLostSinceABootIsReported) {
  EXPECT_THAT(planted(Plant::kOlderDisk, 3), testing::HasSubstr("lost what was acknowledged"));
}
TEST_F(SimulationTest, WhatADiskThatComesLateHasLostIsReported) {
  EXPECT_THAT(planted(Plant::kEmptyDisk, 3), testing::HasSubstr("lost what was acknowledged"));
}

TEST_F(SimulationTest, SeveralDirectoriesRepeatTheirRunsToo) {
  Outcome sum;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    SimulationOptions options = with(seed, true);
    options.request.directories = 3;
    options.request.faults = FaultSet::all();
    options.steps = 200;
    const Outcome first = simulate(options);
    EXPECT_TRUE(first.ok) << first.violation;
    EXPECT_EQ(first.trace_hash, simulate(options).trace_hash) << "seed " << seed;
    sum.boots_without += first.boots_without;
    sum.late_disks += first.late_disks;
  }
  EXPECT_GT(sum.boots_without, 0U);
  EXPECT_GT(sum.late_disks, 0U);
}

TEST_F(SimulationTest, AFailureSaysHowToSeeItAgain) {
  CampaignOptions options{.run = with(1), .runs = 60};
  options.run.plant = Plant::kOrphan;
  const CampaignResult result = run_campaign(options);
  ASSERT_FALSE(result.failures.empty());
  const std::string text = describe(options, result);
  EXPECT_THAT(text, testing::HasSubstr("FAILED: seed "));
  EXPECT_THAT(text, testing::HasSubstr("--crashes --tears --no-disk --plant orphan --trace"));
  EXPECT_THAT(text, testing::HasSubstr("VIOLATION"));
}

}  // namespace
}  // namespace tiercel::sim
