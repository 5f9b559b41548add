// Goal: the learned policy holds whole prefixes, its counts are right, and its memory stays inside its bounds, after
// every request of random workloads, of long requests and of a workload that never comes back.
#include "replay/hit_density_replay.h"
#include "replay/testing/random_workload.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

namespace tiercel {
namespace {

using testing_replay::random_workload;

void expect_whole_prefixes(const Workload& workload, const HitDensityReplay& policy) {
  std::uint64_t held = 0;
  for (WorkloadBlock block = 0; block < workload.unique_blocks; ++block) held += policy.holds(block) ? 1U : 0U;
  RC_ASSERT(held == policy.held());
  for (const WorkloadRequest& request : workload.requests) {
    const auto blocks = workload.blocks_of(request);
    for (std::size_t i = 1; i < blocks.size(); ++i) RC_ASSERT(!policy.holds(blocks[i]) || policy.holds(blocks[i - 1]));
  }
}

RC_GTEST_PROP(HitDensity, holds_whole_prefixes_within_its_bounds_after_every_request, ()) {
  const Workload workload =
      random_workload(*rc::gen::arbitrary<std::uint64_t>(), 1 + *rc::gen::inRange<std::uint64_t>(0, 300),
                      *rc::gen::inRange<std::uint64_t>(1, 5), *rc::gen::inRange<std::uint64_t>(1, 9));
  const auto capacity = *rc::gen::inRange<std::uint64_t>(1, 80);
  HitDensityReplay policy(capacity, *rc::gen::arbitrary<std::uint64_t>());
  for (const WorkloadRequest& request : workload.requests) {
    (void)policy.serve(
        {.blocks = workload.blocks_of(request), .now_ns = request.arrival_ns, .output_tokens = request.output_tokens});
    RC_ASSERT(policy.held() <= capacity);
    RC_ASSERT(policy.policy().ghosts() <= capacity);
    expect_whole_prefixes(workload, policy);
  }
}

TEST(HitDensity, the_memory_of_blocks_and_ghosts_is_bounded) {
  static_assert(HitDensityPolicy::kBytesPerBlock <= 128);
  static_assert(HitDensityPolicy::kBytesPerGhost <= 64);
  constexpr std::uint64_t kCapacity = 10'000;
  constexpr std::uint64_t kLongest = 100;
  HitDensityPolicy policy({.capacity = kCapacity, .ghosts = kCapacity});
  std::vector<std::uint64_t> names(kLongest);
  std::uint64_t next = 1;
  std::uint64_t now_ns = 0;
  for (int use = 0; use < 3'000; ++use) {  // 300,000 blocks, of which none comes back
    for (std::uint64_t& name : names) name = next++;
    policy.use({.blocks = names, .now_ns = now_ns += 1'000'000'000, .output_tokens = static_cast<std::uint32_t>(use)});
  }
  EXPECT_EQ(policy.held(), kCapacity);
  EXPECT_LE(policy.ghosts(), kCapacity);
  // Pools grow by an eighth and 64 elements.
  constexpr std::uint64_t kMost =
      ((kCapacity + kLongest) * HitDensityPolicy::kBytesPerBlock + kCapacity * HitDensityPolicy::kBytesPerGhost) * 9 /
          8 +
      64 * 128;
  EXPECT_LE(policy.bytes() - policy.model().bytes(), kMost);
}

TEST(HitDensity, a_use_longer_than_the_capacity_keeps_its_head) {
  HitDensityPolicy policy({.capacity = 10, .ghosts = 10});
  std::vector<std::uint64_t> names(1'000);
  for (std::uint64_t i = 0; i < names.size(); ++i) names[i] = i + 1;
  for (int use = 0; use < 50; ++use) policy.use({.blocks = names, .now_ns = static_cast<std::uint64_t>(use) << 30U});
  EXPECT_EQ(policy.held(), 10U);
  for (std::uint64_t i = 0; i < 10; ++i) EXPECT_TRUE(policy.holds(names[i])) << i;
}

TEST(HitDensity, in_a_round_robin_it_keeps_some_where_lru_keeps_none) {
  HitDensityPolicy policy({.capacity = 50, .ghosts = 50});
  std::uint64_t hits = 0;
  for (std::uint64_t round = 0; round < 40; ++round) {
    for (std::uint64_t user = 0; user < 100; ++user) {  // one block each, all in turn
      const std::vector<std::uint64_t> name = {user + 1};
      hits += round >= 20 && policy.holds(name[0]) ? 1U : 0U;
      policy.use({.blocks = name, .now_ns = (round * 100 + user) * 1'000'000'000});
    }
  }
  EXPECT_GT(hits, 500U) << "of 2,000 uses, of which the best choice hits half";
}

}  // namespace
}  // namespace tiercel
