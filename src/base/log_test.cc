// Goal: a cause that repeats is written once, and how often it was left out is said later.
#include "base/log.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace tiercel
