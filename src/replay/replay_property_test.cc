// Goal: on random workloads, no policy holds more than its capacity or hits more than the optimum, the optimum is what
// an exhaustive search finds, LRU is what a plain list gives and always holds whole prefixes, and a run depends on its
// seed alone.
#include "replay/optimum.h"
#include "replay/replay.h"
#include "replay/testing/random_workload.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <bit>
#include <list>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace tiercel {
namespace {

using testing_replay::random_workload;

Workload any_workload(std::uint64_t most_requests) {
  return random_workload(*rc::gen::arbitrary<std::uint64_t>(), 1 + *rc::gen::inRange<std::uint64_t>(0, most_requests),
                         *rc::gen::inRange<std::uint64_t>(1, 5), *rc::gen::inRange<std::uint64_t>(1, 7));
}

std::uint64_t hits_of(std::string_view name, const Workload& workload, std::uint64_t capacity, std::uint64_t seed = 1) {
  const auto next = next_uses(workload);
  const auto policy = make_replay_policy(name, capacity, workload, next, seed);
  return serve_all(workload, *policy);  // checks the capacity after each request
}

/// A list of blocks, used last at the front.
std::uint64_t plain_lru_hits(const Workload& workload, std::uint64_t capacity) {
  std::list<WorkloadBlock> order;
  std::uint64_t hits = 0;
  for (const WorkloadRequest& request : workload.requests) {
    const auto blocks = workload.blocks_of(request);
    const auto missing = [&](WorkloadBlock block) { return std::ranges::find(order, block) == order.end(); };
    hits += static_cast<std::uint64_t>(std::ranges::find_if(blocks, missing) - blocks.begin());
    for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
      order.remove(*block);
      order.push_front(*block);
    }
    while (order.size() > capacity) order.pop_back();
  }
  return hits;
}

/// The most hits of any choice of what is held: all sets of at most `capacity` blocks out of what was held or used.
std::uint64_t most_hits(const Workload& workload, std::uint64_t capacity) {
  std::map<std::uint32_t, std::uint64_t> best = {{0, 0}};  // by what is held, a bit a block
  for (const WorkloadRequest& request : workload.requests) {
    std::map<std::uint32_t, std::uint64_t> after;
    for (const auto& [held, hits] : best) {
      std::uint64_t now = hits;
      std::uint32_t may_hold = held;
      bool all_before = true;
      for (const WorkloadBlock block : workload.blocks_of(request)) {
        all_before = all_before && (held >> block & 1U) != 0;
        now += all_before ? 1U : 0U;
        may_hold |= 1U << block;
      }
      for (std::uint32_t set = may_hold;; set = (set - 1) & may_hold) {
        if (static_cast<std::uint64_t>(std::popcount(set)) <= capacity) after[set] = std::max(after[set], now);
        if (set == 0) break;
      }
    }
    best = std::move(after);
  }
  return std::ranges::max_element(best, {}, [](const auto& entry) { return entry.second; })->second;
}

RC_GTEST_PROP(Replay, no_policy_hits_more_than_the_optimum_or_holds_more_than_its_capacity, ()) {
  const Workload workload = any_workload(200);
  const auto capacity = *rc::gen::inRange<std::uint64_t>(1, 60);
  const std::uint64_t best = hits_of("optimum", workload, capacity);
  for (const std::string_view name : replay_policy_names()) {
    RC_ASSERT(hits_of(name, workload, capacity) <= best);
    RC_ASSERT(hits_of(name, workload, workload.unique_blocks) == workload.block_uses.size() - workload.unique_blocks);
  }
}

RC_GTEST_PROP(Replay, the_optimum_is_what_an_exhaustive_search_finds, ()) {
  const Workload workload = random_workload(*rc::gen::arbitrary<std::uint64_t>(), 6, 2, 3);  // at most 14 blocks
  RC_PRE(workload.unique_blocks <= 10U);
  const auto capacity = *rc::gen::inRange<std::uint64_t>(1, 6);
  RC_ASSERT(hits_of("optimum", workload, capacity) == most_hits(workload, capacity));
}

RC_GTEST_PROP(Replay, lru_hits_what_a_plain_list_hits, ()) {
  const Workload workload = any_workload(100);
  const auto capacity = *rc::gen::inRange<std::uint64_t>(1, 60);
  RC_ASSERT(hits_of("lru", workload, capacity) == plain_lru_hits(workload, capacity));
}

RC_GTEST_PROP(Replay, a_run_depends_on_its_seed_alone, ()) {
  const Workload workload = any_workload(200);
  const auto capacity = *rc::gen::inRange<std::uint64_t>(1, 60);
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  for (const std::string_view name : replay_policy_names()) {
    RC_ASSERT(hits_of(name, workload, capacity, seed) == hits_of(name, workload, capacity, seed));
  }
}

RC_GTEST_PROP(Replay, policies_of_leaves_hold_whole_prefixes_after_every_request, ()) {
  const Workload workload = any_workload(200);
  const auto capacity = *rc::gen::inRange<std::uint64_t>(1, 60);
  const auto next = next_uses(workload);
  for (const std::string_view name : {"lru", "hit-density"}) {
    const auto policy = make_replay_policy(name, capacity, workload, next, 1);
    for (const WorkloadRequest& request : workload.requests) {
      (void)policy->serve({.blocks = workload.blocks_of(request),
                           .now_ns = request.arrival_ns,
                           .output_tokens = request.output_tokens});
      std::uint64_t held = 0;
      for (WorkloadBlock block = 0; block < workload.unique_blocks; ++block) held += policy->holds(block) ? 1U : 0U;
      RC_ASSERT(held == policy->held());
      for (const WorkloadRequest& any : workload.requests) {
        const auto blocks = workload.blocks_of(any);
        for (std::size_t i = 1; i < blocks.size(); ++i) {
          RC_ASSERT(!policy->holds(blocks[i]) || policy->holds(blocks[i - 1]));
        }
      }
    }
  }
}

}  // namespace
}  // namespace tiercel
