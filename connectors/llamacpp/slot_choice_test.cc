#include "connectors/llamacpp/slot_choice.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace tiercel::llamacpp {
namespace {

using Tokens = std::vector<TokenId>;

Tokens run(TokenId first, std::size_t n) {
  Tokens tokens(n);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

Tokens operator+(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const Tokens kSystem = run(0, 50);

TEST(SlotChoice, NoneWhenAllAreActive) {
  const std::vector<SlotView> slots = {{.active = true}, {.active = true}};
  EXPECT_FALSE(choose_slot(slots, kSystem));
}

TEST(SlotChoice, AConversationGoesOnInItsSlot) {
  const Tokens mine = kSystem + run(1000, 100);
  const Tokens other = kSystem + run(2000, 100);
  const std::vector<SlotView> slots = {{.tokens = other, .last_used = 9}, {.tokens = mine, .last_used = 1}, {}};
  const auto choice = choose_slot(slots, mine + run(5000, 20));
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->slot, 1U);
  EXPECT_EQ(choice->source, 1U);
  EXPECT_EQ(choice->shared, 150U);
}

TEST(SlotChoice, ASystemPromptIsSharedAndItsConversationStays) {
  const Tokens other = kSystem + run(2000, 100);
  const std::vector<SlotView> slots = {{.tokens = other, .last_used = 1}, {}};
  const auto choice = choose_slot(slots, kSystem + run(3000, 10));
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->slot, 1U);
  EXPECT_EQ(choice->source, 0U);
  EXPECT_EQ(choice->shared, 50U);
}

TEST(SlotChoice, AnActiveSlotIsSharedFromButNotTaken) {
  const Tokens busy = kSystem + run(2000, 100);
  const Tokens idle = run(7000, 80);
  const std::vector<SlotView> slots = {{.active = true, .tokens = busy, .last_used = 5},
                                       {.tokens = idle, .last_used = 1}};
  const auto choice = choose_slot(slots, busy);
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->slot, 1U);
  EXPECT_EQ(choice->source, 0U);
  EXPECT_EQ(choice->shared, 150U);
}

TEST(SlotChoice, AnEmptySlotThenTheIdlestIsTaken) {
  const Tokens a = run(1000, 10);
  const Tokens b = run(2000, 10);
  const Tokens prompt = run(9000, 10);
  EXPECT_EQ(
      choose_slot(std::vector<SlotView>{{.tokens = a, .last_used = 2}, {.tokens = b, .last_used = 1}}, prompt)->slot,
      1U);
  EXPECT_EQ(choose_slot(std::vector<SlotView>{{.tokens = b, .last_used = 1}, {}}, prompt)->slot, 1U);
  const auto nothing_shared = choose_slot(std::vector<SlotView>{{.tokens = a, .last_used = 2}}, prompt);
  EXPECT_EQ(nothing_shared->shared, 0U);
  EXPECT_EQ(nothing_shared->source, nothing_shared->slot);
}

TEST(SlotChoice, IdlestSlotPassesOverActiveEmptyAndExcepted) {
  const Tokens a = run(0, 3);
  const std::vector<SlotView> slots = {{.active = true, .tokens = a, .last_used = 1},
                                       {.last_used = 0},
                                       {.tokens = a, .last_used = 3},
                                       {.tokens = a, .last_used = 2}};
  EXPECT_EQ(idlest_slot(slots, std::nullopt), 3U);
  EXPECT_EQ(idlest_slot(slots, 3U), 2U);
  EXPECT_FALSE(idlest_slot(std::vector<SlotView>{{.active = true, .tokens = a}}, std::nullopt));
}

}  // namespace
}  // namespace tiercel::llamacpp
