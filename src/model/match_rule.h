// The match rule: how many leading token blocks a set of present blocks can serve, over all groups of a model.
//
// n blocks can be served if every full-attention group has blocks 0..n-1, every sliding-window group has the blocks
// that the tokens just before position n * block_tokens reach back into, and every recurrent group has the state at
// the end of block n-1. Pure.
#pragma once

#include <tiercel/layout.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tiercel {

/// The place of a group in its layout.
using GroupId = std::uint8_t;

struct GroupRule {
  GroupKind kind = GroupKind::kFullAttention;
  /// Blocks before a position that a window needs: the next token attends to itself and window_tokens - 1 before it.
  std::size_t window_blocks = 0;
};

[[nodiscard]] GroupRule rule_of(const Group& group, std::uint32_t block_tokens) noexcept;

/// `present` holds one row of `blocks` flags (0 or not) a group, in the order of `rules`. The largest n that can be
/// served; 0 needs nothing. O(groups * blocks).
[[nodiscard]] std::size_t match_length(std::span<const GroupRule> rules, std::span<const std::uint8_t> present,
                                       std::size_t blocks);

}  // namespace tiercel
