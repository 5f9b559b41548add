#include "service/server/slow_lane.h"

#include "base/log.h"

#include <pthread.h>

#include <new>
#include <utility>

namespace tiercel::service {

void SlowLane::start() {
  thread_ = std::thread([this] {
    (void)pthread_setname_np(pthread_self(), "tiercel-slow");
    run();
  });
}

void SlowLane::stop() noexcept {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  woken_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool SlowLane::submit(std::function<void()> work) {
  {
    const MutexLock lock(mutex_);
    if (stopping_ || !queue_.push(std::move(work))) return false;
  }
  woken_.notify_one();
  return true;
}

void SlowLane::run() {
  MutexLock lock(mutex_);
  for (;;) {
    while (queue_.empty() && !stopping_) woken_.wait(lock.native());
    if (stopping_) return;
    const auto work = queue_.pop();
    lock.unlock();
    try {
      work();
    } catch (const std::bad_alloc&) {
      log_line(LogLevel::kError, "service_memory", "the service has no memory for a delete; its caller waits in vain");
    }
    lock.lock();
  }
}

}  // namespace tiercel::service
