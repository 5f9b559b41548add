#include "service/server/reactor.h"

#include "base/check.h"
#include "base/log.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace tiercel::service {
namespace {

void log_no_memory() {
  log_line(LogLevel::kError, "service_memory", "the service has no memory for what a client asks");
}

}  // namespace

Result<std::unique_ptr<Reactor>> Reactor::create(std::string name, const Clock& clock) {
  std::unique_ptr<Reactor> reactor(new Reactor(std::move(name), clock));
  reactor->epoll_ = FileDescriptor(epoll_create1(EPOLL_CLOEXEC));
  reactor->wake_ = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_event event{.events = EPOLLIN, .data = {.fd = reactor->wake_.get()}};
  if (!reactor->epoll_ || !reactor->wake_ ||
      epoll_ctl(reactor->epoll_.get(), EPOLL_CTL_ADD, reactor->wake_.get(), &event) != 0) {
    return fail(ErrorCode::kIo, fmt::format("epoll for the service: {}", strerror(errno)), errno);
  }
  return reactor;
}

Reactor::~Reactor() { stop(); }

void Reactor::start(std::function<std::uint64_t()> on_turn) {
  on_turn_ = std::move(on_turn);
  thread_ = std::thread([this] {
    (void)pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
    run();
  });
}

void Reactor::stop() noexcept {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake();
  if (thread_.joinable()) thread_.join();
}

void Reactor::post(std::function<void()> task) {
  {
    const MutexLock lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  wake();
}

void Reactor::wake() noexcept {
  const std::uint64_t one = 1;
  (void)!write(wake_.get(), &one, sizeof(one));  // full: it is awake already
}

Status Reactor::watch(int fd, std::uint32_t events, Handler handler) {
  epoll_event event{.events = events, .data = {.fd = fd}};
  auto shared = std::make_shared<Handler>(std::move(handler));
  handlers_.insert_or_assign(fd, std::move(shared));
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return {};
  const int error = errno;
  handlers_.erase(fd);
  return fail(ErrorCode::kIo, fmt::format("epoll: {}", strerror(error)), error);
}

void Reactor::change(int fd, std::uint32_t events) noexcept {
  epoll_event event{.events = events, .data = {.fd = fd}};
  TIERCEL_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) == 0, "a watched descriptor can be changed");
}

void Reactor::unwatch(int fd) noexcept {
  if (handlers_.erase(fd) > 0) (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void Reactor::run_tasks() {
  std::vector<std::function<void()>> tasks;
  {
    const MutexLock lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const auto& task : tasks) {
    try {
      task();
    } catch (const std::bad_alloc&) {  // the others are other connections'
      log_no_memory();
    }
  }
}

void Reactor::run() noexcept {
  std::array<epoll_event, 64> events{};
  std::uint64_t next_ns = UINT64_MAX;
  for (;;) {
    const std::uint64_t now = clock_.now_ns();
    int timeout = -1;
    if (next_ns != UINT64_MAX) {  // rounded up: not before it is time
      timeout = next_ns <= now ? 0 : static_cast<int>(std::min<std::uint64_t>((next_ns - now) / 1'000'000 + 1, 60'000));
    }
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout);
    TIERCEL_CHECK(count >= 0 || errno == EINTR, "epoll_wait of our own descriptor");
    try {
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd == wake_.get()) {
          std::uint64_t drained = 0;
          (void)!read(fd, &drained, sizeof(drained));
          continue;
        }
        const auto found = handlers_.find(fd);  // it may have been unwatched by a handler before it in this round
        if (found == handlers_.end()) continue;
        const std::shared_ptr<Handler> handler = found->second;
        (*handler)(events[static_cast<std::size_t>(i)].events);
      }
      run_tasks();
      next_ns = on_turn_();
    } catch (const std::bad_alloc&) {
      log_no_memory();
      next_ns = clock_.now_ns() + 10'000'000;
    }
    const MutexLock lock(mutex_);
    if (stopping_ && tasks_.empty()) return;
  }
}

}  // namespace tiercel::service
