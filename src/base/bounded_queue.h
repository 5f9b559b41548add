// BoundedQueue: a ring of fixed capacity that refuses instead of growing. Not thread-safe: its owner's mutex guards it.
#pragma once

#include "base/check.h"

#include <cstddef>
#include <utility>
#include <vector>

namespace tiercel {

template <class T>
class BoundedQueue {
 public:
  explicit BoundedQueue(std::size_t capacity) : items_(capacity) { TIERCEL_CHECK(capacity > 0, "queue of no room"); }

  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  [[nodiscard]] bool full() const noexcept { return count_ == items_.size(); }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }

  /// False, and `item` untouched, if the queue is full.
  [[nodiscard]] bool push(T&& item) {
    if (full()) return false;
    items_[(head_ + count_) % items_.size()] = std::move(item);
    ++count_;
    return true;
  }

  [[nodiscard]] T pop() {
    TIERCEL_CHECK(count_ > 0, "pop of an empty queue");
    T item = std::exchange(items_[head_], T{});
    head_ = (head_ + 1) % items_.size();
    --count_;
    return item;
  }

 private:
  std::vector<T> items_;
  std::size_t head_ = 0;
  std::size_t count_ = 0;
};

}  // namespace tiercel
