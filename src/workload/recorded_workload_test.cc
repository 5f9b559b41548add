// Goal: a recording gives the prompts that stand in it, over its parts; where it was cut off it ends, and whatever is
// wrong with it is an error that names the line.
#include "workload/testing/trace_file.h"

namespace tiercel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Recorded : public TraceFile {};

const std::string kPart = "{\"tiercel_recording\":1,\"unix_seconds\":1700000000.500}\n";
const std::string kSource =
    R"({"source":0,"engine":"e","model":"m","tenant":"t","namespace":"0900000000000000","block_tokens":16})"
    "\n";

std::string block(unsigned number) { return "00000000000000" + std::to_string(10 + number); }

std::string lines() {
  return kPart + kSource + R"({"t":1.500,"source":0,"new":")" + block(1) + block(2) + "\"}\n" +
         R"({"t":2.000,"source":0,"known":1,"after":0,"new":")" + block(3) + "\"}\n" +
         R"({"t":2.500,"of":0,"known":2,"after":1,"new":")" + block(4) + block(5) + "\"}\n" +
         R"({"t":9.000,"source":0,"known":4,"after":4,"new":""})" + "\n";
}

TEST_F(Recorded, prompts_are_the_uses_and_what_extends_them_is_the_answer) {
  const Workload workload = read(compressed(lines()));
  ASSERT_EQ(workload.requests.size(), 3U);
  EXPECT_THAT(blocks(workload, 0), ElementsAre(0, 1));
  EXPECT_THAT(blocks(workload, 1), ElementsAre(0, 2));
  EXPECT_EQ(blocks(workload, 2).size(), 4U);
  EXPECT_EQ(blocks(workload, 2)[1], 1U);
  EXPECT_EQ(workload.requests[0].arrival_ns, 1'500'000U);
  EXPECT_EQ(workload.requests[2].arrival_ns, 9'000'000U);
  EXPECT_EQ(workload.requests[0].input_tokens, 32U);
  EXPECT_EQ(workload.requests[0].output_tokens, 32U);
  EXPECT_EQ(workload.requests[1].output_tokens, 0U);
  EXPECT_EQ(workload.requests[0].session, UINT32_MAX) << "an engine's session is no conversation";
}

TEST_F(Recorded, a_later_part_begins_its_numbers_anew_and_means_the_same_blocks) {
  const Workload workload =
      read(compressed(lines()) + compressed("{\"tiercel_recording\":1,\"unix_seconds\":1700000010.500}\n" + kSource +
                                            R"({"t":1.000,"source":0,"new":")" + block(1) + block(3) + "\"}\n"));
  ASSERT_EQ(workload.requests.size(), 4U);
  EXPECT_EQ(blocks(workload, 3), blocks(workload, 1));
  EXPECT_EQ(workload.requests[3].arrival_ns, 10'001'000'000U);
}

TEST_F(Recorded, a_clock_that_was_set_back_does_not_turn_time_back) {
  const Workload workload = read(lines() + "{\"tiercel_recording\":1,\"unix_seconds\":1600000000}\n" + kSource +
                                 R"({"t":1.000,"source":0,"new":")" + block(7) + "\"}\n");
  EXPECT_EQ(workload.requests.back().arrival_ns, 9'000'000U);
}

TEST_F(Recorded, one_that_was_cut_off_has_all_its_whole_frames) {
  const std::string whole = compressed(lines());
  const std::string next = compressed(kPart + kSource + R"({"t":1.000,"source":0,"new":")" + block(8) + "\"}\n");
  for (std::size_t cut = 0; cut < next.size(); ++cut) {
    const Workload workload = read(whole + next.substr(0, cut));
    EXPECT_EQ(workload.requests.size(), 3U) << cut;
  }
}

TEST_F(Recorded, damage_is_an_error_or_noticed_as_none) {
  std::string packed = compressed(lines());
  for (std::size_t at = 0; at < packed.size(); ++at) {
    for (const char change : {'\x01', '\x80'}) {
      std::string damaged = packed;
      damaged[at] = static_cast<char>(damaged[at] ^ change);
      write(damaged);
      const auto workload = read_workload(path_);
      if (!workload) {
        EXPECT_THAT(workload.error().message, testing::StartsWith(path_));
      }
    }
  }
}

TEST_F(Recorded, an_error_names_line_and_what_is_wrong) {
  const std::string head = kPart + kSource;
  EXPECT_THAT(error_of("{\"tiercel_recording\":2,\"unix_seconds\":1}\n"), HasSubstr(":1: a recording of version 2"));
  EXPECT_THAT(error_of(kPart + R"({"t":1,"source":0,"new":""})"), HasSubstr(":2: source 0 is not known"));
  EXPECT_THAT(error_of(head + kSource), HasSubstr(":3: source is not 1, the next"));
  EXPECT_THAT(error_of(head + R"({"t":1,"source":0,"new":"123"})"), HasSubstr(":3: new is not 16 digits a block"));
  EXPECT_THAT(error_of(head + R"({"t":1,"source":0,"new":"000000000000000G"})"), HasSubstr(":3: new has something"));
  EXPECT_THAT(error_of(head + R"({"t":1,"source":0,"known":1,"after":0,"new":""})"),
              HasSubstr(":3: after names block 0, which is not the last of 1 known ones"));
  EXPECT_THAT(error_of(lines() + R"({"t":1,"source":0,"known":2,"after":0,"new":""})"), HasSubstr(":7: after names"));
  EXPECT_THAT(error_of(lines() + R"({"t":1,"of":3,"new":""})"), HasSubstr(":7: of names request 3"));
  EXPECT_THAT(error_of(head + R"({"source":0,"new":""})"), HasSubstr(":3: t is missing"));
  EXPECT_THAT(error_of(head + R"({"t":1,"source":0})"), HasSubstr(":3: new is missing"));
  EXPECT_THAT(error_of(head + R"({"t":1,"source":0,"new":")" + block(1) + block(1) + "\"}"), HasSubstr(":3: block id"));
}

}  // namespace
}  // namespace tiercel
