// DemotionQueue: the blocks of the host tier that are to be written to disk, in the order in which they were stored or
// used; a list through the slots of the arena.
//
// A block is in it at most once, however often it is used, and leaves it with its slot: so it never holds more than the
// arena does, and nothing is shed. Owned by the core and used under its lock; HostStore tells it which slots are given
// back and which blocks move. 12 bytes a slot, taken at creation; no call allocates.
#pragma once

#include "memory/slot_table.h"

#include <cstddef>
#include <vector>

namespace tiercel {

class DemotionQueue {
 public:
  /// `slots`: slot ids lie below it; 0 where there is no disk tier (then nothing is ever put in).
  explicit DemotionQueue(std::uint32_t slots) : nodes_(slots) {}

  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool holds(SlotId slot) const noexcept { return slot < nodes_.size() && nodes_[slot].queued; }
  /// The slot whose block comes next. Not empty.
  [[nodiscard]] SlotId front() const noexcept { return first_; }

  /// To the end; a block that is there keeps its place.
  void push(SlotId slot) noexcept;
  /// No longer wanted, wherever it stands; one that is not there is well.
  void remove(SlotId slot) noexcept;
  /// The block has moved to another slot and keeps its place.
  void move(SlotId from, SlotId to) noexcept;
  /// From the front to the end, for a block whose turn comes too soon. False: it had a second turn already.
  [[nodiscard]] bool give_another_turn() noexcept;
  [[nodiscard]] bool had_another_turn(SlotId slot) const noexcept { return holds(slot) && nodes_[slot].second_turn; }
  /// As give_another_turn, without a limit: for a block that waits for another one that has a second turn.
  void rotate() noexcept;
  /// Puts a block that is not there before the front one, which waits for it and has had its second turn by that.
  /// False: it had that already.
  [[nodiscard]] bool bring_in(SlotId slot) noexcept;
  /// To the front, for a block that others wait for.
  void bring_forward(SlotId slot) noexcept;

 private:
  struct Node {
    SlotId previous = kNoSlot;
    SlotId next = kNoSlot;
    bool queued = false;
    bool second_turn = false;
  };
  void append(SlotId slot) noexcept;
  void unlink(SlotId slot) noexcept;

  std::vector<Node> nodes_;  // by slot
  SlotId first_ = kNoSlot;
  SlotId last_ = kNoSlot;
  std::size_t size_ = 0;
};

}  // namespace tiercel
