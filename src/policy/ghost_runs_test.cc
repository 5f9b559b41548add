// Goal: a run says how much of it a sequence shares, grows at its head, and the oldest is known when there is no room.
#include "policy/ghost_runs.h"

#include <gtest/gtest.h>

#include <span>
#include <vector>

namespace tiercel {
namespace {

using Index = GhostRuns::Index;

/// A sequence of names that is in no other.
std::vector<std::uint64_t> sequence(std::uint64_t number, std::size_t blocks) {
  std::vector<std::uint64_t> names;
  for (std::uint64_t i = 0; i < blocks; ++i) names.push_back(number * 1'000 + i);
  return names;
}

/// As it goes: tail first.
Index add_run(GhostRuns& ghosts, std::span<const std::uint64_t> names, Index record) {
  Index run = ghosts.add({.name = names.back(), .record = record, .blocks = 1});
  for (std::size_t i = names.size() - 1; i-- > 0;) ghosts.grow(run, names[i], 0);
  return run;
}

TEST(GhostRuns, a_run_is_found_by_its_first_block_alone) {
  GhostRuns ghosts(4);
  const auto names = sequence(1, 5);
  const Index run = add_run(ghosts, names, 9);
  EXPECT_EQ(ghosts.find(names[0]), run);
  for (std::size_t i = 1; i < names.size(); ++i) EXPECT_EQ(ghosts.find(names[i]), GhostRuns::kNone);
  EXPECT_EQ(ghosts.size(), 1U);
  EXPECT_EQ(ghosts.run(run).blocks, 5U);
}

TEST(GhostRuns, what_a_sequence_shares_is_the_whole_run_all_but_the_last_or_at_least_so_much) {
  GhostRuns ghosts(4);
  const auto names = sequence(1, 50);
  const Index run = add_run(ghosts, names, 9);
  const auto other = sequence(2, 100);
  const auto shared_of = [&](std::size_t same) {
    std::vector<std::uint64_t> path(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(same));
    path.insert(path.end(), other.begin(), other.end());
    return ghosts.shared(run, path);
  };
  EXPECT_EQ(shared_of(50), 50U);
  EXPECT_EQ(shared_of(49), 49U);
  EXPECT_EQ(shared_of(45), 42U);
  EXPECT_EQ(shared_of(20), 18U);
  EXPECT_EQ(shared_of(5), 1U);
  EXPECT_EQ(ghosts.shared(run, std::span(names).first(7)), 1U) << "the sequence ends inside the run";
}

TEST(GhostRuns, only_a_run_of_the_same_record_may_grow) {
  GhostRuns ghosts(4);
  const Index run = add_run(ghosts, sequence(1, 3), 9);
  EXPECT_TRUE(ghosts.may_grow(run, 9));
  EXPECT_FALSE(ghosts.may_grow(run, 8));
  EXPECT_FALSE(ghosts.may_grow(GhostRuns::kNone, 9));
  ghosts.remove(run);
  EXPECT_FALSE(ghosts.may_grow(run, 9)) << "it is gone";
}

TEST(GhostRuns, the_oldest_is_the_one_that_grew_longest_ago) {
  GhostRuns ghosts(3);
  const Index first = add_run(ghosts, sequence(1, 2), 1);
  const Index second = add_run(ghosts, sequence(2, 2), 2);
  const Index third = add_run(ghosts, sequence(3, 2), 3);
  EXPECT_TRUE(ghosts.full());
  EXPECT_EQ(ghosts.oldest(), first);
  ghosts.grow(first, 77, 0);
  EXPECT_EQ(ghosts.oldest(), second);
  ghosts.remove(second);
  EXPECT_FALSE(ghosts.full());
  EXPECT_EQ(ghosts.oldest(), third);
  EXPECT_EQ(ghosts.find(2'000), GhostRuns::kNone);
}

}  // namespace
}  // namespace tiercel
