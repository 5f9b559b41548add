// Goal: a reader looks for replies that come soon, and sleeps for those that do not.
#include "service/client/reply_pace.h"

#include <gtest/gtest.h>

namespace tiercel::service {
namespace {

constexpr std::uint64_t kSoon_ns = 20'000;
constexpr std::uint64_t kLong_ns = 10'000'000;

ReplyPace after(std::uint64_t each_ns, int waits, unsigned processors = 16) {
  ReplyPace pace(processors);
  for (int i = 0; i < waits; ++i) pace.waited(each_ns);
  return pace;
}

TEST(ReplyPace, sleeps_until_it_knows) { EXPECT_EQ(ReplyPace(16).spin_ns(), 0U); }

TEST(ReplyPace, looks_for_replies_that_come_soon_about_twice_as_long_as_they_take) {
  const std::uint64_t spin = after(kSoon_ns, 50).spin_ns();
  EXPECT_GE(spin, kSoon_ns);
  EXPECT_LE(spin, 3 * kSoon_ns);
}

TEST(ReplyPace, never_looks_longer_than_its_bound) {
  for (std::uint64_t each = 0; each < 10 * ReplyPace::kMostSpin_ns; each += 7'001) {
    EXPECT_LE(after(each, 50).spin_ns(), ReplyPace::kMostSpin_ns) << each;
  }
}

TEST(ReplyPace, sleeps_for_replies_that_take_long) { EXPECT_EQ(after(kLong_ns, 2).spin_ns(), 0U); }

TEST(ReplyPace, comes_back_to_looking_a_few_replies_after_a_long_one) {
  ReplyPace pace = after(kSoon_ns, 50);
  for (int i = 0; i < 3; ++i) pace.waited(kLong_ns);
  EXPECT_EQ(pace.spin_ns(), 0U);
  for (int i = 0; i < 20; ++i) pace.waited(kSoon_ns);
  EXPECT_GT(pace.spin_ns(), 0U);
}

TEST(ReplyPace, never_looks_with_few_processors) {
  EXPECT_EQ(after(kSoon_ns, 50, ReplyPace::kFewestProcessors - 1).spin_ns(), 0U);
}

}  // namespace
}  // namespace tiercel::service
