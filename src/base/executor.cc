#include "base/executor.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>

namespace tiercel {

ThreadedExecutor::ThreadedExecutor(const Options& options, const Clock& clock)
    : clock_(clock), queue_(options.queue_capacity) {
  const std::size_t count = std::max<std::size_t>(1, options.threads);
  threads_.reserve(count);
  try {
    for (std::size_t i = 0; i < count; ++i) {
      threads_.emplace_back([this] { work(); });
      const std::string name = (options.name + "-" + std::to_string(i)).substr(0, 15);  // the kernel's limit
      pthread_setname_np(threads_.back().native_handle(), name.c_str());
    }
  } catch (...) {
    stop();  // a thread that is destroyed before it was joined ends the process
    throw;
  }
}

ThreadedExecutor::~ThreadedExecutor() { stop(); }

void ThreadedExecutor::stop() noexcept {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool ThreadedExecutor::submit(Task task) {
  {
    MutexLock lock(mutex_);
    if (stopping_ || !queue_.push(std::move(task))) return false;
  }
  work_.notify_one();
  return true;
}

void ThreadedExecutor::work() {
  MutexLock lock(mutex_);
  for (;;) {
    while (queue_.empty() && !stopping_) work_.wait(lock.native());
    if (queue_.empty()) return;
    Task task = queue_.pop();
    lock.unlock();
    task();
    task = nullptr;  // what the task owns goes before the lock is taken again
    lock.lock();
  }
}

bool ThreadedExecutor::wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns) {
  MutexLock lock(mutex_);
  ++waiters_;
  for (;;) {
    const std::uint64_t seen = wakes_;
    lock.unlock();
    const bool done = ready();
    const std::uint64_t now = clock_.now_ns();
    lock.lock();
    if (done || now >= deadline_ns) {
      --waiters_;
      return done;
    }
    if (seen != wakes_) continue;
    const std::uint64_t wait_ns = std::min<std::uint64_t>(deadline_ns - now, 3'600'000'000'000U);
    woken_.wait_for(lock.native(), std::chrono::nanoseconds(wait_ns));
  }
}

void ThreadedExecutor::wake() noexcept {
  {
    MutexLock lock(mutex_);
    if (waiters_ == 0) return;
    ++wakes_;
  }
  woken_.notify_all();
}

ManualExecutor::~ManualExecutor() { run_all(); }

bool ManualExecutor::submit(Task task) {
  if (tasks_.size() >= capacity_) return false;
  tasks_.push_back(std::move(task));
  return true;
}

bool ManualExecutor::wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns) {
  while (!ready()) {
    if (clock_.now_ns() >= deadline_ns || !run()) return false;
  }
  return true;
}

bool ManualExecutor::run(std::size_t i) {
  if (i >= tasks_.size()) return false;
  Task task = std::move(tasks_[i]);
  tasks_.erase(tasks_.begin() + static_cast<std::ptrdiff_t>(i));
  task();
  return true;
}

std::size_t ManualExecutor::run_all() {
  std::size_t count = 0;
  while (run()) ++count;
  return count;
}

}  // namespace tiercel
