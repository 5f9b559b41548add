// Goal: a gate refuses after close and aborts if destroyed while in use; a budget never gives more than its limit; the
// queue refuses instead of growing.
#include "base/bounded_queue.h"
#include "base/budget.h"
#include "base/gate.h"

#include <gtest/gtest.h>

#include <optional>

namespace tiercel {
namespace {

TEST(Gate, refuses_after_close_and_counts_what_is_inside) {
  Gate gate;
  {
    auto first = gate.enter();
    auto second = std::move(first);
    EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): a moved-from pass is empty
    EXPECT_TRUE(second);
    EXPECT_EQ(gate.in_flight(), 1U);
    gate.close();
    EXPECT_FALSE(gate.enter());
    EXPECT_EQ(gate.in_flight(), 1U);
  }
  EXPECT_EQ(gate.in_flight(), 0U);
}

TEST(GateDeathTest, aborts_when_destroyed_in_use) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        std::optional<Gate> gate(std::in_place);
        auto pass = gate->enter();
        gate.reset();
      },
      "work in flight");
}

TEST(Budget, gives_no_more_than_its_limit_and_takes_back) {
  Budget budget(10);
  auto seven = budget.take(7);
  EXPECT_TRUE(seven);
  EXPECT_FALSE(budget.take(4));
  EXPECT_FALSE(budget.take(UINT64_MAX));
  auto three = budget.take(3);
  EXPECT_EQ(budget.used(), 10U);
  seven = {};
  EXPECT_EQ(budget.used(), 3U);
}

TEST(BoundedQueue, keeps_order_and_refuses_when_full) {
  BoundedQueue<int> queue(2);
  EXPECT_TRUE(queue.push(1));
  EXPECT_TRUE(queue.push(2));
  EXPECT_FALSE(queue.push(3));
  EXPECT_EQ(queue.pop(), 1);
  EXPECT_TRUE(queue.push(4));
  EXPECT_EQ(queue.pop(), 2);
  EXPECT_EQ(queue.pop(), 4);
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace tiercel
