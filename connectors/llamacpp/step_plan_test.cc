#include "connectors/llamacpp/step_plan.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <numeric>
#include <vector>

namespace tiercel::llamacpp {
namespace {

using Kind = StepSlot::Kind;
using Plan = std::vector<std::size_t>;

StepSlot answer() { return {.kind = Kind::kAnswer}; }
StepSlot prompt(std::size_t left, std::uint64_t arrival, std::size_t done = 0) {
  return {.kind = Kind::kPrompt, .done = done, .left = left, .arrival = arrival};
}

Plan plan(const std::vector<StepSlot>& slots, const StepLimits& limits) { return plan_step(slots, limits); }

TEST(StepPlan, EveryAnswerHasItsToken) { EXPECT_EQ(plan({answer(), {}, answer()}, {}), (Plan{1, 0, 1})); }

TEST(StepPlan, APromptAloneFillsTheBatch) { EXPECT_EQ(plan({prompt(2000, 1)}, {.batch_tokens = 512}), (Plan{512})); }

TEST(StepPlan, BesideAnswersAPromptIsComputedInPieces) {
  EXPECT_EQ(plan({answer(), prompt(2000, 1)}, {.batch_tokens = 512, .prompt_beside_answers = 64}), (Plan{1, 64}));
}

TEST(StepPlan, TheShortestPromptGoesFirstAndTheOldestKeepsAQuarter) {
  EXPECT_EQ(plan({prompt(2000, 1), prompt(100, 2)}, {.batch_tokens = 400}), (Plan{300, 100}));
  EXPECT_EQ(plan({prompt(2000, 1), prompt(1000, 2)}, {.batch_tokens = 400}), (Plan{100, 300}));
}

TEST(StepPlan, AlignedPiecesEndAtMultiplesOfTheBatch) {
  const StepLimits limits{.batch_tokens = 64, .aligned = true};
  EXPECT_EQ(plan({prompt(200, 1, 0)}, limits), (Plan{64}));
  EXPECT_EQ(plan({prompt(100, 1, 70)}, limits), (Plan{58}));
  EXPECT_EQ(plan({prompt(8, 1, 128)}, limits), (Plan{8}));
}

TEST(StepPlan, NeverMoreThanTheBatchAndNothingLeftIdle) {
  rc::check([] {
    const auto kinds = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 3));
    std::vector<StepSlot> slots;
    std::size_t wanted = 0;
    bool answers = false;
    for (const int kind : kinds) {
      StepSlot slot{.kind = static_cast<Kind>(kind), .arrival = slots.size()};
      if (slot.kind == Kind::kPrompt) slot.left = *rc::gen::inRange<std::size_t>(1, 300);
      wanted += slot.kind == Kind::kAnswer ? 1 : slot.left;
      answers = answers || slot.kind == Kind::kAnswer;
      slots.push_back(slot);
    }
    const StepLimits limits{.batch_tokens = *rc::gen::inRange<std::size_t>(1, 400),
                            .prompt_beside_answers = 32,
                            .apart = *rc::gen::arbitrary<bool>(),
                            .prompts_turn = *rc::gen::arbitrary<bool>()};
    const Plan shares = plan_step(slots, limits);
    const std::size_t total = std::accumulate(shares.begin(), shares.end(), std::size_t{0});
    RC_ASSERT(total <= limits.batch_tokens);
    for (std::size_t i = 0; i < slots.size(); ++i) {
      if (slots[i].kind == Kind::kIdle) RC_ASSERT(shares[i] == 0U);
      if (slots[i].kind == Kind::kPrompt) RC_ASSERT(shares[i] <= slots[i].left);
    }
    if (!answers) RC_ASSERT(total == std::min(wanted, limits.batch_tokens));
    if (wanted > 0) RC_ASSERT(total > 0U);
  });
}

TEST(StepPlan, ARemainderOfLessThanHalfAPieceIsComputedWithIt) {
  const StepLimits limits{.prompt_beside_answers = 64};
  EXPECT_EQ(plan({answer(), prompt(96, 1)}, limits), (Plan{1, 96}));
  EXPECT_EQ(plan({answer(), prompt(97, 1)}, limits), (Plan{1, 64}));
  EXPECT_EQ(plan({answer(), prompt(50, 1), prompt(46, 2)}, limits), (Plan{1, 50, 46}));
}

TEST(StepPlan, ApartAnswersAndPromptsTakeTurns) {
  StepLimits limits{.batch_tokens = 256, .prompt_beside_answers = 64, .apart = true};
  EXPECT_EQ(plan({answer(), prompt(2000, 1), answer()}, limits), (Plan{1, 0, 1}));
  limits.prompts_turn = true;
  EXPECT_EQ(plan({answer(), prompt(2000, 1), answer()}, limits), (Plan{0, 64, 0}));
  EXPECT_EQ(plan({answer(), {}, answer()}, limits), (Plan{1, 0, 1}));
  EXPECT_EQ(plan({prompt(2000, 1)}, limits), (Plan{256}));
}

TEST(StepPlan, ThePieceFollowsTheSpeedInWholeTiles) {
  EXPECT_EQ(prompt_piece(0, 512), 64U);
  EXPECT_EQ(prompt_piece(10, 512), 64U);
  EXPECT_EQ(prompt_piece(250, 512), 128U);
  EXPECT_EQ(prompt_piece(1e6, 512), 512U);
  EXPECT_EQ(prompt_piece(10, 16), 16U);
}

TEST(StepPlan, APromptWaitsForCompanyAShareOfWhatItTakes) {
  EXPECT_DOUBLE_EQ(wait_for_company(50, 1000, 512).count(), 0.0015);
  EXPECT_DOUBLE_EQ(wait_for_company(50, 10, 512).count(), 0.010);
  EXPECT_EQ(wait_for_company(512, 10, 512).count(), 0);
  EXPECT_EQ(wait_for_company(50, 0, 512).count(), 0);
}

}  // namespace
}  // namespace tiercel::llamacpp
