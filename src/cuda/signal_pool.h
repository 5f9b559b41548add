// SignalPool: the words that a GPU's streams can wait for, one for each job that wants one.
//
// A word's values only grow (in a circle of 2^32), so a stream that comes to its wait late, when the word serves a
// later job, finds it passed. Thread-safe; the mutex is a leaf.
#pragma once

#include "base/mutex.h"
#include "transfer/copy_plan.h"

#include <tiercel/result.h>

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace tiercel::gpu {

class SignalPool {
 public:
  /// The words are the device's and outlive this.
  explicit SignalPool(std::span<std::uint32_t> words) : words_(words) {
    for (std::uint32_t& word : words_) free_.push_back(&word);
  }

  [[nodiscard]] Result<EndSignal> take() {
    if (words_.empty()) return fail(ErrorCode::kUnsupported, "streams of this GPU cannot wait for a word of memory");
    const MutexLock lock(mutex_);
    if (free_.empty()) return fail(ErrorCode::kLimit, "as many signals are out as jobs may be in flight");
    std::uint32_t* word = free_.back();
    free_.pop_back();
    return EndSignal{word, *word + 1};
  }
  /// The job has ended, or will never come: whoever waits for it goes on.
  void give(const EndSignal& signal) noexcept {
    if (signal.word == nullptr) return;
    std::atomic_ref(*signal.word).store(signal.value, std::memory_order_release);  // pairs with the GPU's wait
    const MutexLock lock(mutex_);
    free_.push_back(signal.word);
  }

 private:
  const std::span<std::uint32_t> words_;
  Mutex mutex_;
  std::vector<std::uint32_t*> free_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel::gpu
