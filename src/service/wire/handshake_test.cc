// Goal: two releases that share a version speak the newest one; all others part with a sentence that names both ranges.
#include "service/wire/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

namespace tiercel::wire {
namespace {

using testing::HasSubstr;

constexpr std::uint16_t kFar = std::numeric_limits<std::uint16_t>::max();

TEST(Handshake, the_newest_version_that_both_speak_is_chosen) {
  EXPECT_EQ(*common_version({.newest = kVersion, .oldest = kOldestVersion}), kVersion);
  EXPECT_EQ(*common_version({.newest = kVersion + 1, .oldest = kVersion}), kVersion);
  EXPECT_EQ(*common_version({.newest = kFar, .oldest = 0}), kVersion);
  EXPECT_EQ(*common_version({.newest = kOldestVersion, .oldest = 0}), kOldestVersion);
}

TEST(Handshake, a_client_that_is_too_new_or_too_old_is_told_both_ranges) {
  for (const auto& [newest, oldest] :
       {std::pair<std::uint16_t, std::uint16_t>{kVersion + 7, kVersion + 5}, {kOldestVersion - 1, 0}}) {
    const auto version = common_version({.newest = newest, .oldest = oldest});
    ASSERT_FALSE(version);
    EXPECT_EQ(version.error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(version.error().message,
                HasSubstr("the client speaks " + std::to_string(oldest) + " to " + std::to_string(newest)));
    EXPECT_THAT(version.error().message,
                HasSubstr("the service " + std::to_string(kOldestVersion) + " to " + std::to_string(kVersion)));
  }
}

TEST(Handshake, a_range_that_is_upside_down_is_no_version) {
  EXPECT_FALSE(common_version({.newest = kVersion, .oldest = kVersion + 1}));
}

TEST(Handshake, bytes_of_something_else_are_refused_on_both_sides) {
  EXPECT_EQ(common_version({.magic = 0x20544547}).error().code, ErrorCode::kInvalidArgument);  // "GET "
  EXPECT_EQ(check_welcome({.magic = 0x50545448}).error().code, ErrorCode::kUnsupported);       // "HTTP"
}

TEST(Handshake, a_refusal_arrives_with_its_code_and_its_sentence) {
  for (unsigned code = 0; code <= static_cast<unsigned>(ErrorCode::kIncomplete); ++code) {
    const Status status =
        check_welcome(refusal({.code = static_cast<ErrorCode>(code), .message = "limits.sessions: too many"}));
    ASSERT_FALSE(status);
    EXPECT_EQ(static_cast<unsigned>(status.error().code), code);
    EXPECT_EQ(status.error().message, "limits.sessions: too many");
  }
}

TEST(Handshake, a_sentence_that_is_too_long_is_cut) {
  const Welcome welcome = refusal({.code = ErrorCode::kLimit, .message = std::string(1000, 'x')});
  EXPECT_EQ(welcome.text[sizeof(welcome.text) - 1], '\0');
  EXPECT_EQ(check_welcome(welcome).error().message, std::string(sizeof(welcome.text) - 1, 'x'));
}

TEST(Handshake, a_refusal_without_an_end_and_with_an_unknown_code_is_still_one) {
  Welcome welcome{.refused = kFar};
  std::ranges::fill(welcome.text, 'y');
  const Status status = check_welcome(welcome);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message.size(), sizeof(welcome.text));
}

}  // namespace
}  // namespace tiercel::wire
