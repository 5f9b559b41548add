#include "model/match_rule.h"

#include "base/check.h"

#include <algorithm>
#include <vector>

namespace tiercel {
namespace {

/// Lengths n in (0, limit] that a group can serve, removed from `possible` where it cannot. possible[n - 1] is length
/// n.
void restrict_to(const GroupRule& rule, std::span<const std::uint8_t> row, std::span<std::uint8_t> possible) {
  std::size_t run = 0;  // present blocks in a row that end at n - 1
  for (std::size_t n = 1; n <= possible.size(); ++n) {
    run = row[n - 1] != 0 ? run + 1 : 0;
    bool served = true;
    switch (rule.kind) {
      case GroupKind::kFullAttention:
        served = run == n;
        break;
      case GroupKind::kSlidingWindow:
        served = run >= std::min(n, rule.window_blocks);
        break;
      case GroupKind::kRecurrent:
        served = run >= 1;
        break;
    }
    if (!served) possible[n - 1] = 0;
  }
}

}  // namespace

GroupRule rule_of(const Group& group, std::uint32_t block_tokens) noexcept {
  GroupRule rule{.kind = group.kind};
  if (group.kind == GroupKind::kSlidingWindow && group.window_tokens > 1) {
    rule.window_blocks = (std::size_t{group.window_tokens} - 2) / block_tokens + 1;
  }
  return rule;
}

std::size_t match_length(std::span<const GroupRule> rules, std::span<const std::uint8_t> present, std::size_t blocks) {
  TIERCEL_CHECK(present.size() == rules.size() * blocks, "one row of flags a group");
  std::vector<std::uint8_t> possible(blocks, 1);
  for (std::size_t g = 0; g < rules.size(); ++g) restrict_to(rules[g], present.subspan(g * blocks, blocks), possible);
  const auto last = std::find(possible.rbegin(), possible.rend(), std::uint8_t{1});
  return static_cast<std::size_t>(possible.rend() - last);
}

}  // namespace tiercel
