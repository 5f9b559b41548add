// Goal: capacities as people write them; table and JSON say what the report holds.
#include "cli/replay_text.h"
#include "cli/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace tiercel::cli {
namespace {

using ::testing::HasSubstr;

TEST(ReplayText, a_capacity_is_a_share_or_a_number_of_blocks) {
  const auto capacities = parse_capacities("1%,0.5%,5859");
  ASSERT_TRUE(capacities);
  ASSERT_EQ(capacities->size(), 3U);
  EXPECT_NEAR((*capacities)[0].share, 0.01, 1e-12);
  EXPECT_NEAR((*capacities)[1].share, 0.005, 1e-12);
  EXPECT_EQ((*capacities)[2].blocks, 5859U);
  for (const char* text : {"", "0", "0%", "101%", "x", "1%,", "-3", "nan%", "5 %"}) {
    EXPECT_FALSE(parse_capacities(text)) << text;
  }
}

std::vector<ReplayedTrace> one_trace() {
  ReplayReport report{.requests = 10, .block_uses = 1000, .unique_blocks = 400};
  report.cells.push_back({.asked = {.share = 0.05},
                          .capacity = 20,
                          .runs = {{"lru", 100, 0.5}, {"arc", 150, 0.25}, {"optimum", 300, 0.25}}});
  return {{.path = "chat.jsonl", .read_seconds = 0.5, .report = report}};
}

TEST(ReplayText, the_table_has_ratios_and_the_part_of_the_way_to_the_optimum) {
  const auto traces = one_trace();
  const std::string table = replay_table(traces[0]);
  for (const char* words :
       {"chat.jsonl: 10 requests, 1000 block uses, 400 blocks", "hits 0.6000", "5% = 20", "0.1500 (+0.250)"}) {
    EXPECT_THAT(table, HasSubstr(words));
  }
  EXPECT_THAT(replay_score_table(traces), HasSubstr("over 1 cells"));
  EXPECT_THAT(replay_score_table(traces), HasSubstr("0.5 s of one core to read, 1.0 s to replay"));
}

TEST(ReplayText, the_json_has_every_figure) {
  const auto json = nlohmann::json::parse(replay_json(one_trace()));
  const auto& cell = json["traces"][0]["cells"][0];
  EXPECT_EQ(cell["capacity"], 20);
  EXPECT_EQ(cell["policies"][1]["policy"], "arc");
  EXPECT_EQ(cell["policies"][1]["hits"], 150);
  EXPECT_NEAR(cell["policies"][1]["closure"].get<double>(), 0.25, 1e-12);
  EXPECT_NEAR(json["scores"][0]["score"].get<double>(), 0.25, 1e-12);
}

TEST(ReplayText, what_the_command_cannot_do_is_said) {
  const auto run = [](std::vector<std::string> words, int status) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(run_replay(words), status);
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(run({}, kUsageStatus), HasSubstr("replay what?"));
  EXPECT_THAT(run({"x", "--policy", "ark"}, kUsageStatus), HasSubstr("unknown policy ark; did you mean arc?"));
  EXPECT_THAT(run({"x", "--policy", "newest"}, kUsageStatus),
              HasSubstr("unknown policy newest; there are lru, s3-fifo,"));
  EXPECT_THAT(run({"x", "--capacity", "5 %"}, kUsageStatus), HasSubstr("--capacity 5 %: neither"));
  EXPECT_THAT(run({"--policy", "lru", "/nowhere/trace.jsonl"}, 1), HasSubstr("/nowhere/trace.jsonl: No such file"));
  EXPECT_THAT(run({"/nowhere/trace.jsonl"}, 1), HasSubstr("/nowhere/trace.jsonl: No such file"));
}

}  // namespace
}  // namespace tiercel::cli
