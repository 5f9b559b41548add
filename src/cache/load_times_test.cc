// Goal: a prediction is of the tiers that blocks come from, and a disk that brought nothing in time is known as slow.
#include "cache/load_times.h"

#include <gtest/gtest.h>

namespace tiercel::detail {
namespace {

TEST(LoadTimes, nothing_is_predicted_of_a_tier_that_was_not_measured) {
  LoadTimes times;
  EXPECT_EQ(times.predict_ns(10, 0), 0U);
  times.add_host(1'000, 10);
  EXPECT_EQ(times.predict_ns(10, 0), 1'000U);
  EXPECT_EQ(times.predict_ns(10, 1), 0U);
  times.add_disk(5'000, 0);
  EXPECT_EQ(times.predict_ns(10, 1), 0U) << "no block, no measure";
}

TEST(LoadTimes, what_was_read_says_nothing_of_ram) {
  LoadTimes times;
  times.add_host(1'000, 10);
  times.add_disk(80'000, 4);
  EXPECT_EQ(times.predict_ns(10, 0), 1'000U);
  EXPECT_EQ(times.predict_ns(10, 4), 81'000U);
}

TEST(LoadTimes, a_mean_follows_by_eighths) {
  LoadTimes times;
  times.add_disk(800, 1);
  times.add_disk(1'600, 1);
  EXPECT_EQ(times.predict_ns(0, 1), 900U);
}

}  // namespace
}  // namespace tiercel::detail
