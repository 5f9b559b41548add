// Goal: the policy alone, with no cache: order of use, tail before head, bounded search, lists apart.
#include "policy/lru.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace tiercel {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

class Lru : public testing::Test {
 protected:
  Lru() { lru_.add_list(3); }
  std::optional<PolicyBlock> evict(PolicyList list = 0) {
    const auto block = lru_.victim(list, [this](PolicyBlock b) { return !held_.contains(b); });
    if (block) lru_.erase(*block);
    return block;
  }
  LruPolicy lru_{100};
  std::set<PolicyBlock> held_;
};

TEST_F(Lru, the_tail_of_the_sequence_used_longest_ago_goes_first) {
  for (PolicyBlock b : {1U, 2U, 3U}) lru_.insert(b, 0, 0);      // one conversation, head 1
  for (PolicyBlock b : {11U, 12U}) lru_.insert(b, 0, kSecond);  // another
  lru_.touch(std::vector<PolicyBlock>{12, 11}, kSecond);
  lru_.touch(std::vector<PolicyBlock>{3, 2, 1}, 2 * kSecond);
  std::vector<PolicyBlock> order;
  while (const auto block = evict()) order.push_back(*block);
  EXPECT_EQ(order, (std::vector<PolicyBlock>{12, 11, 3, 2, 1}));
}

TEST_F(Lru, what_may_not_go_is_passed_over) {
  for (PolicyBlock b = 0; b < 5; ++b) lru_.insert(b, 0, 0);
  held_ = {0, 1};
  EXPECT_EQ(evict(), 2U);
  held_.clear();
  std::set<PolicyBlock> colder;
  for (int i = 0; i < 2; ++i) colder.insert(*evict());
  EXPECT_EQ(colder, (std::set<PolicyBlock>{0, 1})) << "they kept their place";
  EXPECT_EQ(evict(), 3U);
  EXPECT_EQ(evict(), 4U);
}

TEST_F(Lru, a_sequence_used_head_first_still_goes_tail_first_and_before_what_is_hotter) {
  for (PolicyBlock b = 0; b < 6; ++b) lru_.insert(b, 0, 0);  // head 0, never touched
  lru_.insert(50, 0, kSecond);
  held_ = {0, 1, 2, 3, 4};
  for (PolicyBlock leaf = 5; leaf < 6; --leaf) {
    EXPECT_EQ(evict(), leaf);
    if (leaf > 0) held_.erase(leaf - 1);  // its parent has no child now
  }
  EXPECT_EQ(evict(), 50U);
}

TEST_F(Lru, blocks_that_may_go_again_go_coldest_first_and_before_hotter_ones) {
  for (PolicyBlock b = 0; b < 60; ++b) lru_.insert(b, 0, 0);
  for (PolicyBlock b = 0; b < 50; ++b) held_.insert(b);
  std::optional<PolicyBlock> first;
  while (!first) first = evict();
  EXPECT_EQ(first, 50U);
  EXPECT_EQ(evict(), 51U);
  held_.clear();
  PolicyBlock last = 0;
  for (int i = 0; i < 40; ++i) {
    const PolicyBlock now = *evict();
    EXPECT_LT(now, 50U);
    EXPECT_TRUE(i == 0 || now > last || now == 0) << now << " after " << last;
    last = now;
  }
}

TEST_F(Lru, after_a_search_in_vain_the_coldest_goes_first) {
  for (PolicyBlock b = 0; b < 20; ++b) lru_.insert(b, 0, 0);
  for (PolicyBlock b = 0; b < 20; ++b) held_.insert(b);
  EXPECT_FALSE(evict());
  held_.clear();
  for (PolicyBlock b = 0; b < 20; ++b) EXPECT_EQ(evict(), b);
}

TEST_F(Lru, the_search_is_bounded) {
  for (PolicyBlock b = 0; b < 100; ++b) lru_.insert(b, 0, 0);
  for (int call = 0; call < 10; ++call) {
    std::uint64_t asked = 0;
    EXPECT_FALSE(lru_.victim(0, [&](PolicyBlock) {
      ++asked;
      return false;
    }));
    EXPECT_LE(asked, EvictionPolicy::kSearch);
  }
  EXPECT_EQ(lru_.asks_for_all(3), 0U) << "an empty list";
}

TEST_F(Lru, lists_are_apart_and_values_fall_with_age) {
  lru_.insert(1, 0, 0);
  lru_.insert(2, 3, 10 * kSecond);
  EXPECT_FALSE(evict(1)) << "an empty list";
  EXPECT_FALSE(evict(9)) << "a list that nobody used";
  EXPECT_GT(lru_.value(2, 20 * kSecond), lru_.value(1, 20 * kSecond));
  EXPECT_NEAR(lru_.value(2, 20 * kSecond), 1.0 / 11, 0.01);
  EXPECT_EQ(lru_.value(50, 0), 0);
  EXPECT_EQ(evict(3), 2U);
  EXPECT_TRUE(lru_.knows(1));
  EXPECT_FALSE(lru_.knows(2));
}

}  // namespace
}  // namespace tiercel
