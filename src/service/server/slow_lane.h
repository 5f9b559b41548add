// SlowLane: one thread for what a connection's thread must not wait for: deletes, which end with a synced log. A
// bounded queue; work runs in order. submit() is safe from any thread. stop() joins
// after the work that has begun; what is queued then is dropped.
#pragma once

#include "base/bounded_queue.h"
#include "base/mutex.h"

#include <condition_variable>
#include <functional>
#include <thread>

namespace tiercel::service {

class SlowLane {
 public:
  SlowLane() : queue_(kQueued) {}
  ~SlowLane() { stop(); }

  void start();
  void stop() noexcept;
  /// False: full, or stopped.
  [[nodiscard]] bool submit(std::function<void()> work);

 private:
  static constexpr std::size_t kQueued = 64;
  void run();

  Mutex mutex_;
  BoundedQueue<std::function<void()>> queue_ TIERCEL_GUARDED_BY(mutex_);
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::condition_variable woken_;
  std::thread thread_;
};

}  // namespace tiercel::service
