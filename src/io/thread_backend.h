// ThreadBackend: IoBackend by preadv, pwritev and fdatasync on a few threads, for systems without io_uring.
//
// Owns the file and the threads ("tiercel-io"). Per operation: one system call, one hand-over each way. Destruction
// waits for what a thread is at.
#pragma once

#include "base/mutex.h"
#include "io/completion_queue.h"
#include "io/io_backend.h"
#include "io/system_file.h"

#include <condition_variable>
#include <thread>
#include <vector>

namespace tiercel {

class ThreadBackend final : public IoBackend {
 public:
  static constexpr std::uint32_t kThreads = 8;

  ThreadBackend(SystemFile file, std::uint32_t depth);
  ThreadBackend(const ThreadBackend&) = delete;
  ThreadBackend& operator=(const ThreadBackend&) = delete;
  ~ThreadBackend() override;

  [[nodiscard]] bool start(const IoOperation& operation) override;
  [[nodiscard]] std::size_t reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) override;
  void wake() noexcept override { ended_.wake(); }
  [[nodiscard]] std::uint32_t depth() const noexcept override { return depth_; }
  [[nodiscard]] std::uint32_t alignment() const noexcept override { return file_.alignment(); }
  [[nodiscard]] const char* name() const noexcept override { return "threads"; }
  Status register_memory(std::span<const struct iovec> memory) override;
  [[nodiscard]] Result<std::uint64_t> size() override { return file_.size(); }
  Status allocate(std::uint64_t bytes) override { return file_.allocate(bytes); }
  Status truncate(std::uint64_t bytes) override { return file_.truncate(bytes); }

 private:
  void work();
  [[nodiscard]] std::int64_t move(const IoOperation& operation) const;

  const SystemFile file_;
  const std::uint32_t depth_;
  std::uint32_t in_flight_ = 0;  // of the thread that starts and reaps
  CompletionQueue ended_;

  Mutex mutex_;
  std::condition_variable started_;
  std::vector<IoOperation> queue_ TIERCEL_GUARDED_BY(mutex_);  // a ring
  std::size_t first_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::size_t count_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace tiercel
