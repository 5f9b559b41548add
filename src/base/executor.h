// Executor: where the core's asynchronous steps run. The core creates no thread; it is given one of these.
//
// submit() never blocks: false means that the queue is full (back-pressure) or the executor is stopped, and the task
// was not taken. Tasks do not throw. wait_until() returns when `ready` says so or the deadline of the executor's clock
// has passed; the threaded executor sleeps meanwhile, the manual one runs its own tasks, so the same code waits in
// both. Whoever makes a condition true calls wake() afterwards.
#pragma once

#include "base/bounded_queue.h"
#include "base/clock.h"
#include "base/mutex.h"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace tiercel {

using Task = std::function<void()>;

class Executor {
 public:
  virtual ~Executor() = default;
  [[nodiscard]] virtual bool submit(Task task) = 0;
  /// True if `ready()` was seen true. `ready` is called without a lock of the executor, from the waiting thread.
  virtual bool wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns) = 0;
  virtual void wake() noexcept = 0;
  /// How many tasks can make progress at once (at least 1).
  [[nodiscard]] virtual std::size_t concurrency() const noexcept = 0;
};

/// Worker threads named `name`-0, `name`-1, ... Safe from any thread. The destructor runs what is queued, then joins.
/// The constructor throws std::system_error where the system gives no more threads.
class ThreadedExecutor final : public Executor {
 public:
  struct Options {
    std::string name = "tiercel";
    std::size_t threads = 1;
    std::size_t queue_capacity = 4096;
  };
  ThreadedExecutor(const Options& options, const Clock& clock);
  ~ThreadedExecutor() override;

  [[nodiscard]] bool submit(Task task) override;
  bool wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns) override;
  void wake() noexcept override;
  [[nodiscard]] std::size_t concurrency() const noexcept override { return threads_.size(); }

 private:
  void work();
  void stop() noexcept;

  const Clock& clock_;
  Mutex mutex_;
  BoundedQueue<Task> queue_ TIERCEL_GUARDED_BY(mutex_);
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::uint64_t wakes_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::size_t waiters_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::condition_variable work_;
  std::condition_variable woken_;
  std::vector<std::thread> threads_;
};

/// Runs tasks only when told, on the calling thread, in order or picked by the caller: the simulator's executor.
class ManualExecutor final : public Executor {
 public:
  explicit ManualExecutor(const Clock& clock, std::size_t queue_capacity = 4096)
      : clock_(clock), capacity_(queue_capacity) {
    tasks_.reserve(capacity_);  // submit does not allocate
  }
  ~ManualExecutor() override;

  [[nodiscard]] bool submit(Task task) override;
  /// Runs tasks until `ready`. With none left: false if the deadline has passed or nothing could ever change it.
  bool wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns) override;
  void wake() noexcept override {}
  [[nodiscard]] std::size_t concurrency() const noexcept override { return 1; }

  [[nodiscard]] std::size_t queued() const noexcept { return tasks_.size(); }
  /// Runs queued task `i` (0 = oldest). False if there is none.
  bool run(std::size_t i = 0);
  std::size_t run_all();

 private:
  const Clock& clock_;
  std::size_t capacity_;
  std::vector<Task> tasks_;
};

}  // namespace tiercel
