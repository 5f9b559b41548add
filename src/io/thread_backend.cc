#include "io/thread_backend.h"

#include <pthread.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace tiercel {

ThreadBackend::ThreadBackend(SystemFile file, std::uint32_t depth)
    : file_(std::move(file)), depth_(depth), ended_(depth), queue_(depth) {
  for (std::uint32_t i = 0; i < std::min(depth, kThreads); ++i) {
    threads_.emplace_back([this] {
      (void)pthread_setname_np(pthread_self(), "tiercel-io");
      work();
    });
  }
}

ThreadBackend::~ThreadBackend() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  started_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool ThreadBackend::start(const IoOperation& operation) {
  if (in_flight_ == depth_) return false;
  ++in_flight_;
  {
    const MutexLock lock(mutex_);
    queue_[(first_ + count_) % queue_.size()] = operation;
    ++count_;
  }
  started_.notify_one();
  return true;
}

std::size_t ThreadBackend::reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) {
  const std::size_t count = ended_.pop(reaped, wait_ns);
  in_flight_ -= static_cast<std::uint32_t>(count);
  return count;
}

Status ThreadBackend::register_memory(std::span<const struct iovec> /*memory*/) {
  return fail(ErrorCode::kUnsupported, "registered buffers need io_uring");
}

void ThreadBackend::work() {
  while (true) {
    IoOperation operation;
    {
      MutexLock lock(mutex_);
      while (count_ == 0 && !stopping_) started_.wait(lock.native());
      if (count_ == 0) return;
      operation = queue_[first_];
      first_ = (first_ + 1) % queue_.size();
      --count_;
    }
    ended_.push({.id = operation.id, .result = move(operation)});
  }
}

std::int64_t ThreadBackend::move(const IoOperation& operation) const {
  const auto count = static_cast<int>(operation.buffers.size());
  const auto offset = static_cast<off_t>(operation.offset);
  std::int64_t result = 0;
  switch (operation.kind) {
    case IoKind::kRead:
      result = preadv(file_.fd(), operation.buffers.data(), count, offset);
      break;
    case IoKind::kWrite:
      result = pwritev(file_.fd(), operation.buffers.data(), count, offset);
      break;
    case IoKind::kSync:
      result = fdatasync(file_.fd());
      break;
  }
  return result < 0 ? -errno : result;
}

}  // namespace tiercel
