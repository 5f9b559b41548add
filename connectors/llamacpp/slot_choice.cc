#include "connectors/llamacpp/slot_choice.h"

#include <algorithm>

namespace tiercel::llamacpp {
namespace {

/// Is `a` the better slot to take, given that none of its content is wanted?
bool cheaper_to_take(const SlotView& a, const SlotView& b) {
  if (a.tokens.empty() != b.tokens.empty()) return a.tokens.empty();
  return a.last_used < b.last_used;
}

}  // namespace

std::size_t common_prefix(std::span<const TokenId> a, std::span<const TokenId> b) {
  const std::size_t n = std::min(a.size(), b.size());
  return static_cast<std::size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(n), b.begin()).first - a.begin());
}

std::optional<SlotChoice> choose_slot(std::span<const SlotView> slots, std::span<const TokenId> prompt) {
  std::optional<std::size_t> take;
  SlotChoice best;
  std::size_t own_shared = 0;
  std::optional<std::size_t> own;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const std::size_t shared = common_prefix(slots[i].tokens, prompt);
    if (shared > best.shared) best = {.slot = i, .source = i, .shared = shared};
    if (slots[i].active) continue;
    if (!take || cheaper_to_take(slots[i], slots[*take])) take = i;
    // Half of what the slot holds: a conversation that goes on, even if its last answer was tokenized anew.
    if (shared * 2 >= slots[i].tokens.size() && shared > own_shared) {
      own = i;
      own_shared = shared;
    }
  }
  if (!take) return std::nullopt;
  if (own && own_shared == best.shared) return SlotChoice{.slot = *own, .source = *own, .shared = own_shared};
  best.slot = own.value_or(*take);
  if (best.shared == 0) best.source = best.slot;
  return best;
}

std::optional<std::size_t> idlest_slot(std::span<const SlotView> slots, std::optional<std::size_t> except) {
  std::optional<std::size_t> idlest;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].active || slots[i].tokens.empty() || i == except) continue;
    if (!idlest || slots[i].last_used < slots[*idlest].last_used) idlest = i;
  }
  return idlest;
}

}  // namespace tiercel::llamacpp
