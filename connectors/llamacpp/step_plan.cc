#include "connectors/llamacpp/step_plan.h"

#include <algorithm>
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
  std::size_t room = limits.batch_tokens - answers;
  if (answers > 0) room = std::min(room, limits.prompt_beside_answers);

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
  constexpr double kSeconds = 0.25;
  constexpr std::size_t kLeast = 32;
  const double wanted = tokens_per_second * kSeconds;
  if (wanted >= static_cast<double>(batch_tokens)) return batch_tokens;
  return std::min(batch_tokens, std::max(kLeast, static_cast<std::size_t>(wanted)));
}

}  // namespace tiercel::llamacpp
