// Goal: the match rule of all three kinds of group, alone and together, against a definition written token by token.
#include "model/match_rule.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace tiercel {
namespace {

constexpr std::uint32_t kBlockTokens = 4;

/// Can the token at position n * kBlockTokens be computed from these blocks? Straight from the definition.
bool can_continue(const Group& group, const std::vector<std::uint8_t>& row, std::size_t n) {
  const std::size_t position = n * kBlockTokens;
  switch (group.kind) {
    case GroupKind::kFullAttention:
      for (std::size_t token = 0; token < position; ++token) {
        if (row[token / kBlockTokens] == 0) return false;
      }
      return true;
    case GroupKind::kSlidingWindow:
      for (std::size_t token = 0; token < position; ++token) {
        const bool in_window = position - token < group.window_tokens;
        if (in_window && row[token / kBlockTokens] == 0) return false;
      }
      return true;
    case GroupKind::kRecurrent:
      return n == 0 || row[n - 1] != 0;
  }
  return false;
}

RC_GTEST_PROP(MatchRule, equals_the_definition, ()) {
  const auto blocks = *rc::gen::inRange<std::size_t>(0, 12);
  const auto groups = *rc::gen::inRange<std::size_t>(1, 4);
  std::vector<GroupRule> rules;
  std::vector<Group> kinds;
  std::vector<std::vector<std::uint8_t>> rows;
  std::vector<std::uint8_t> flat;
  for (std::size_t g = 0; g < groups; ++g) {
    Group group{.kind = *rc::gen::element(GroupKind::kFullAttention, GroupKind::kSlidingWindow, GroupKind::kRecurrent)};
    if (group.kind == GroupKind::kSlidingWindow) group.window_tokens = *rc::gen::inRange<std::uint32_t>(1, 20);
    // Mostly present, so that long matches occur.
    auto row = *rc::gen::container<std::vector<std::uint8_t>>(blocks,
                                                              rc::gen::weightedElement<std::uint8_t>({{6, 1}, {1, 0}}));
    flat.insert(flat.end(), row.begin(), row.end());
    rules.push_back(rule_of(group, kBlockTokens));
    kinds.push_back(group);
    rows.push_back(std::move(row));
  }
  std::size_t expected = 0;
  for (std::size_t n = 1; n <= blocks; ++n) {
    bool all = true;
    for (std::size_t g = 0; g < groups; ++g) all = all && can_continue(kinds[g], rows[g], n);
    if (all) expected = n;
  }
  RC_ASSERT(match_length(rules, flat, blocks) == expected);
}

TEST(MatchRule, a_window_of_one_token_needs_nothing) {
  const GroupRule rule = rule_of({.kind = GroupKind::kSlidingWindow, .window_tokens = 1}, 64);
  EXPECT_EQ(rule.window_blocks, 0U);
  EXPECT_EQ(rule_of({.kind = GroupKind::kSlidingWindow, .window_tokens = 65}, 64).window_blocks, 1U);
  EXPECT_EQ(rule_of({.kind = GroupKind::kSlidingWindow, .window_tokens = 66}, 64).window_blocks, 2U);
}

}  // namespace
}  // namespace tiercel
