// EvictionPolicy: which block of a tier goes next. Deterministic: state inside, time as an argument; no IO, no locks,
// no knowledge of index or slots. Its owner calls it under its own lock, in slices (rule 8: at most 50 us).
//
// Blocks are small integers below the capacity that the policy was made for. Each belongs to one list: blocks of one
// tenant and one slot size, which can replace each other. The owner decides what may go now (`evictable`): leaves only
// for groups in leaf order, nothing that is pinned or in flight.
#pragma once

#include "base/function_ref.h"

#include <cstdint>
#include <optional>
#include <span>

namespace tiercel {

using PolicyBlock = std::uint32_t;
using PolicyList = std::uint32_t;  ///< below 2^31

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  /// Makes room for a list. The only call that may allocate; the others use lists that were added.
  virtual void add_list(PolicyList list) = 0;
  /// A block got a copy in this tier. It must not be known.
  virtual void insert(PolicyBlock block, PolicyList list, std::uint64_t now_ns) = 0;
  /// Blocks were used, tail of the sequence first, so that the head counts as used last. Unknown ones are ignored.
  virtual void touch(std::span<const PolicyBlock> tail_first, std::uint64_t now_ns) = 0;
  /// The copy is gone. An unknown block is ignored.
  virtual void erase(PolicyBlock block) = 0;
  /// The block of `list` that should go first among those that may, or none found by at most kSearch questions
  /// (`evictable`). The block stays known until erase(). What may not go keeps its place in the order. A search that
  /// found none goes on in the next call: asks_for_all(list) questions in a row, with no touch between, ask about every
  /// block of the list.
  [[nodiscard]] virtual std::optional<PolicyBlock> victim(PolicyList list,
                                                          FunctionRef<bool(PolicyBlock)> evictable) = 0;
  /// What keeping the block is worth now, comparable between lists; higher is better. 0 for an unknown block.
  [[nodiscard]] virtual double value(PolicyBlock block, std::uint64_t now_ns) const = 0;
  /// How many questions without a yes say that no block of `list` may go; 0 for an empty list.
  [[nodiscard]] virtual std::uint64_t asks_for_all(PolicyList list) const = 0;
  /// The coldest block of `list` that has not been asked about in vain; with none such, the coldest.
  [[nodiscard]] virtual std::optional<PolicyBlock> coldest(PolicyList list) const = 0;
  [[nodiscard]] virtual bool knows(PolicyBlock block) const = 0;
  /// Bytes of policy state a block.
  [[nodiscard]] virtual std::uint64_t bytes_per_block() const = 0;

  static constexpr std::uint64_t kSearch = 32;
};

}  // namespace tiercel
