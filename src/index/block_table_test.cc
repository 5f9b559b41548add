// Goal: entries, stubs, roots and child counts, one rule a test; and match over several groups.
#include "index/block_table.h"
#include "model/testing/numbered_hash.h"

#include <gtest/gtest.h>

namespace tiercel {
namespace {

using enum CopyState;

class Table : public testing::Test {
 protected:
  Table() : table_(*BlockTable::create({.capacity = 200, .seed = 9})), root_(table_.insert_root(hash(0))) {}

  static BlockHash hash(unsigned n) { return testing_support::numbered_hash(n); }
  BlockId add(unsigned n, BlockId parent, TierId tier = TierId::kHost) {
    const BlockId id = table_.insert(hash(n), 0, parent);
    table_.set_state(id, tier, kFilling);
    table_.set_state(id, tier, kReady);
    return id;
  }
  void evict(BlockId id, TierId tier = TierId::kHost) {
    table_.set_state(id, tier, kAbsent);
    table_.erase_if_unused(id);
  }

  BlockTable table_;
  BlockId root_;
};

TEST_F(Table, an_entry_without_copies_stays_as_a_stub_while_a_child_has_one) {
  const BlockId a = add(1, root_);
  const BlockId b = add(2, a);
  EXPECT_EQ(table_.children_in(a, TierId::kHost), 1U);
  EXPECT_EQ(table_[b].space, root_);
  evict(a);
  EXPECT_EQ(table_.find(hash(1), 0), a);
  EXPECT_EQ(table_.stubs(), 1U);
  table_.check_consistency();
  evict(b);
  EXPECT_EQ(table_.find(hash(1), 0), kNoBlock);
  EXPECT_EQ(table_.entries(), 1U) << "the root alone";
  EXPECT_EQ(table_.stubs(), 0U);
  table_.check_consistency();
}

TEST_F(Table, child_counts_are_kept_per_tier) {
  const BlockId a = add(1, root_);
  const BlockId b = add(2, a);
  table_.set_state(b, TierId::kDisk, kFilling);
  EXPECT_EQ(table_.children_in(a, TierId::kDisk), 1U) << "queued ahead counts as there";
  table_.set_state(b, TierId::kDisk, kReady);
  evict(b);
  EXPECT_EQ(table_.children_in(a, TierId::kHost), 0U);
  EXPECT_EQ(table_.children_in(a, TierId::kDisk), 1U);
  EXPECT_EQ(table_.find(hash(2), 0), b);
  table_.check_consistency();
}

TEST_F(Table, a_long_chain_of_stubs_is_freed_in_bounded_steps) {
  std::vector<BlockId> chain{root_};
  for (unsigned n = 1; n <= 150; ++n) chain.push_back(add(n, chain.back()));
  for (std::size_t i = 1; i < 150; ++i) evict(chain[i]);
  EXPECT_EQ(table_.stubs(), 149U);
  evict(chain[150]);
  EXPECT_EQ(table_.entries(), 1U + 150 - 16);
  EXPECT_LE(table_.collect(20), 20 + 16);
  EXPECT_GE(table_.entries(), 1U + 150 - 16 - 20 - 16);
  while (table_.collect(20) > 0) {
  }
  EXPECT_EQ(table_.entries(), 1U);
  table_.check_consistency();
}

TEST(BlockTable, more_cut_cascades_than_fit_are_found_by_a_walk) {
  constexpr unsigned kChains = 300;
  constexpr unsigned kLength = 40;
  BlockTable table = *BlockTable::create({.capacity = kChains * kLength + 1, .seed = 9});
  const BlockId root = table.insert_root(testing_support::numbered_hash(0));
  std::vector<BlockId> leaves;
  for (unsigned chain = 0; chain < kChains; ++chain) {
    BlockId last = root;
    for (unsigned i = 0; i < kLength; ++i) {
      last = table.insert(testing_support::numbered_hash(1 + chain * kLength + i), 0, last);
    }
    leaves.push_back(last);
  }
  for (const BlockId leaf : leaves) EXPECT_EQ(table.erase_if_unused(leaf), 16) << "bounded, however many are cut";
  EXPECT_EQ(table.entries(), 1U + kChains * (kLength - 16));
  while (table.collect(32) > 0) {
  }
  EXPECT_EQ(table.entries(), 1U);
  table.check_consistency();
}

TEST_F(Table, full_is_an_answer) {
  BlockId last = root_;
  for (unsigned n = 1; n < 200; ++n) last = add(n, last);
  EXPECT_EQ(table_.insert(hash(200), 0, last), kNoBlock);
  evict(last);
  EXPECT_NE(table_.insert(hash(200), 0, root_), kNoBlock);
}

TEST_F(Table, pins_count_blocks_once) {
  const BlockId a = add(1, root_);
  EXPECT_TRUE(table_.pin(a));
  EXPECT_TRUE(table_.pin(a));
  EXPECT_EQ(table_.pinned_blocks(), 1U);
  table_.unpin(a);
  EXPECT_EQ(table_.pinned_blocks(), 1U);
  table_.unpin(a);
  EXPECT_EQ(table_.pinned_blocks(), 0U);
  while (table_.pin(a)) {
  }
  EXPECT_EQ(table_[a].logical_pins, UINT16_MAX);
}

TEST_F(Table, match_follows_the_rule_of_each_group) {
  std::vector<BlockHash> hashes;
  for (unsigned n = 1; n <= 6; ++n) hashes.push_back(hash(n));
  const std::vector<GroupRule> rules{{.kind = GroupKind::kFullAttention},
                                     {.kind = GroupKind::kSlidingWindow, .window_blocks = 2}};
  const auto put = [&](unsigned n, GroupId group, TierId tier) {
    const BlockId id = table_.insert(hash(n), group, root_);
    table_.set_state(id, tier, kFilling);
    table_.set_state(id, tier, kReady);
  };
  for (unsigned n = 1; n <= 5; ++n) put(n, 0, TierId::kHost);
  std::vector<TierSet> tiers;
  EXPECT_EQ(table_.match(hashes, rules, tiers), 0U);
  put(3, 1, TierId::kHost);
  put(4, 1, TierId::kDisk);
  EXPECT_EQ(table_.match(hashes, rules, tiers), 4U) << "the window before block 4 is there";
  EXPECT_EQ(tiers.size(), 4U);
  EXPECT_TRUE(tiers[2].has(TierId::kHost));
  EXPECT_EQ(tiers[3].bits, 0U) << "no one tier has both groups of block 3";
  const std::vector<GroupRule> full{rules[0]};
  EXPECT_EQ(table_.match(hashes, full, tiers), 5U);
}

TEST_F(Table, breaking_the_state_table_aborts) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const BlockId a = add(1, root_);
  EXPECT_DEATH(table_.set_state(a, TierId::kHost, kFilling), "copy state table");
}

}  // namespace
}  // namespace tiercel
