// Goal: the manual clock moves only when told; deadlines never wrap; Random repeats from its seed and stays in bounds.
#include "base/clock.h"
#include "base/random.h"

#include <gtest/gtest.h>

namespace tiercel {
namespace {

TEST(Clock, manual_moves_only_when_told) {
  ManualClock clock;
  const auto start = clock.now_ns();
  EXPECT_EQ(clock.now_ns(), start);
  clock.advance(5);
  EXPECT_EQ(clock.now_ns(), start + 5);
}

TEST(Clock, deadline_saturates) {
  EXPECT_EQ(deadline_after(10, 5), 15U);
  EXPECT_EQ(deadline_after(10, UINT64_MAX), UINT64_MAX);
}

TEST(Random, repeats_from_its_seed_and_stays_below_the_bound) {
  Random a(42);
  Random b(42);
  Random other(43);
  bool differs = false;
  for (int i = 0; i < 1000; ++i) {
    const auto value = a.below(7);
    EXPECT_LT(value, 7U);
    EXPECT_EQ(value, b.below(7));
    differs = differs || other.below(7) != value;
  }
  EXPECT_TRUE(differs);
}

}  // namespace
}  // namespace tiercel
