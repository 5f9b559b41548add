#include "io/completion_queue.h"

#include "base/check.h"

#include <algorithm>
#include <chrono>

namespace tiercel {

void CompletionQueue::push(const IoReaped& entry) {
  {
    const MutexLock lock(mutex_);
    TIERCEL_CHECK(count_ < entries_.size(), "more operations have ended than can be in flight");
    entries_[(first_ + count_) % entries_.size()] = entry;
    ++count_;
  }
  changed_.notify_one();
}

std::size_t CompletionQueue::pop(std::span<IoReaped> reaped, std::uint64_t wait_ns) {
  MutexLock lock(mutex_);
  if (wait_ns > 0 && count_ == 0 && !woken_) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(std::min(wait_ns, kLongestWaitNs));
    while (count_ == 0 && !woken_) {
      if (changed_.wait_until(lock.native(), end) == std::cv_status::timeout) break;
    }
  }
  woken_ = false;
  const std::size_t taken = std::min(count_, reaped.size());
  for (std::size_t i = 0; i < taken; ++i) {
    reaped[i] = entries_[first_];
    first_ = (first_ + 1) % entries_.size();
  }
  count_ -= taken;
  return taken;
}

void CompletionQueue::wake() noexcept {
  {
    const MutexLock lock(mutex_);
    woken_ = true;
  }
  changed_.notify_one();
}

bool CompletionQueue::empty() noexcept {
  const MutexLock lock(mutex_);
  return count_ == 0;
}

}  // namespace tiercel
