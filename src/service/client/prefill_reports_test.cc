#include "service/client/prefill_reports.h"

#include <gtest/gtest.h>

#include <chrono>

namespace tiercel::service {
namespace {

using namespace std::chrono_literals;

TEST(PrefillReports, each_is_given_once_to_a_link_and_again_to_the_next) {
  PrefillReports reports;
  const int links[2] = {};
  reports.add({.context_tokens = 5, .tokens = 7, .time = 9ns});
  reports.add({.tokens = 8, .time = 1ns});
  const auto first = reports.take_for(&links[0]);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first[0].context_tokens(), 5U);
  EXPECT_EQ(first[0].tokens(), 7U);
  EXPECT_EQ(first[0].time(), 9U);
  EXPECT_TRUE(reports.take_for(&links[0]).empty());
  reports.add({.tokens = 9, .time = 1ns});
  EXPECT_EQ(reports.take_for(&links[0]).size(), 1U);
  EXPECT_EQ(reports.take_for(&links[1]).size(), 3U) << "a service that was restarted";
}

TEST(PrefillReports, the_oldest_go) {
  PrefillReports reports;
  for (std::uint64_t i = 1; i <= 3 * PrefillReports::kKept; ++i) reports.add({.tokens = i, .time = 1ns});
  const auto taken = reports.take_for(&reports);
  ASSERT_EQ(taken.size(), PrefillReports::kKept);
  EXPECT_EQ(taken.front().tokens(), 2 * PrefillReports::kKept + 1);
  EXPECT_EQ(taken.back().tokens(), 3 * PrefillReports::kKept);
}

TEST(PrefillReports, what_says_nothing_is_not_sent) {
  PrefillReports reports;
  reports.add({.tokens = 0, .time = 1s});
  reports.add({.tokens = 1, .time = -1s});
  EXPECT_TRUE(reports.take_for(&reports).empty());
}

}  // namespace
}  // namespace tiercel::service
