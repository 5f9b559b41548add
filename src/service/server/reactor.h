// Reactor: one thread that waits for descriptors (epoll), for time and for tasks of other threads, and serves them.
//
// post() and wake() are safe from any thread; everything else is the thread's own, or the owner's before start(). A
// handler may unwatch any descriptor, its own too, while it runs. stop() ends the thread after the tasks that are
// queued; the handlers are gone before their descriptors are.
#pragma once

#include "base/clock.h"
#include "base/mutex.h"
#include "io/file_descriptor.h"

#include <tiercel/result.h>

#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace tiercel::service {

class Reactor {
 public:
  /// `events`: epoll's EPOLLIN, EPOLLOUT, ...
  using Handler = std::function<void(std::uint32_t events)>;

  /// kIo: no more descriptors.
  [[nodiscard]] static Result<std::unique_ptr<Reactor>> create(std::string name, const Clock& clock);
  ~Reactor();

  /// `on_turn` runs in the thread after each round of events, and answers when it wants to run again at the latest
  /// (UINT64_MAX: when something happens). Throws std::system_error where there is no thread.
  void start(std::function<std::uint64_t()> on_turn);
  void stop() noexcept;

  void post(std::function<void()> task);
  void wake() noexcept;

  [[nodiscard]] Status watch(int fd, std::uint32_t events, Handler handler);
  void change(int fd, std::uint32_t events) noexcept;
  void unwatch(int fd) noexcept;

 private:
  explicit Reactor(std::string name, const Clock& clock) : name_(std::move(name)), clock_(clock) {}
  void run() noexcept;
  void run_tasks();

  const std::string name_;
  const Clock& clock_;
  FileDescriptor epoll_;
  FileDescriptor wake_;
  std::unordered_map<int, std::shared_ptr<Handler>> handlers_;
  std::function<std::uint64_t()> on_turn_;
  std::thread thread_;
  Mutex mutex_;  // a leaf
  std::vector<std::function<void()>> tasks_ TIERCEL_GUARDED_BY(mutex_);
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;
};

}  // namespace tiercel::service
