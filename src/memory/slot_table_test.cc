// Goal: the rules of extents and slots one by one; the property test beside this covers their combinations.
#include "memory/slot_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace tiercel {
namespace {

constexpr std::uint64_t kKiB = 1024;

SlotTable two_extents() { return SlotTable({.extents = 2, .extent_bytes = 64 * kKiB, .min_slot_bytes = 4 * kKiB}); }

TEST(SlotTable, slots_lie_one_after_another_and_do_not_cross_extents) {
  SlotTable table = two_extents();
  EXPECT_EQ(table.offset(*table.allocate(20 * kKiB, 1)), 0U);
  EXPECT_EQ(table.offset(*table.allocate(20 * kKiB, 1)), 20 * kKiB);
  EXPECT_EQ(table.offset(*table.allocate(20 * kKiB, 1)), 40 * kKiB);
  EXPECT_EQ(table.offset(*table.allocate(20 * kKiB, 1)), 64 * kKiB) << "three fit an extent of 64 KiB";
}

TEST(SlotTable, sizes_share_the_budget_as_extents_empty) {
  SlotTable table = two_extents();
  std::vector<SlotId> small;
  for (int i = 0; i < 32; ++i) small.push_back(*table.allocate(4 * kKiB, 7));
  EXPECT_FALSE(table.allocate(4 * kKiB, 7));
  EXPECT_FALSE(table.allocate(16 * kKiB, 8));
  for (int i = 0; i < 16; ++i) EXPECT_TRUE(table.give_back(small[static_cast<std::size_t>(i)]));
  EXPECT_EQ(table.free_extents(), 1U);
  const auto large = table.allocate(16 * kKiB, 8);
  ASSERT_TRUE(large);
  EXPECT_EQ(table.slot_bytes(table.extent_of(*large)), 16 * kKiB);
  EXPECT_FALSE(table.allocate(4 * kKiB, 7)) << "the extent has another size now";
  table.check_consistency();
}

TEST(SlotTable, a_pinned_slot_waits_in_quarantine_until_the_last_pin) {
  SlotTable table = two_extents();
  const SlotId slot = *table.allocate(64 * kKiB, 1);
  table.retain(slot);
  table.retain(slot);
  EXPECT_FALSE(table.give_back(slot));
  EXPECT_TRUE(table.is_quarantined(slot));
  EXPECT_EQ(table.quarantined_bytes(), 64 * kKiB);
  ASSERT_TRUE(table.allocate(64 * kKiB, 1));
  EXPECT_FALSE(table.allocate(64 * kKiB, 1)) << "quarantine is not reused";
  EXPECT_FALSE(table.release(slot));
  EXPECT_TRUE(table.release(slot)) << "the last pin reports the slot";
  table.collect(slot);
  EXPECT_EQ(table.quarantined_slots(), 0U);
  EXPECT_EQ(table.allocate(64 * kKiB, 1), slot);
  table.check_consistency();
}

TEST(SlotTable, pins_that_end_before_the_slot_is_given_back_leave_no_trace) {
  SlotTable table = two_extents();
  const SlotId slot = *table.allocate(4 * kKiB, 1);
  table.retain(slot);
  EXPECT_FALSE(table.release(slot));
  EXPECT_TRUE(table.give_back(slot));
}

TEST(SlotTable, a_drained_extent_goes_to_the_size_that_asked) {
  SlotTable table = two_extents();
  const SlotId a = *table.allocate(32 * kKiB, 1);
  table.set_draining(table.extent_of(a), true);
  const SlotId b = *table.allocate(32 * kKiB, 1);
  EXPECT_NE(table.extent_of(a), table.extent_of(b));
  EXPECT_TRUE(table.give_back(a));
  EXPECT_EQ(table.free_extents(), 0U) << "nobody else may take it";
  table.hand_over(table.extent_of(a), 16 * kKiB);
  table.check_consistency();
  const SlotId c = *table.allocate(16 * kKiB, 2);
  EXPECT_EQ(table.extent_of(c), table.extent_of(a));
  EXPECT_TRUE(table.give_back(c));
  EXPECT_EQ(table.free_extents(), 1U);
  table.set_draining(table.extent_of(b), true);
  table.set_draining(table.extent_of(b), false);
  EXPECT_EQ(table.extent_of(*table.allocate(32 * kKiB, 1)), table.extent_of(b));
  table.check_consistency();
}

TEST(SlotTable, an_extent_that_was_handed_over_in_vain_is_not_lost) {
  SlotTable table = two_extents();
  const SlotId a = *table.allocate(64 * kKiB, 1);
  const SlotId b = *table.allocate(64 * kKiB, 1);
  table.set_draining(table.extent_of(a), true);
  EXPECT_TRUE(table.give_back(a));
  table.hand_over(table.extent_of(a), 16 * kKiB);
  const auto again = table.allocate(64 * kKiB, 1);
  ASSERT_TRUE(again) << "nobody took a slot of the new size";
  EXPECT_NE(*again, b);
  EXPECT_FALSE(table.allocate(16 * kKiB, 2));
  table.check_consistency();
}

TEST(SlotTableDeathTest, a_slot_given_back_twice_is_a_broken_invariant) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  SlotTable table = two_extents();
  const SlotId slot = *table.allocate(4 * kKiB, 1);
  const SlotId other = *table.allocate(4 * kKiB, 1);
  (void)other;
  EXPECT_TRUE(table.give_back(slot));
  EXPECT_DEATH((void)table.give_back(slot), "only a used slot");
}

