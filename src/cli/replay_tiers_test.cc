#include "cli/replay_tiers.h"

#include "cli/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace tiercel::cli {
namespace {

using testing::HasSubstr;

TieredReport one_report() {
  TieredReport report{.requests = 10,
                      .block_uses = 200,
                      .prompt_tokens = 10'000,
                      .block_tokens = 64,
                      .ram_capacity_blocks = 20,
                      .ssd_capacity_blocks = 40,
                      .trace_seconds = 8'640};
  report.runs.push_back({.policy = "lru",
                         .mode = TieredMode::kPlanned,
                         .ram_blocks = 50,
                         .ssd_blocks = 20,
                         .left_blocks = 2,
                         .computed_tokens = 6'000,
                         .ssd_written_bytes = 100'000'000'000,
                         .first_tokens = {.mean = 0.5, .p50 = 0.4, .p95 = 1.5, .p99 = 2.5},
                         .busy_share = 0.25});
  return report;
}

TEST(ReplayTiers, the_table_has_shares_and_seconds) {
  const std::string table = tiers_table("t.jsonl", one_report());
  EXPECT_THAT(table, HasSubstr("t.jsonl: 10 requests in 8640 s"));
  EXPECT_THAT(
      table,
      HasSubstr(" 25.00%  10.00%   1.00%    60.00% |    0.500    0.400    1.500    2.500 |  25.0%         1.00"));
}

TEST(ReplayTiers, the_json_has_every_figure) {
  const auto json = nlohmann::json::parse(tiers_json("t.jsonl", one_report()));
  const auto& run = json["runs"][0];
  EXPECT_EQ(run["loads"], "planned");
  EXPECT_EQ(run["left_blocks"], 2);
  EXPECT_EQ(run["first_token_s"]["p95"], 1.5);
  EXPECT_NEAR(run["ssd_written_bytes_a_day"].get<double>(), 1e12, 1);
}

TEST(ReplayTiers, engines_are_named_or_given_by_points) {
  EXPECT_EQ(parse_engine("h100")->size(), 4U);
  const auto points = parse_engine("1000:20ms,2000:0.05s");
  ASSERT_TRUE(points);
  EXPECT_DOUBLE_EQ((*points)[0].seconds, 0.02);
  EXPECT_DOUBLE_EQ((*points)[1].tokens, 2000);
  for (const char* wrong :
       {"", "h101", "1000", "1000:", "1000:5", "1000:5m", "0:5s", "10:0s", "10:5s,", "10:5s,x", ":5s"}) {
    const auto refused = parse_engine(wrong);
    ASSERT_FALSE(refused) << wrong;
    EXPECT_THAT(refused.error().message, HasSubstr("4096:98.6ms"));
  }
}

TEST(ReplayTiers, speeds) {
  EXPECT_EQ(parse_speed("--bus", "55GB/s"), 55e9);
  EXPECT_EQ(parse_speed("--bus", "1000"), 1000);
  EXPECT_FALSE(parse_speed("--bus", "0"));
  EXPECT_THAT(parse_speed("--bus", "fast").error().message, HasSubstr("--bus fast: is no speed such as 6.9GB/s"));
}

TEST(ReplayTiers, what_the_command_cannot_do_is_said) {
  const auto run = [](const std::vector<std::string>& words, int status) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(run_replay(words), status);
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(run({"--tiers"}, kUsageStatus), HasSubstr("replay what?"));
  EXPECT_THAT(run({"--tiers", "x", "--engine", "a100"}, kUsageStatus), HasSubstr("--engine a100"));
  EXPECT_THAT(run({"x", "--tiers", "--ssd-read", "fast"}, kUsageStatus), HasSubstr("--ssd-read"));
  EXPECT_THAT(run({"--tiers", "/nowhere/trace.jsonl"}, 1), HasSubstr("/nowhere/trace.jsonl: No such file"));
}

}  // namespace
}  // namespace tiercel::cli
