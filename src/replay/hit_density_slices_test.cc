// Goal: the learned policy's work can be cut anywhere: slices do the same as all work at once, and none does more than
// its budget and one step. Counted in units of work, not timed.
#include "policy/hit_density.h"
#include "replay/testing/random_workload.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

namespace tiercel {
namespace {

using testing_replay::random_workload;

HitDensityPolicy::Use use_of(const Workload& workload, const WorkloadRequest& request,
                             std::vector<std::uint64_t>& names) {
  const auto blocks = workload.blocks_of(request);
  names.assign(blocks.begin(), blocks.end());
  return {.blocks = names, .now_ns = request.arrival_ns, .output_tokens = request.output_tokens};
}

/// Answers the most that one slice spent.
std::uint64_t work_in_slices(HitDensityPolicy& policy, std::uint64_t units, bool use_only = false) {
  std::uint64_t most = 0;
  for (bool more = true; more && !(use_only && !policy.is_in_use());) {
    WorkBudget work(units);
    more = policy.work(work);
    most = std::max(most, work.spent());
  }
  return most;
}

RC_GTEST_PROP(HitDensitySlices, do_what_all_work_at_once_does, ()) {
  const Workload workload =
      random_workload(*rc::gen::arbitrary<std::uint64_t>(), 1 + *rc::gen::inRange<std::uint64_t>(0, 300),
                      *rc::gen::inRange<std::uint64_t>(1, 5), *rc::gen::inRange<std::uint64_t>(1, 30));
  const auto capacity = *rc::gen::inRange<std::uint64_t>(1, 80);
  const auto units = *rc::gen::inRange<std::uint64_t>(1, 300);
  HitDensityPolicy at_once({.capacity = capacity, .ghosts = capacity});
  HitDensityPolicy sliced({.capacity = capacity, .ghosts = capacity});
  std::vector<std::uint64_t> names;
  for (const WorkloadRequest& request : workload.requests) {
    const auto use = use_of(workload, request, names);
    at_once.use(use);
    sliced.begin(use);
    RC_ASSERT(work_in_slices(sliced, units) < units + WorkBudget::kLargestStep);
    for (WorkloadBlock block = 0; block < workload.unique_blocks; ++block) {
      RC_ASSERT(sliced.holds(block) == at_once.holds(block));
    }
  }
}

TEST(HitDensitySlices, none_is_long_for_a_use_much_longer_than_the_tier) {
  constexpr std::uint64_t kUnits = 100;
  HitDensityPolicy policy({.capacity = 1'000, .ghosts = 1'000});
  std::vector<std::uint64_t> names(100'000);
  for (std::uint64_t i = 0; i < names.size(); ++i) names[i] = i + 1;
  for (std::uint64_t use = 0; use < 50; ++use) {
    policy.begin({.blocks = names, .now_ns = use << 30U});
    EXPECT_LT(work_in_slices(policy, kUnits), kUnits + WorkBudget::kLargestStep);
    EXPECT_EQ(policy.held(), 1'000U);
  }
  EXPECT_LT(policy.bytes() - policy.model().bytes(), 1'000'000U) << "not as much as the use";
}

TEST(HitDensitySlices, uses_go_on_while_a_refit_is_under_way) {
  const Workload workload = random_workload(1, 3'000, 3, 8);
  constexpr std::uint64_t kCapacity = 300;
  HitDensityPolicy policy({.capacity = kCapacity, .ghosts = kCapacity});
  std::vector<std::uint64_t> names;
  std::uint64_t beside = 0;
  for (const WorkloadRequest& request : workload.requests) {
    policy.begin(use_of(workload, request, names));
    (void)work_in_slices(policy, 50, true);
    beside += policy.model().is_refitting() ? 1U : 0U;
    EXPECT_LE(policy.held(), kCapacity);
    WorkBudget one(50);
    (void)policy.work(one);
  }
  EXPECT_GT(beside, 1'000U) << "the model was refitted in few slices, which shows nothing";
}

}  // namespace
}  // namespace tiercel