TEST(SlotTable, a_withheld_table_hands_out_nothing_and_then_all_but_what_is_claimed) {
  SlotTable table({.extents = 2, .extent_bytes = 64 * kKiB, .min_slot_bytes = 4 * kKiB, .withheld = true});
  EXPECT_FALSE(table.allocate(16 * kKiB, 1));
  const SlotId held = table.slot_at(1, 2);
  EXPECT_EQ(table.claim(held, 16 * kKiB, 2), SlotTable::Claim::kClaimed);
  EXPECT_EQ(table.offset(held), 64 * kKiB + 32 * kKiB);
  EXPECT_EQ(table.claim(table.slot_at(1, 0), 32 * kKiB, 1), SlotTable::Claim::kConflict) << "another size";
  EXPECT_EQ(table.claim(table.slot_at(0, 4), 16 * kKiB, 1), SlotTable::Claim::kConflict) << "there is no fifth";
  EXPECT_FALSE(table.allocate(16 * kKiB, 1));
  table.check_consistency();
  EXPECT_TRUE(table.offer(100));
  std::vector<SlotId> taken;
  while (const auto slot = table.allocate(16 * kKiB, 1)) taken.push_back(*slot);
  EXPECT_EQ(taken.size(), 7U);
  EXPECT_EQ(std::ranges::count(taken, held), 0);
  EXPECT_FALSE(table.release(held));
  EXPECT_TRUE(table.release(held));
  table.collect(held);
  EXPECT_EQ(table.allocate(16 * kKiB, 1), held);
}

TEST(SlotTable, a_claim_that_ends_before_the_offer_leaves_its_extent_uncut) {
  SlotTable table({.extents = 2, .extent_bytes = 64 * kKiB, .min_slot_bytes = 4 * kKiB, .withheld = true});
  const SlotId held = table.slot_at(0, 1);
  EXPECT_EQ(table.claim(held, 16 * kKiB, 1), SlotTable::Claim::kClaimed);
  EXPECT_TRUE(table.release(held));
  EXPECT_EQ(table.claim(held, 16 * kKiB, 1), SlotTable::Claim::kAgain) << "until it is collected";
  table.collect(held);
  EXPECT_EQ(table.slot_bytes(0), 0U);
  EXPECT_EQ(table.claim(table.slot_at(0, 0), 64 * kKiB, 1), SlotTable::Claim::kClaimed);
  EXPECT_TRUE(table.offer(100));
  EXPECT_EQ(table.free_extents(), 1U);
  table.check_consistency();
}

}  // namespace
}  // namespace tiercel
