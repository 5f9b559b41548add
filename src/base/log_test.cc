// Goal: a cause that repeats is written once, and how often it was left out is said later.
#include "base/log.h"

#include "base/log_causes.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace tiercel {
namespace {

TEST(Log, a_repeating_cause_is_written_once) {
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, std::string_view text) { lines.emplace_back(text); });
  for (int i = 0; i < 100; ++i) log_line(LogLevel::kWarn, "same", "it broke");
  log_line(LogLevel::kWarn, "other", "something else");
  set_log_sink({});
  EXPECT_EQ(lines, (std::vector<std::string>{"it broke", "something else"}));
}

TEST(Log, a_cause_is_quiet_for_ten_seconds_and_then_says_how_often_it_was_left_out) {
  LogCauses causes;
  constexpr std::uint64_t kSecond = 1'000'000'000;
  EXPECT_EQ(causes.write("disk", 5 * kSecond), 0U);
  for (std::uint64_t at = 0; at < 10; ++at) EXPECT_FALSE(causes.write("disk", 5 * kSecond + at * kSecond)) << at;
  EXPECT_FALSE(causes.write("disk", 15 * kSecond - 1));
  EXPECT_EQ(causes.write("memory", 15 * kSecond - 1), 0U) << "each cause counts for itself";
  EXPECT_EQ(causes.write("disk", 15 * kSecond), 11U);
  EXPECT_FALSE(causes.write("disk", 16 * kSecond));
  EXPECT_EQ(causes.write("disk", 40 * kSecond), 1U);
}

TEST(Log, of_too_many_causes_the_oldest_is_forgotten) {
  LogCauses causes;
  for (std::size_t i = 0; i < LogCauses::kMost; ++i) EXPECT_TRUE(causes.write(std::to_string(i), i));
  EXPECT_TRUE(causes.write("one more", LogCauses::kMost));
  EXPECT_EQ(causes.size(), LogCauses::kMost);
  EXPECT_FALSE(causes.write("1", LogCauses::kMost)) << "still known, and quiet";
  EXPECT_TRUE(causes.write("0", LogCauses::kMost)) << "forgotten, so written anew";
}

TEST(Log, what_its_level_hides_is_not_written) {
  const LogLevel before = log_level();
  for (const LogLevel level : {LogLevel::kError, LogLevel::kWarn, LogLevel::kInfo, LogLevel::kDebug}) {
    set_log_level(level);
    EXPECT_EQ(log_level(), level);
  }
  EXPECT_EQ(log_level_name(LogLevel::kWarn), "warn");
  std::ostringstream written;
  auto& sinks = spdlog::get("tiercel")->sinks();
  const auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(written);
  sinks.push_back(sink);
  set_log_level(LogLevel::kWarn);
  log_line(LogLevel::kInfo, "level_test", "hidden");
  set_log_level(LogLevel::kInfo);
  log_line(LogLevel::kInfo, "level_test", "seen");  // what was hidden does not count as written
  sinks.pop_back();
  set_log_level(before);
  EXPECT_EQ(written.str().find("hidden"), std::string::npos);
  EXPECT_NE(written.str().find("seen"), std::string::npos);
}

}  // namespace
}  // namespace tiercel
