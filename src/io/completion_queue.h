// CompletionQueue: what has ended and waits to be reaped, with the wait and the wake of IoBackend::reap.
//
// Room for a fixed number of entries; push, pop and wake from any thread. Calls nobody under its lock.
#pragma once

#include "base/mutex.h"
#include "io/io_backend.h"

#include <condition_variable>
#include <cstddef>
#include <span>
#include <vector>

namespace tiercel {

class CompletionQueue {
 public:
  explicit CompletionQueue(std::uint32_t depth) : entries_(depth) {}

  /// At most `depth` entries may lie here (checked).
  void push(const IoReaped& entry);
  /// IoBackend::reap. A wait longer than kLongestWait ends there with 0.
  [[nodiscard]] std::size_t pop(std::span<IoReaped> reaped, std::uint64_t wait_ns);
  void wake() noexcept;
  [[nodiscard]] bool empty() noexcept;

  static constexpr std::uint64_t kLongestWaitNs = 3'600'000'000'000U;

 private:
  Mutex mutex_;
  std::condition_variable changed_;
  std::vector<IoReaped> entries_ TIERCEL_GUARDED_BY(mutex_);  // a ring
  std::size_t first_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::size_t count_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool woken_ TIERCEL_GUARDED_BY(mutex_) = false;
};

}  // namespace tiercel
