// Goal: several workloads are one in which each is as it was, on one clock, with blocks and sessions of its own.
#include "workload/combined_workload.h"
#include "workload/workload_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace tiercel {
namespace {

using ::testing::ElementsAre;

constexpr std::uint64_t kSecond_ns = 1'000'000'000;

Workload two_requests(std::uint64_t gap_s, std::uint32_t session) {
  WorkloadBuilder builder;
  EXPECT_TRUE(
      builder.add({.arrival_ns = 0, .output_tokens = 1, .session = session}, std::array<std::uint64_t, 2>{1, 2}));
  EXPECT_TRUE(builder.add({.arrival_ns = gap_s * kSecond_ns, .output_tokens = 2, .session = session},
                          std::array<std::uint64_t, 2>{1, 3}));
  return std::move(builder).finish(false);
}

std::vector<std::uint64_t> seconds_of(const Workload& workload) {
  std::vector<std::uint64_t> seconds;
  for (const WorkloadRequest& request : workload.requests) seconds.push_back(request.arrival_ns / kSecond_ns);
  return seconds;
}

TEST(CombinedWorkload, one_after_another) {
  const std::array parts = {two_requests(10, 0), two_requests(4, 0)};
  const auto whole = combine_workloads(parts, WorkloadOrder::kOneAfterAnother);
  ASSERT_TRUE(whole);
  EXPECT_THAT(seconds_of(*whole), ElementsAre(0, 10, 11, 15));
  EXPECT_EQ(whole->unique_blocks, 6U);
  EXPECT_THAT(whole->block_uses, ElementsAre(0, 1, 0, 2, 3, 4, 3, 5));
  EXPECT_EQ(whole->requests[1].session, 0U);
  EXPECT_EQ(whole->requests[2].session, 1U);
  EXPECT_TRUE(whole->requests[1].ends_session);
}

TEST(CombinedWorkload, mixed) {
  const std::array parts = {two_requests(10, UINT32_MAX), two_requests(4, 7)};
  const auto whole = combine_workloads(parts, WorkloadOrder::kMixed);
  ASSERT_TRUE(whole);
  EXPECT_THAT(seconds_of(*whole), ElementsAre(0, 0, 4, 10));
  const auto blocks = [&](std::size_t request) {
    const auto span = whole->blocks_of(whole->requests[request]);
    return std::vector<WorkloadBlock>(span.begin(), span.end());
  };
  EXPECT_THAT(blocks(0), ElementsAre(0, 1));
  EXPECT_THAT(blocks(1), ElementsAre(3, 4));
  EXPECT_THAT(blocks(2), ElementsAre(3, 5));
  EXPECT_THAT(blocks(3), ElementsAre(0, 2));
  EXPECT_EQ(whole->requests[0].session, UINT32_MAX);
  EXPECT_EQ(whole->requests[2].session, 7U);
}

TEST(CombinedWorkload, more_blocks_than_a_workload_can_have_are_refused) {
  std::array<Workload, 2> parts;
  parts[0].unique_blocks = parts[1].unique_blocks = UINT32_MAX / 2 + 1;
  EXPECT_FALSE(combine_workloads(parts, WorkloadOrder::kMixed));
}

}  // namespace
}  // namespace tiercel
