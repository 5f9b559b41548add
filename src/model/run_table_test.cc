// Goal: runs lie where docs/formats.md says, every malformed group is refused by name, and the bytes that enter the
// fingerprint are the documented ones.
#include "model/run_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>

namespace tiercel {
namespace {

using testing::HasSubstr;

Run split(std::uint32_t layer, StateKind kind, std::uint32_t heads, std::uint32_t bytes) {
  return {.layer = layer, .kind = kind, .heads = heads, .bytes_per_head_token = bytes};
}
Run opaque(std::uint32_t layer, StateKind kind, std::uint64_t bytes) {
  return {.layer = layer, .kind = kind, .opaque_bytes = bytes};
}
Group group_of(std::vector<Run> runs) { return {.runs = std::move(runs)}; }

std::string error_of(const Group& group, std::uint32_t block_tokens = 64) {
  const Result<RunTable> table = RunTable::make(group, block_tokens);
  return table ? "" : table.error().message;
}

TEST(RunTable, places_runs_one_after_another) {
  const auto table = RunTable::make(group_of({split(0, StateKind::kKey, 8, 256), split(0, StateKind::kValue, 8, 128),
                                              split(3, StateKind::kKey, 2, 256)}),
                                    16);
  ASSERT_TRUE(table);
  ASSERT_EQ(table->runs().size(), 3U);
  EXPECT_EQ(table->runs()[0].offset_bytes, 0U);
  EXPECT_EQ(table->runs()[0].bytes, 8U * 16 * 256);
  EXPECT_EQ(table->runs()[1].offset_bytes, 32'768U);
  EXPECT_EQ(table->runs()[1].bytes, 16'384U);
  EXPECT_EQ(table->runs()[2].offset_bytes, 49'152U);
  EXPECT_EQ(table->block_bytes(), 49'152U + 8192U);
  EXPECT_EQ(table->block_tokens(), 16U);
}

TEST(RunTable, pads_only_between_runs_of_odd_size) {
  const auto table = RunTable::make(group_of({opaque(0, StateKind::kScales, 17), opaque(0, StateKind::kLatent, 16),
                                              opaque(1, StateKind::kScales, 3)}),
                                    64);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->runs()[1].offset_bytes, 32U);
  EXPECT_EQ(table->runs()[2].offset_bytes, 48U);
  EXPECT_EQ(table->block_bytes(), 51U);
}

TEST(RunTable, finds_a_run_by_layer_and_kind) {
  const auto table = RunTable::make(group_of({split(1, StateKind::kKey, 1, 16), split(1, StateKind::kValue, 1, 16),
                                              split(4, StateKind::kValue, 1, 16)}),
                                    1);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->find(1, StateKind::kValue), 1U);
  EXPECT_EQ(table->find(4, StateKind::kValue), 2U);
  EXPECT_EQ(table->find(4, StateKind::kKey), std::nullopt);
  EXPECT_EQ(table->find(2, StateKind::kKey), std::nullopt);
  EXPECT_EQ(table->find(5, StateKind::kKey), std::nullopt);
}

TEST(RunTable, refuses_what_is_malformed_and_says_which_field) {
  const tiercel::Run good = split(0, StateKind::kKey, 8, 256);
  EXPECT_THAT(error_of(group_of({})), HasSubstr("runs is empty"));
  EXPECT_THAT(error_of(group_of({good}), 0), HasSubstr("block_tokens is 0; valid are 1 to 65536"));
  EXPECT_THAT(error_of(group_of({good}), 65'537), HasSubstr("block_tokens is 65537"));
  EXPECT_EQ(error_of(group_of({good}), 65'536), "");
  EXPECT_THAT(error_of(group_of({good, {.layer = 1}})), HasSubstr("runs[1]: heads and opaque_bytes are both 0"));
  EXPECT_THAT(error_of(group_of({{.heads = 8, .bytes_per_head_token = 1, .opaque_bytes = 5}})),
              HasSubstr("heads is 8 and opaque_bytes is 5"));
  EXPECT_THAT(error_of(group_of({{.heads = 8}})), HasSubstr("bytes_per_head_token is 0"));
  EXPECT_THAT(error_of(group_of({{.bytes_per_head_token = 7, .opaque_bytes = 5}})),
              HasSubstr("bytes_per_head_token is 7; it must be 0"));
  EXPECT_THAT(error_of(group_of({good, good})), HasSubstr("runs[1]: layer 0 has two key runs"));
  EXPECT_THAT(error_of(group_of({split(2, StateKind::kKey, 1, 1), good})), HasSubstr("layer 0 comes after layer 2"));
  EXPECT_THAT(error_of(group_of({split(0, static_cast<StateKind>(7), 1, 1)})), HasSubstr("kind is 7"));
}

TEST(RunTable, refuses_windows_that_do_not_fit_the_kind) {
  Group group = group_of({split(0, StateKind::kKey, 8, 256)});
  group.window_tokens = 5;
  EXPECT_THAT(error_of(group), HasSubstr("window_tokens is 5"));
  group.kind = GroupKind::kSlidingWindow;
  EXPECT_EQ(error_of(group), "");
  group.window_tokens = 0;
  EXPECT_THAT(error_of(group), HasSubstr("window_tokens is 0"));
  group.kind = static_cast<GroupKind>(3);
  EXPECT_THAT(error_of(group), HasSubstr("kind is 3"));
}

TEST(RunTable, refuses_sizes_that_overflow) {
  constexpr std::uint32_t kMax = std::numeric_limits<std::uint32_t>::max();
  EXPECT_THAT(error_of(group_of({split(0, StateKind::kKey, kMax, kMax)}), 65'536), HasSubstr("is more than"));
  const std::uint64_t most = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(error_of(group_of({opaque(0, StateKind::kBlob, most)})), "");
  EXPECT_THAT(error_of(group_of({opaque(0, StateKind::kBlob, most + 1)})), HasSubstr("runs[0]: a block would be more"));
  EXPECT_THAT(error_of(group_of({opaque(0, StateKind::kBlob, most), opaque(1, StateKind::kBlob, 1)})),
              HasSubstr("runs[1]: a block would be more"));
}

TEST(RunTable, names_the_group_of_a_layout) {
  EXPECT_THAT(make_run_tables(Layout{}, 64).error().message, HasSubstr("layout.groups is empty"));
  const Layout layout{.groups = {group_of({opaque(0, StateKind::kBlob, 9)}), Group{}}};
  EXPECT_THAT(make_run_tables(layout, 64).error().message, HasSubstr("layout.groups[1]: runs is empty"));
  const auto tables = make_run_tables(Layout::blob(9), 64);
  ASSERT_TRUE(tables);
  EXPECT_EQ(tables->at(0).block_bytes(), 9U);
}

RC_GTEST_PROP(RunTable, runs_are_aligned_disjoint_and_tight, (std::vector<std::uint8_t> sizes)) {
  RC_PRE(!sizes.empty());
  Group group;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    group.runs.push_back(opaque(static_cast<std::uint32_t>(i), StateKind::kBlob, std::uint64_t{sizes[i]} + 1));
  }
  const auto table = RunTable::make(group, 1);
  RC_ASSERT(table.has_value());
  std::uint64_t end = 0;
  for (const PlacedRun& run : table->runs()) {
    RC_ASSERT(run.offset_bytes % kRunAlignment == 0);
    RC_ASSERT(run.offset_bytes >= end);
    RC_ASSERT(run.offset_bytes - end < kRunAlignment);
    end = run.offset_bytes + run.bytes;
  }
  RC_ASSERT(table->block_bytes() == end);
}

TEST(SerializeLayout, writes_the_documented_bytes) {
  const std::vector<std::byte> bytes = serialize_layout(Layout::blob(0x0102030405060708U), 64);
  const std::vector<std::uint8_t> golden = {0x01, 0, 0, 0, 0x40, 0, 0, 0, 0x10, 0, 0, 0, 0x01, 0, 0, 0,     //
                                            0x1e, 0, 0, 0, 0,    0, 0, 0, 0,    0, 0, 0, 0,    1, 0, 0, 0,  //
                                            0,    0, 0, 0, 6,    0, 0, 0, 0,    0, 0, 0, 0,    8, 7, 6, 5, 4, 3, 2, 1};
  ASSERT_EQ(bytes.size(), golden.size());
  for (std::size_t i = 0; i < golden.size(); ++i) EXPECT_EQ(std::to_integer<int>(bytes[i]), golden[i]) << "byte " << i;
}

TEST(SerializeLayout, tells_every_field_apart) {
  const Layout base{.groups = {group_of({split(0, StateKind::kKey, 8, 256)})}};
  std::vector<Layout> others(7, base);
  others[0].groups[0].kind = GroupKind::kSlidingWindow;
  others[1].groups[0].window_tokens = 1;
  others[2].groups[0].runs[0].layer = 1;
  others[3].groups[0].runs[0].kind = StateKind::kValue;
  others[4].groups[0].runs[0].heads = 4;
  others[5].groups[0].runs[0].bytes_per_head_token = 128;
  others[6].groups[0].runs[0].opaque_bytes = 1;
  for (const Layout& other : others) EXPECT_NE(serialize_layout(base, 64), serialize_layout(other, 64));
  EXPECT_NE(serialize_layout(base, 64), serialize_layout(base, 32));
  // The same runs cut into groups in another way.
  const tiercel::Run run = base.groups[0].runs[0];
  EXPECT_NE(serialize_layout(Layout{.groups = {group_of({run, run}), group_of({run})}}, 64),
            serialize_layout(Layout{.groups = {group_of({run}), group_of({run, run})}}, 64));
}

}  // namespace
}  // namespace tiercel
