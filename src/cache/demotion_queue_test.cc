// Goal: each slot is queued at most once, in order, and leaves or moves wherever it stands. Method: cases by hand, then
// random calls beside a plain list.
#include "cache/demotion_queue.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <list>

namespace tiercel {
namespace {

std::vector<SlotId> drained(DemotionQueue& queue) {
  std::vector<SlotId> slots;
  while (!queue.empty()) {
    slots.push_back(queue.front());
    queue.remove(queue.front());
  }
  return slots;
}

TEST(DemotionQueueTest, a_block_is_there_once_and_keeps_its_place) {
  DemotionQueue queue(8);
  for (const SlotId slot : {3U, 5U, 3U, 1U, 5U, 3U}) queue.push(slot);
  EXPECT_EQ(queue.size(), 3U);
  EXPECT_EQ(drained(queue), (std::vector<SlotId>{3, 5, 1}));
}

TEST(DemotionQueueTest, a_second_turn_is_given_once) {
  DemotionQueue queue(8);
  queue.push(1);
  queue.push(2);
  EXPECT_TRUE(queue.give_another_turn());
  EXPECT_EQ(queue.front(), 2U);
  queue.rotate();
  EXPECT_EQ(queue.front(), 1U);
  EXPECT_FALSE(queue.give_another_turn());
  EXPECT_EQ(queue.front(), 1U);
  queue.remove(1);
  queue.push(1);  // a new use: all turns again
  EXPECT_TRUE(queue.give_another_turn());
}

TEST(DemotionQueueTest, one_that_others_wait_for_is_brought_in_once) {
  DemotionQueue queue(8);
  queue.push(3);
  queue.push(4);
  EXPECT_TRUE(queue.bring_in(6));
  EXPECT_EQ(queue.front(), 6U);
  EXPECT_FALSE(queue.had_another_turn(6));
  EXPECT_TRUE(queue.had_another_turn(3));
  queue.remove(6);
  EXPECT_EQ(queue.front(), 3U);
  EXPECT_FALSE(queue.bring_in(6));  // else the two would go on for ever
  EXPECT_EQ(queue.size(), 2U);
}

TEST(DemotionQueueTest, without_slots_nothing_is_there) {
  DemotionQueue queue(0);
  queue.remove(4);
  queue.move(4, 5);
  EXPECT_TRUE(queue.empty());
}

RC_GTEST_PROP(DemotionQueueTest, agrees_with_a_list, ()) {
  constexpr SlotId kSlots = 9;
  DemotionQueue queue(kSlots);
  std::list<SlotId> model;
  const auto has = [&](SlotId slot) { return std::ranges::find(model, slot) != model.end(); };
  for (const auto& [call, slot, other] :
       *rc::gen::container<std::vector<std::tuple<int, SlotId, SlotId>>>(rc::gen::tuple(
           rc::gen::inRange(0, 5), rc::gen::inRange<SlotId>(0, kSlots), rc::gen::inRange<SlotId>(0, kSlots)))) {
    if (call == 0) {
      queue.push(slot);
      if (!has(slot)) model.push_back(slot);
    } else if (call == 1) {
      queue.remove(slot);
      model.remove(slot);
    } else if (call == 2 && !has(other)) {
      queue.move(slot, other);
      std::ranges::replace(model, slot, other);
    } else if (call == 3 && !model.empty()) {
      queue.rotate();
      model.splice(model.end(), model, model.begin());
    } else if (call == 4) {
      queue.bring_forward(slot);
      if (has(slot)) model.splice(model.begin(), model, std::ranges::find(model, slot));
    }
    RC_ASSERT(queue.size() == model.size());
    for (SlotId id = 0; id < kSlots; ++id) RC_ASSERT(queue.holds(id) == has(id));
    if (!model.empty()) RC_ASSERT(queue.front() == model.front());
  }
  RC_ASSERT(drained(queue) == std::vector<SlotId>(model.begin(), model.end()));
}

}  // namespace
}  // namespace tiercel
