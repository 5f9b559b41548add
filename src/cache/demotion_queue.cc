#include "cache/demotion_queue.h"

#include "base/check.h"

#include <utility>

namespace tiercel {

void DemotionQueue::append(SlotId slot) noexcept {
  Node& node = nodes_[slot];
  node.previous = last_;
  node.next = kNoSlot;
  (last_ == kNoSlot ? first_ : nodes_[last_].next) = slot;
  last_ = slot;
}

void DemotionQueue::unlink(SlotId slot) noexcept {
  const Node& node = nodes_[slot];
  (node.previous == kNoSlot ? first_ : nodes_[node.previous].next) = node.next;
  (node.next == kNoSlot ? last_ : nodes_[node.next].previous) = node.previous;
}

void DemotionQueue::push(SlotId slot) noexcept {
  Node& node = nodes_[slot];
  if (node.queued) return;
  node = {.queued = true};
  append(slot);
  ++size_;
}

void DemotionQueue::remove(SlotId slot) noexcept {
  if (!holds(slot)) return;
  unlink(slot);
  nodes_[slot] = {};
  --size_;
}

void DemotionQueue::move(SlotId from, SlotId to) noexcept {
  if (!holds(from)) return;
  TIERCEL_CHECK(!nodes_[to].queued, "a block moves into a slot without one");
  nodes_[to] = std::exchange(nodes_[from], {});
  const Node& node = nodes_[to];
  (node.previous == kNoSlot ? first_ : nodes_[node.previous].next) = to;
  (node.next == kNoSlot ? last_ : nodes_[node.next].previous) = to;
}

bool DemotionQueue::give_another_turn() noexcept {
  if (std::exchange(nodes_[first_].second_turn, true)) return false;
  rotate();
  return true;
}

void DemotionQueue::rotate() noexcept {
  const SlotId slot = first_;
  unlink(slot);
  append(slot);
}

bool DemotionQueue::bring_in(SlotId slot) noexcept {
  if (std::exchange(nodes_[first_].second_turn, true)) return false;
  push(slot);
  bring_forward(slot);
  return true;
}

void DemotionQueue::bring_forward(SlotId slot) noexcept {
  if (!holds(slot) || slot == first_) return;
  unlink(slot);
  Node& node = nodes_[slot];
  node.previous = kNoSlot;
  node.next = first_;
  nodes_[first_].previous = slot;
  first_ = slot;
}

}  // namespace tiercel
