// Goal: what an engine stored is read as the prompts that it had, in each form in which vLLM's events are written down;
// what cannot be meant is an error that names the line.
#include "workload/testing/trace_file.h"

namespace tiercel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class KvEvents : public TraceFile {
 protected:
  static std::string stored(const std::string& hashes, const std::string& parent, const std::string& more = "") {
    return R"({"type":"BlockStored","block_hashes":[)" + hashes + R"(],"parent_block_hash":)" + parent +
           R"(,"token_ids":[1,2],"block_size":16,"lora_id":null,"medium":"GPU","lora_name":null)" + more + "}";
  }
  static std::string batch(const std::string& ts, const std::string& events) {
    return "[" + ts + ",[" + events + "],0]\n";
  }
};

TEST_F(KvEvents, what_is_stored_behind_a_block_is_a_prompt_from_the_root) {
  const Workload workload = read(batch("100.5", stored("11,12", "null")) + batch("110", stored("13", "12")) +
                                 batch("120.25", stored("14", "11") + "," + stored("15,16", "14")));
  ASSERT_EQ(workload.requests.size(), 3U);
  EXPECT_THAT(blocks(workload, 0), ElementsAre(0, 1));
  EXPECT_THAT(blocks(workload, 1), ElementsAre(0, 1, 2));
  EXPECT_THAT(blocks(workload, 2), ElementsAre(0, 3, 4, 5)) << "the second goes on behind the first of its batch";
  EXPECT_EQ(workload.requests[0].arrival_ns, 0U);
  EXPECT_EQ(workload.requests[2].arrival_ns, 19'750'000'000U);
  EXPECT_EQ(workload.requests[2].input_tokens, 64U);
}

TEST_F(KvEvents, chunks_that_follow_soon_are_one_request_and_a_later_turn_is_another) {
  const Workload workload = read(batch("1", stored("1,2", "null")) + batch("1.5", stored("3,4", "2")) +
                                 batch("2.1", stored("5", "4")) + batch("9", stored("6", "5")));
  ASSERT_EQ(workload.requests.size(), 2U);
  EXPECT_EQ(blocks(workload, 0).size(), 5U);
  EXPECT_EQ(blocks(workload, 1).size(), 6U);
}

TEST_F(KvEvents, objects_and_single_events_are_read_as_well) {
  const std::string event = stored("\"b64==\",\"c64==\"", "null", R"(,"group_idx":0,"locality":"LOCAL")");
  const Workload batches = read(R"({"ts":1,"events":[)" + event + "]}\n");
  EXPECT_THAT(blocks(batches, 0), ElementsAre(0, 1));
  const Workload single = read(R"({"ts":1.5,"type":"BlockStored","block_hashes":[-7,8],"parent_block_hash":null,)"
                               R"("block_size":16})"
                               "\n"
                               R"({"ts":2,"type":"AllBlocksCleared"})"
                               "\n"
                               R"({"ts":2.1,"type":"BlockStored","block_hashes":[9],"parent_block_hash":8,)"
                               R"("block_size":16})");
  ASSERT_EQ(single.requests.size(), 2U) << "nothing goes on over a clearing";
  EXPECT_THAT(blocks(single, 1), ElementsAre(0, 1, 2));
}

TEST_F(KvEvents, a_block_that_was_removed_and_stored_again_is_the_same) {
  const std::string removed = R"({"type":"BlockRemoved","block_hashes":[2],"medium":"GPU"})";
  const Workload workload =
      read(batch("1", stored("1,2", "null")) + batch("5", removed) + batch("9", stored("2", "1")));
  EXPECT_EQ(workload.unique_blocks, 2U);
  EXPECT_EQ(blocks(workload, 0), blocks(workload, 1));
}

TEST_F(KvEvents, of_several_media_and_groups_one_counts) {
  const std::string cpu = R"({"type":"BlockStored","block_hashes":[1,2],"parent_block_hash":null,"token_ids":[],)"
                          R"("block_size":16,"medium":"CPU"})";
  const Workload workload =
      read(batch("1", stored("1,2", "null") + "," + cpu + "," + stored("91", "null", R"(,"group_idx":1)")));
  EXPECT_EQ(workload.requests.size(), 1U);
}

TEST_F(KvEvents, events_that_begin_in_the_middle_have_the_parent_that_they_name) {
  const Workload workload =
      read(batch("1", stored("5", "4")) + batch("9", stored("3,4", "null")) + batch("20", stored("6", "5")));
  ASSERT_EQ(workload.requests.size(), 3U);
  EXPECT_EQ(blocks(workload, 0).size(), 3U) << "what came out later about 4 holds for all";
  EXPECT_EQ(blocks(workload, 2).size(), 4U);
}

TEST_F(KvEvents, an_error_names_line_and_what_is_wrong) {
  const std::string good = batch("1", stored("1,2", "null"));
  EXPECT_THAT(error_of(good + "[1,[{\"type\":\"BlockMoved\"}]]\n"), HasSubstr(":2: type is none of"));
  EXPECT_THAT(error_of(good + "[1]\n"), HasSubstr(":2: type is none of"));
  EXPECT_THAT(error_of("[[],[]]\n"), HasSubstr(":1: ts is not a number"));
  EXPECT_THAT(error_of("[]\n"), HasSubstr(":1: ts is missing"));
  EXPECT_THAT(error_of(good + "[1,[7]]\n"), HasSubstr(":2: events has something"));
  EXPECT_THAT(error_of(batch("1", stored("1.5", "null"))), HasSubstr(":1: block_hashes has something"));
  EXPECT_THAT(error_of(batch("1", stored("1", "[]"))), HasSubstr(":1: parent_block_hash has something"));
  EXPECT_THAT(error_of(good + batch("2", stored("2", "null"))), HasSubstr(":2: block 2 stands behind two"));
  EXPECT_THAT(error_of(batch("1", stored("5", "5"))), HasSubstr(":1: block 5 stands behind itself"));
  EXPECT_THAT(error_of(batch("1", stored("5", "4")) + batch("2", stored("4", "5"))),
              HasSubstr(":2: block 4 stands behind itself"));
  EXPECT_THAT(error_of(good + "{\n"), HasSubstr(":2: not JSON"));
}

}  // namespace
}  // namespace tiercel
