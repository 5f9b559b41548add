// Goal: where the work of a tier changes from one trace to another, or several share it, the learned policy is at no
// time more than 1 % of the block uses behind LRU.
#include "replay/hit_density_replay.h"
#include "replay/lru_replay.h"
#include "workload/combined_workload.h"
#include "workload/read_workload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace tiercel {
namespace {

constexpr double kMayFallBehind = 0.01;         // of the block uses so far
constexpr std::uint64_t kSettledAfter = 4'000;  // requests

Workload trace(const std::string& name) {
  auto workload = read_workload(TIERCEL_TRACES "/" + name + ".jsonl.zst");
  if (!workload) ADD_FAILURE() << workload.error().message;
  return workload ? *std::move(workload) : Workload{};
}

const std::array<const char*, 4> kSmall = {"mooncake_conversation", "mooncake_synthetic", "lmcache_agents_64B",
                                           "sharegpt_lmbench_64B"};

struct Behind {
  double most = -1;    // at any time after so many requests
  double at_end = -1;  // of all block uses
};

Behind behind_lru(const Workload& workload, double share) {
  const auto capacity = static_cast<std::uint64_t>(share * workload.unique_blocks);
  HitDensityReplay learned(capacity, 1);
  LruReplay lru(capacity, workload.unique_blocks);
  Behind behind;
  double lost = 0;
  double uses = 0;
  std::uint64_t requests = 0;
  for (const WorkloadRequest& request : workload.requests) {
    const ReplayPolicy::Request served{
        .blocks = workload.blocks_of(request), .now_ns = request.arrival_ns, .output_tokens = request.output_tokens};
    lost += static_cast<double>(lru.serve(served)) - static_cast<double>(learned.serve(served));
    uses += request.block_count;
    if (++requests > kSettledAfter) behind.most = std::max(behind.most, lost / uses);
  }
  behind.at_end = lost / uses;
  return behind;
}

void expect_not_behind(const std::vector<Workload>& parts, const std::string& names) {
  for (const auto order : {WorkloadOrder::kOneAfterAnother, WorkloadOrder::kMixed}) {
    const auto whole = combine_workloads(parts, order);
    ASSERT_TRUE(whole);
    for (const double share : {.01, .05, .1}) {
      const Behind behind = behind_lru(*whole, share);
      const std::string what = names + (order == WorkloadOrder::kMixed ? ", mixed, at " : ", at ") +
                               std::to_string(share) + ": most " + std::to_string(behind.most) + ", end " +
                               std::to_string(behind.at_end);
      EXPECT_LE(behind.most, kMayFallBehind) << what;
      EXPECT_LE(behind.at_end, kMayFallBehind) << what;
    }
  }
}

TEST(HitDensityShift, from_each_small_trace_to_each_other_and_beside_it) {
  for (const char* first : kSmall) {
    for (const char* second : kSmall) {
      expect_not_behind({trace(first), trace(second)}, std::string(first) + ", then " + second);
    }
  }
}

TEST(HitDensityShift, from_and_to_coding_agents) {
  const std::string name = "claude_code_opus_merged_blk512";
  const Workload agents = trace(name);
  for (const char* other : kSmall) {
    expect_not_behind({agents, trace(other)}, name + ", then " + other);
    expect_not_behind({trace(other), agents}, std::string(other) + ", then " + name);
  }
}

TEST(HitDensityShift, there_and_back_and_there) {
  const Workload conversation = trace(kSmall[0]);
  const Workload agents = trace(kSmall[2]);
  expect_not_behind({conversation, agents, conversation, agents}, "there and back");
}

}  // namespace
}  // namespace tiercel
