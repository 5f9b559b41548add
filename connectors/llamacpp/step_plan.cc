#include "connectors/llamacpp/step_plan.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tiercel::llamacpp {
namespace {

std::vector<std::size_t> prompts_by_arrival(std::span<const StepSlot> slots) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].kind == StepSlot::Kind::kPrompt && slots[i].left > 0) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return slots[a].arrival < slots[b].arrival; });
  return order;
}

/// A remainder of less than half a piece is computed with it: in a call of its own it would cost as much as a piece.
std::size_t room_beside_answers(std::span<const StepSlot> slots, std::span<const std::size_t> prompts,
                                const StepLimits& limits) {
  std::size_t left = 0;
  for (const std::size_t i : prompts) left += slots[i].left;
  const std::size_t piece = limits.prompt_beside_answers;
  return left <= piece + piece / 2 ? left : piece;
}

}  // namespace

std::vector<std::size_t> plan_step(std::span<const StepSlot> slots, const StepLimits& limits) {
  std::vector<std::size_t> plan(slots.size(), 0);
  std::size_t answers = 0;
  for (std::size_t i = 0; i < slots.size() && answers < limits.batch_tokens; ++i) {
    if (slots[i].kind != StepSlot::Kind::kAnswer) continue;
    plan[i] = 1;
    ++answers;
  }
  std::vector<std::size_t> order = prompts_by_arrival(slots);
  if (order.empty()) return plan;
  if (limits.apart && answers > 0) {
    if (!limits.prompts_turn) return plan;
    std::fill(plan.begin(), plan.end(), 0);
  }
  std::size_t room = limits.batch_tokens - (limits.apart ? 0 : answers);
  if (answers > 0) room = std::min(room, room_beside_answers(slots, order, limits));

  if (limits.aligned) {
    const StepSlot& oldest = slots[order.front()];
    const std::size_t to_boundary = limits.batch_tokens - oldest.done % limits.batch_tokens;
    if (answers == 0) plan[order.front()] = std::min(to_boundary, oldest.left);
    return plan;
  }
  const std::size_t oldest = order.front();
  plan[oldest] = std::min(slots[oldest].left, room / 4);
  room -= plan[oldest];
  std::sort(order.begin(), order.end(), [&](auto a, auto b) {
    return std::pair(slots[a].left, slots[a].arrival) < std::pair(slots[b].left, slots[b].arrival);
  });
  for (const std::size_t i : order) {
    const std::size_t more = std::min(slots[i].left - plan[i], room);
    plan[i] += more;
    room -= more;
  }
  return plan;
}

std::size_t prompt_piece(double tokens_per_second, std::size_t batch_tokens) {
  constexpr double kSeconds = 0.5;
  const double wanted = tokens_per_second * kSeconds;
  if (wanted >= static_cast<double>(batch_tokens)) return batch_tokens;
  const auto tiles = static_cast<std::size_t>(std::lround(wanted / static_cast<double>(kAttentionTile)));
  return std::min(batch_tokens, std::max<std::size_t>(tiles, 1) * kAttentionTile);
}

std::chrono::duration<double> wait_for_company(std::size_t prompt_tokens, double tokens_per_second,
                                               std::size_t batch_tokens) {
  constexpr double kShare = 0.03;
  constexpr std::chrono::duration<double> kLongest = std::chrono::milliseconds(10);
  if (prompt_tokens >= batch_tokens || tokens_per_second <= 0) return {};
  const std::chrono::duration<double> takes(static_cast<double>(prompt_tokens) / tokens_per_second);
  return std::min(takes * kShare, kLongest);
}

}  // namespace tiercel::llamacpp
