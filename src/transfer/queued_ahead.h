// QueuedAhead: of a job that a GPU engine puts into its queues as a whole, at once, so that a stream can wait for its
// end by events that are recorded already.
//
// A stream must not wait for what is queued later: streams share the GPU's hardware queues, and behind a stream that
// waits the copies themselves may stand. So a step waits here, on the CPU, until all of the job is queued (about 15 us
// for each stage of 16 MiB, while the first ones move already), and its stream for the rest. The engine says queued()
// once, ended() once; whoever waits may come at any time. Thread-safe.
#pragma once

#include "base/mutex.h"

#include <tiercel/result.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace tiercel {

class QueuedAhead {
 public:
  /// Places in the engine's queues behind which the job has ended.
  using Tickets = std::vector<std::uint32_t>;

  void queued(Tickets tickets) {
    const MutexLock lock(mutex_);
    if (state_ != State::kPending) return;
    tickets_ = std::move(tickets);
    state_ = State::kQueued;
    changed_.notify_all();
  }
  /// The tickets, which nobody uses any more.
  [[nodiscard]] Tickets ended(const Status& status) {
    const MutexLock lock(mutex_);
    state_ = State::kEnded;
    status_ = status;
    changed_.notify_all();
    return std::exchange(tickets_, {});
  }
  /// Until the job is queued; then `wait_for` each of its tickets, unless it has ended by then. kTimeout: it is not
  /// queued after `at_most`. The job's error, or that of `wait_for`.
  [[nodiscard]] Status wait(std::chrono::nanoseconds at_most, const std::function<Status(std::uint32_t)>& wait_for) {
    MutexLock lock(mutex_);
    const auto known = [this]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return state_ != State::kPending; };
    if (!changed_.wait_for(lock.native(), at_most, known)) {
      return fail(ErrorCode::kTimeout, "the copy was not queued in time");
    }
    if (state_ == State::kEnded) return status_;
    for (const std::uint32_t ticket : tickets_) {
      if (Status status = wait_for(ticket); !status) return status;
    }
    return {};
  }

 private:
  enum class State : std::uint8_t { kPending, kQueued, kEnded };
  Mutex mutex_;  // a leaf, but for calls of the device in wait_for
  std::condition_variable changed_;
  State state_ TIERCEL_GUARDED_BY(mutex_) = State::kPending;
  Status status_ TIERCEL_GUARDED_BY(mutex_);
  Tickets tickets_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel
