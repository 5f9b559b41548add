// Goal: what calls mean as requests, and how they are written: a prompt is one request however often it is asked about,
// blocks that were recorded before cost a number, and every bound holds.
#include "recording/recording_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <vector>

namespace tiercel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Kind = RequestRing::Kind;
using Chain = std::vector<RecordedBlock>;

constexpr std::uint64_t kSecond_ns = 1'000'000'000;

/// One session of one namespace, and the lines that its calls make.
class Lines : public testing::Test {
 protected:
  Lines() {
    lines_.begin_part(1'700'000'000'250, 0);
    RequestRing::Taken name{.entry = {.kind = Kind::kSession, .session = 1}, .chain = {}, .text = "engine"};
    name.text += '\0';
    name.text += "model";
    lines_.add(name);
    lines_.add({.entry = {.kind = Kind::kSpace, .space = 9, .block_tokens = 16}, .chain = {}, .text = "a \"tenant\""});
  }
  void call(Kind kind, const Chain& chain, std::uint64_t after_ns = 1'000'000) {
    now_ns_ += after_ns;
    lines_.add({.entry = {.kind = kind, .session = 1, .now_ns = now_ns_, .space = 9}, .chain = chain, .text = {}});
  }
  /// Since the last call.
  std::vector<std::string> take() {
    std::istringstream text(lines_.text());
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    lines_.clear();
    return lines;
  }

  RecordingLines lines_{1'000};
  std::uint64_t now_ns_ = 0;
};

TEST_F(Lines, a_part_begins_with_its_time_and_names_who_asks) {
  call(Kind::kMatch, {0x11});
  EXPECT_THAT(take(), ElementsAre(R"({"tiercel_recording":1,"unix_seconds":1700000000.250})",
                                  R"({"source":0,"engine":"engine","model":"model","tenant":"a \"tenant\"",)"
                                  R"("namespace":"0900000000000000","block_tokens":16})",
                                  R"({"t":1.000,"source":0,"new":"1100000000000000"})"));
}

TEST_F(Lines, a_match_its_load_and_its_stores_are_one_request) {
  call(Kind::kMatch, {1, 2, 3});
  take();
  call(Kind::kLoad, {1, 2, 3});
  call(Kind::kReserve, {1, 2, 3});
  EXPECT_TRUE(take().empty());
  call(Kind::kReserve, {1, 2, 3, 4});
  call(Kind::kReserve, {1, 2, 3, 4, 5});
  EXPECT_THAT(take(), ElementsAre(R"({"t":4.000,"of":0,"known":3,"after":2,"new":"0400000000000000"})",
                                  R"({"t":5.000,"of":0,"known":4,"after":3,"new":"0500000000000000"})"));
  call(Kind::kMatch, {1, 2, 3, 4, 5, 6});
  EXPECT_THAT(take(), ElementsAre(R"({"t":6.000,"source":0,"known":5,"after":4,"new":"0600000000000000"})"));
}

TEST_F(Lines, the_same_prompt_again_is_another_request_once_the_first_was_served) {
  call(Kind::kMatch, {1, 2});
  call(Kind::kMatch, {1, 2});  // asked again while it waits
  EXPECT_EQ(lines_.requests(), 1U);
  call(Kind::kLoad, {1, 2});
  call(Kind::kMatch, {1, 2});
  EXPECT_EQ(lines_.requests(), 2U);
  call(Kind::kMatch, {1, 2}, 2 * kSecond_ns);
  EXPECT_EQ(lines_.requests(), 3U) << "nobody asks so late again";
  take();
  call(Kind::kMatch, {1, 2}, 2 * kSecond_ns);
  EXPECT_THAT(take(), ElementsAre(HasSubstr(R"("known":2,"after":1,"new":"")")));
}

