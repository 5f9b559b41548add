// Which slot serves a request, and whose cells it takes over: pure decisions over what the slots hold.
//
// A slot is one sequence of the unified KV cache. After an answer its tokens stay until the cells or the slot are
// needed, so that the next turn of the same conversation finds them; sequences with a common prefix share its cells
// (seq_cp). No libllama here, no time, no locks: `last_used` is a counter of the caller.
#pragma once

#include <tiercel/block.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace tiercel::llamacpp {

/// What a slot holds, as the choice sees it.
struct SlotView {
  bool active = false;              ///< serves a request: may be copied from, not taken
  std::span<const TokenId> tokens;  ///< in the KV cache, from position 0
  std::uint64_t last_used = 0;      ///< larger is later
};

struct SlotChoice {
  std::size_t slot = 0;
  std::size_t source = 0;  ///< whose first `shared` tokens it starts with; equal to `slot`: its own
  std::size_t shared = 0;  ///< leading tokens of the prompt found in `source`
};

/// Length of the common prefix.
[[nodiscard]] std::size_t common_prefix(std::span<const TokenId> a, std::span<const TokenId> b);

/// The slot for `prompt`; empty if all are active. A slot whose content is mostly a prefix of the prompt goes on where
/// it is; else the prefix is shared from whoever has most of it, and the emptiest, then least recently used slot is
/// taken, so that a conversation is not destroyed for a common system prompt.
[[nodiscard]] std::optional<SlotChoice> choose_slot(std::span<const SlotView> slots, std::span<const TokenId> prompt);

/// The inactive slot with tokens that was used least recently, other than `except`: it gives its cells back first.
[[nodiscard]] std::optional<std::size_t> idlest_slot(std::span<const SlotView> slots,
                                                     std::optional<std::size_t> except);

}  // namespace tiercel::llamacpp
