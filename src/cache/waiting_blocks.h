// WaitingBlocks: blocks that headers of the disk tier name and that wait for the block before them: where they lie, by
// the hash of that block. What else is known of them their headers say (DiskEvents::Opened::header).
//
// Owned by the core and guarded by its lock of the blocks that wait. Bytes: 12 for a place, in chunks that do not move,
// and 8 for a parent, in a table of 256 parts that grow one by one by a quarter: 22 to 25 bytes a block where each has
// a parent of its own, less where they share one, in whatever order they come. Of a parent 40 bits of its hash are
// kept, so now and then a block of another one is taken too: whoever reads its header finds that out, and adds it
// again. add() and take() throw std::bad_alloc, and have changed nothing then.
#pragma once

#include "base/function_ref.h"

#include <tiercel/block.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace tiercel {

/// A slot of one directory whose block waits.
struct WaitingPlace {
  std::uint32_t directory = 0;
  std::uint32_t slot = 0;
  friend bool operator==(const WaitingPlace&, const WaitingPlace&) = default;
};

class WaitingBlocks {
 public:
  /// `seed`: nobody can choose hashes that crowd one part.
  explicit WaitingBlocks(std::uint64_t seed) : seed_(seed) {}

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  /// Of all that is allocated.
  [[nodiscard]] std::uint64_t bytes() const noexcept;

  /// `parent` will be asked for soon.
  void prefetch(const BlockHash& parent) const noexcept {
    const Key key = key_of(parent);
    const Part& part = parts_[key.part];
    if (!part.cells.empty()) __builtin_prefetch(&part.cells[part.home(key.tag)]);
  }
  void add(const BlockHash& parent, WaitingPlace place);
  /// Takes out those that wait for `parent`, and appends them.
  void take(const BlockHash& parent, std::vector<WaitingPlace>& to);
  /// Shows all, at most kBatch at a time, and takes out those whose `gone` is set. Gives memory back if none is left.
  static constexpr std::size_t kBatch = 32;
  using Judge = FunctionRef<void(std::span<const WaitingPlace> places, std::span<bool> gone)>;
  void sweep(Judge judge);

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  static constexpr std::uint32_t kSwept = UINT32_MAX - 1;
  static constexpr std::size_t kParts = 256;
  static constexpr std::uint32_t kChunk = 32'768;  // nodes

  struct Node {
    std::uint32_t next = kNone;
    WaitingPlace place;
  };
  struct Cell {
    std::uint32_t tag = 0;
    std::uint32_t head = kNone;  // of a list of nodes; kNone: an empty cell
  };
  /// Open addressing: a cell lies at its home or behind it with no empty one between.
  struct Part {
    std::vector<Cell> cells;
    std::size_t used = 0;
    [[nodiscard]] std::size_t home(std::uint32_t tag) const noexcept {
      return std::uint64_t{tag} * cells.size() >> 32U;
    }
    [[nodiscard]] std::size_t after(std::size_t cell) const noexcept { return cell + 1 == cells.size() ? 0 : cell + 1; }
    /// The cell of the tag, or the empty one where it would lie.
    [[nodiscard]] std::size_t find(std::uint32_t tag) const noexcept;
    void erase(std::size_t cell) noexcept;
    void make_room();
  };
  struct Key {
    std::size_t part = 0;
    std::uint32_t tag = 0;
  };
  /// A walk over the lists of a part that takes some nodes out.
  class Sweep;

  [[nodiscard]] Key key_of(const BlockHash& parent) const noexcept;
  [[nodiscard]] Node& node(std::uint32_t index) const noexcept { return chunks_[index / kChunk][index % kChunk]; }
  [[nodiscard]] std::uint32_t new_node();
  void free_node(std::uint32_t index) noexcept;

  const std::uint64_t seed_;
  std::array<Part, kParts> parts_;
  std::vector<std::unique_ptr<Node[]>> chunks_;
  std::uint32_t untouched_ = 0;  // nodes from here on have never been used
  std::uint32_t first_free_ = kNone;
  std::uint64_t size_ = 0;
};

}  // namespace tiercel