TEST_F(Lines, a_load_or_a_store_without_a_match_is_a_request) {
  call(Kind::kLoad, {1, 2});
  call(Kind::kLoad, {1, 2});
  EXPECT_EQ(lines_.requests(), 2U);
  call(Kind::kReserve, {7, 8});
  EXPECT_EQ(lines_.requests(), 3U);
  call(Kind::kReserve, {7});
  EXPECT_EQ(lines_.requests(), 3U) << "a part of what is there";
  call(Kind::kReserve, {7, 8, 9});
  EXPECT_EQ(lines_.requests(), 3U) << "more of it";
  call(Kind::kMatch, {20, 21, 22});
  call(Kind::kLoad, {20, 21});
  EXPECT_EQ(lines_.requests(), 4U) << "a load of the first blocks of a match";
  call(Kind::kLoad, {20, 21});
  EXPECT_EQ(lines_.requests(), 5U);
}

TEST_F(Lines, requests_of_one_session_may_overlap) {
  call(Kind::kMatch, {1, 2});
  call(Kind::kMatch, {1, 5});
  call(Kind::kMatch, {8});
  take();
  call(Kind::kReserve, {1, 2, 3});
  call(Kind::kReserve, {8, 9});
  call(Kind::kReserve, {1, 5, 6});
  EXPECT_THAT(take(), ElementsAre(HasSubstr(R"("of":0,)"), HasSubstr(R"("of":2,)"), HasSubstr(R"("of":1,)")));
}

TEST_F(Lines, a_chain_that_no_hash_of_prefixes_makes_keeps_the_numbers_right) {
  call(Kind::kMatch, {1, 2, 1, 3});
  call(Kind::kMatch, {4, 9, 2, 5});
  call(Kind::kMatch, {1, 2, 6});
  const auto lines = take();
  ASSERT_EQ(lines.size(), 5U);
  EXPECT_THAT(lines[2], HasSubstr(R"("new":"01000000000000000200000000000000"})"));
  EXPECT_THAT(lines[3], HasSubstr(R"("new":"04000000000000000900000000000000"})"));
  EXPECT_THAT(lines[4], HasSubstr(R"("known":2,"after":1,"new":"0600000000000000"})"));
}

TEST_F(Lines, time_never_goes_back) {
  call(Kind::kMatch, {1}, 5 * kSecond_ns);
  now_ns_ -= 3 * kSecond_ns;
  call(Kind::kMatch, {2});
  EXPECT_THAT(take().back(), HasSubstr(R"({"t":5000.000,)"));
}

TEST_F(Lines, a_new_part_leans_on_nothing_before_it) {
  call(Kind::kMatch, {1, 2});
  EXPECT_FALSE(lines_.is_full());
  for (std::uint64_t i = 0; i < 1'000; ++i) call(Kind::kMatch, {100 + i});
  EXPECT_TRUE(lines_.is_full());
  call(Kind::kMatch, {5, 6});
  take();
  lines_.begin_part(1'700'000'009'000, now_ns_);
  EXPECT_FALSE(lines_.is_full());
  call(Kind::kReserve, {5, 6, 7});
  call(Kind::kMatch, {1, 2});
  EXPECT_THAT(take(), ElementsAre(HasSubstr("tiercel_recording"), HasSubstr(R"({"source":0,)"),
                                  R"({"t":2.000,"source":0,"new":"01000000000000000200000000000000"})"))
      << "an answer that goes on over the beginning of a part ends there";
}

TEST_F(Lines, sessions_and_namespaces_are_bounded) {
  for (std::uint32_t i = 0; i < 3 * RecordingLines::kSources; ++i) {
    lines_.add({.entry = {.kind = Kind::kSession, .session = i}, .chain = {}, .text = "one of many"});
    lines_.add({.entry = {.kind = Kind::kMatch, .session = i, .now_ns = i, .space = i}, .chain = {i}, .text = {}});
    if (lines_.is_full()) lines_.begin_part(0, i);
    if (lines_.text().size() > 100'000) lines_.clear();
  }
  call(Kind::kMatch, {1});
  SUCCEED() << "and memory with them";
}

}  // namespace
}  // namespace tiercel
