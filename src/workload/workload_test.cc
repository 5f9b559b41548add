// Goal: each format gives the requests that stand in it, plain and compressed; whatever is wrong with a file is an
// error that names the file, the line and what is wrong.
#include "workload/read_workload.h"
#include "workload/testing/trace_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

namespace tiercel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Trace : public TraceFile {};

std::string request_line(const std::string& ids, const std::string& time = "1") {
  return R"({"timestamp": )" + time + R"(, "input_length": 10, "output_length": 3, "hash_ids": [)" + ids + "]}\n";
}

constexpr const char* kTwoRequests =
    "{\"timestamp\": 5, \"input_length\": 1000, \"output_length\": 7, \"hash_ids\": [40, 9, 18446744073709551615], "
    "\"session_id\": 3}\r\n"
    "\n"
    "{\"timestamp\": 1005.5, \"input_length\": 900, \"output_length\": 0, \"hash_ids\": [40, 8], \"session_id\": 3}";

void expect_two_requests(const Workload& workload) {
  ASSERT_EQ(workload.requests.size(), 2U);
  EXPECT_EQ(workload.unique_blocks, 4U);
  EXPECT_THAT(workload.block_uses, ElementsAre(0, 1, 2, 0, 3));
  EXPECT_EQ(workload.requests[0].arrival_ns, 5'000'000U);
  EXPECT_EQ(workload.requests[1].arrival_ns, 1'005'500'000U);
  EXPECT_EQ(workload.requests[0].input_tokens, 1000U);
  EXPECT_EQ(workload.requests[0].output_tokens, 7U);
  EXPECT_EQ(workload.requests[0].session, 3U);
  EXPECT_FALSE(workload.requests[0].ends_session);
  EXPECT_TRUE(workload.requests[1].ends_session);
}

TEST_F(Trace, a_line_is_a_request) { expect_two_requests(read(kTwoRequests)); }

TEST_F(Trace, a_compressed_file_is_read_as_a_plain_one_and_may_have_several_frames) {
  const std::string text = kTwoRequests;
  expect_two_requests(read(compressed(text.substr(0, 70)) + compressed(text.substr(70))));
}

TEST_F(Trace, a_line_may_be_longer_than_any_buffer) {
  std::string ids;
  for (int id = 0; id < 200'000; ++id) ids += (id == 0 ? "" : ",") + std::to_string(id);
  const Workload workload = read(request_line(ids) + request_line("0, 1"));
  EXPECT_EQ(workload.unique_blocks, 200'000U);
  EXPECT_EQ(workload.requests.at(1).block_count, 2U);
  EXPECT_EQ(read(compressed(request_line(ids))).unique_blocks, 200'000U);
}

TEST_F(Trace, an_error_of_a_request_names_line_and_field) {
  EXPECT_THAT(error_of(request_line("1") + "{\"timestamp\": 2}\n"), HasSubstr(":2: input_length is missing"));
  EXPECT_THAT(error_of(request_line("1") + "{\"timestamp\n"), HasSubstr(":2: not JSON"));
  EXPECT_THAT(error_of(request_line("1") + "[1]\n"), HasSubstr(":2: not a JSON object"));
  EXPECT_THAT(error_of(request_line("1", "-1")), HasSubstr(":1: timestamp is not a time"));
  EXPECT_THAT(error_of(request_line("1", "1e300")), HasSubstr(":1: timestamp is not a time"));
  EXPECT_THAT(error_of(request_line("1", "\"1\"")), HasSubstr(":1: timestamp is not a number"));
  EXPECT_THAT(error_of(request_line("-1")), HasSubstr(":1: hash_ids has something"));
  EXPECT_THAT(error_of(request_line("1.5")), HasSubstr(":1: hash_ids has something"));
  EXPECT_THAT(error_of(request_line("1", "9") + request_line("1", "8")), HasSubstr(":2: timestamp lies before"));
  EXPECT_THAT(error_of(R"({"timestamp": 1, "input_length": -4, "output_length": 1, "hash_ids": []})"),
              HasSubstr(":1: input_length is not a whole number"));
  EXPECT_THAT(error_of(R"({"timestamp": 1, "input_length": 4, "output_length": 1, "hash_ids": 7})"),
              HasSubstr(":1: hash_ids is not an array"));
}

TEST_F(Trace, an_id_that_does_not_name_all_before_it_is_refused) {
  EXPECT_THAT(error_of(request_line("1, 2") + request_line("3, 2")), HasSubstr(":2: block id 2 stands behind two"));
  EXPECT_THAT(error_of(request_line("1, 2, 1")), HasSubstr(":1: block id 1 stands behind two"));
}

TEST_F(Trace, deep_nesting_is_refused_before_it_is_parsed) {
  EXPECT_THAT(error_of("{\"timestamp\": " + std::string(1'000'000, '[') + "\n"), HasSubstr(":1: nested deeper"));
}

TEST_F(Trace, a_file_that_is_no_trace_is_refused) {
  EXPECT_THAT(error_of(""), HasSubstr("the file is empty"));
  EXPECT_THAT(error_of("hello\n"), HasSubstr(":1: neither JSON nor the heading"));
  (void)std::remove(path_.c_str());
  const auto missing = read_workload(path_);
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("No such file"));
}

TEST_F(Trace, a_compressed_file_that_is_cut_off_or_damaged_is_an_error_not_a_shorter_trace) {
  std::string text;
  for (int i = 0; i < 50'000; ++i) text += request_line(std::to_string(i * 7919 % 50'000));
  const std::string packed = compressed(text);
  EXPECT_THAT(error_of(packed.substr(0, packed.size() / 2)), HasSubstr("cut off"));
  std::string damaged = packed;
  for (std::size_t at = packed.size() / 2; at < packed.size(); ++at) damaged[at] = '\x55';
  EXPECT_NE(error_of(damaged), "(accepted)");
}

constexpr const char* kSessions =
    R"({"id": "a", "requests": [{"t": 0.0, "type": "n", "in": 128, "out": 5, "hash_ids": [1, 2]},)"
    R"( {"t": 10, "type": "subagent", "requests": [{"t": 2.5, "type": "s", "in": 64, "out": 1, "hash_ids": [9]}]},)"
    R"( {"t": 11, "type": "s", "in": 192, "out": 6, "hash_ids": [1, 2, 3]},)"
    R"( {"t": 5000, "type": "s", "in": 192, "out": 6, "hash_ids": [1, 2, 3]}]})"
    "\n"
    R"({"id": "b", "requests": [{"t": 0, "type": "n", "in": 64, "out": 5, "hash_ids": [1]}]})";

TEST_F(Trace, sessions_have_ids_of_their_own_and_long_gaps_are_cut) {
  const Workload workload = read(kSessions, {.window_ns = 0, .longest_gap_ns = 1'800'000'000'000});
  ASSERT_EQ(workload.requests.size(), 5U);
  EXPECT_EQ(workload.unique_blocks, 5U) << "1, 2, 3 and the sub-agent's 9 of the first, 1 of the second";
  EXPECT_NE(blocks(workload, 0), blocks(workload, 1)) << "both begin at once, with an id 1 each";
  EXPECT_EQ(workload.requests[2].arrival_ns, 11'000'000'000U);
  EXPECT_EQ(workload.requests[3].arrival_ns, 12'500'000'000U) << "the sub-agent's time counts from its own start";
  EXPECT_EQ(workload.requests[4].arrival_ns, 1'812'500'000'000U);
  EXPECT_EQ(blocks(workload, 4), blocks(workload, 2));
  EXPECT_TRUE(workload.requests[4].ends_session);
  EXPECT_TRUE(workload.requests[1].ends_session);
}

TEST_F(Trace, a_session_costs_what_it_says_whatever_its_ids_are) {
  // A session that cleared what ids before it have grown would take minutes here.
  constexpr std::uint32_t kCount = 50'000;
  std::string lines;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    lines += R"({"requests":[{"t":0,"in":3,"out":1,"hash_ids":[4194303,7,99999999]}]})";
    lines += '\n';
  }
  const Workload workload = read(lines);
  EXPECT_EQ(workload.requests.size(), kCount);
  EXPECT_EQ(workload.unique_blocks, 3 * kCount);
  EXPECT_EQ(workload.block_uses.size(), 3 * kCount);
}

TEST_F(Trace, sessions_are_laid_out_by_the_seed_alone) {
  const auto first_arrival = [this](std::uint64_t seed) {
    return read(kSessions, {.seed = seed}).requests.front().arrival_ns;
  };
  EXPECT_EQ(first_arrival(7), first_arrival(7));
  EXPECT_NE(first_arrival(7), first_arrival(8));
}

TEST_F(Trace, an_error_of_a_session_names_line_and_field) {
  EXPECT_THAT(error_of(R"({"id": "a", "requests": [{"t": 0, "type": "n", "in": 1, "hash_ids": []}]})"),
              HasSubstr(":1: out is missing"));
  EXPECT_THAT(error_of(R"({"id": "a", "requests": [7]})"), HasSubstr(":1: requests has something"));
  const std::string inner = R"({"t": 0, "type": "subagent", "requests": [)";
  EXPECT_THAT(error_of(R"({"id": "a", "requests": [)" + inner + inner + "]}]}]}"), HasSubstr("inside a sub-agent"));
}

constexpr const char* kHeading = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n";

TEST_F(Trace, a_table_of_lengths_has_requests_without_blocks) {
  const Workload workload = read(kHeading + std::string("2023-12-31 23:59:59.9799600,4808,10\r\n"
                                                        "2024-01-01 00:00:01,3180,8\r\n"));
  ASSERT_EQ(workload.requests.size(), 2U);
  EXPECT_EQ(workload.requests[0].arrival_ns, 0U);
  EXPECT_EQ(workload.requests[1].arrival_ns, 1'020'040'000U);
  EXPECT_EQ(workload.requests[1].input_tokens, 3180U);
  EXPECT_EQ(workload.requests[0].output_tokens, 10U);
  EXPECT_EQ(workload.unique_blocks, 0U);
}

TEST_F(Trace, an_error_of_a_table_names_line_and_column) {
  const std::string heading = kHeading;
  EXPECT_THAT(error_of("TIMESTAMP,Tokens\n"), HasSubstr(":1: the heading is not"));
  EXPECT_THAT(error_of(heading + "2023-11-16 18:17:03,1\n"), HasSubstr(":2: not three values"));
  EXPECT_THAT(error_of(heading + "2023-11-16 18:17:03,1,2,3\n"), HasSubstr(":2: not three values"));
  EXPECT_THAT(error_of(heading + "2023-11-16 18:17:03,x,2\n"), HasSubstr(":2: ContextTokens"));
  EXPECT_THAT(error_of(heading + "2023-11-16 18:17:03,1,\n"), HasSubstr(":2: GeneratedTokens"));
  for (const char* moment : {"2023-02-30 18:17:03", "2023-11-16T18:17:03", "2023-11-16 24:17:03", "", "2023-11-16",
                             "2023-11-16 18:17:03.1234567890", "2023-11-16 18:17:03.x", "2023-11-16 18:17:3"}) {
    EXPECT_THAT(error_of(heading + moment + ",1,2\n"), HasSubstr(":2: TIMESTAMP is not a moment")) << moment;
  }
  EXPECT_THAT(error_of(heading + "2023-11-16 18:17:03,1,2\n2023-11-16 18:17:02,1,2\n"),
              HasSubstr(":3: TIMESTAMP lies before"));
}

}  // namespace
}  // namespace tiercel
