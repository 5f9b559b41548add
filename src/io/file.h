// File: asynchronous reads and writes of one open file, with deadlines, by one thread.
//
// Data path of a job: submit() puts it into a free place of a fixed table (no allocation) and starts it in the backend;
// poll() reaps, goes on with short transfers, and calls `done`. A deadline ends the wait, not the IO: `done` is then
// called with kTimeout, while `owner` (what keeps the buffers) lives until the backend has reaped the operation.
// Submit, poll and destruction belong to one thread at a time; wake() to any. Errors: kIo with errno and a sentence (a
// read past the end of the file: errno 0), kTimeout, kInvalidArgument for a job without bytes or off the alignment.
#pragma once

#include "base/clock.h"
#include "io/io_backend.h"

#include <tiercel/result.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace tiercel {

struct IoSegment {
  std::byte* data = nullptr;
  std::uint64_t bytes = 0;
};

struct IoJob {
  static constexpr std::size_t kMaxSegments = 16;

  IoKind kind = IoKind::kRead;
  std::uint64_t offset = 0;
  std::array<IoSegment, kMaxSegments> segments{};  ///< one after the other in the file
  std::size_t segment_count = 0;
  std::uint64_t deadline_ns = UINT64_MAX;  ///< of the clock that the File has
  /// Called exactly once, from poll(): when the operation has ended, or with kTimeout at the deadline if that is
  /// sooner. May submit.
  std::function<void(const Status&)> done;
  /// Destroyed when the operation has really ended; with `done` where there was no timeout, after it.
  std::shared_ptr<void> owner;

  [[nodiscard]] std::uint64_t bytes() const noexcept {
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < segment_count && i < kMaxSegments; ++i) total += segments[i].bytes;
    return total;
  }
};

class File {
 public:
  File(std::unique_ptr<IoBackend> backend, const Clock& clock);
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  /// Nothing may be in flight (checked): a File whose device hangs is kept by whoever owns its buffers.
  ~File();

  /// False: depth() operations are in flight; the job is untouched. Never blocks.
  [[nodiscard]] bool submit(IoJob&& job);
  /// Ends what has ended, expires what is late; waits at most `wait_ns` for the first. Returns how often `done` ran;
  /// 0 also when wake() ended the wait or an operation went on after a short transfer. Not from within `done`.
  std::size_t poll(std::uint64_t wait_ns);
  void wake() noexcept { backend_->wake(); }
  /// The thread was busy elsewhere and polled nothing for `ns`: what is in flight has so much longer, because a
  /// deadline measures the device. What has expired stays so.
  void excuse(std::uint64_t ns) noexcept;

  /// Runs one job to its end or deadline, polling meanwhile (`done` of other jobs runs too). For opening and recovery.
  /// The job's own `done` stays empty; the owner of the buffers must be in the job: after a timeout they are still in
  /// use. A wake() that came meanwhile is not lost: the next poll does not wait.
  [[nodiscard]] Status run(IoJob job);

  [[nodiscard]] std::uint32_t depth() const noexcept { return backend_->depth(); }
  /// Operations that have not ended, expired ones included.
  [[nodiscard]] std::uint32_t in_flight() const noexcept { return in_flight_; }
  /// Those whose deadline has passed, and their bytes: what waits in quarantine.
  [[nodiscard]] std::uint32_t expired() const noexcept { return expired_; }
  [[nodiscard]] std::uint64_t expired_bytes() const noexcept { return expired_bytes_; }
  [[nodiscard]] IoBackend& backend() noexcept { return *backend_; }

 private:
  struct Operation;
  [[nodiscard]] Status check_job(const IoJob& job) const;
  [[nodiscard]] bool start(Operation& operation);
  std::size_t start_waiting();
  std::size_t take(const IoReaped& reaped);
  std::size_t go_on(Operation& operation);
  std::size_t expire();
  void end(Operation& operation, const Status& status);
  void release(Operation& operation);
  [[nodiscard]] std::uint32_t id_of(const Operation& operation) const noexcept;
  [[nodiscard]] std::uint64_t until(std::uint64_t deadline_ns) const noexcept;

  std::unique_ptr<IoBackend> backend_;
  const Clock& clock_;
  std::vector<Operation> operations_;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> waiting_;           ///< to be started (again), oldest first
  std::uint64_t next_deadline_ns_ = UINT64_MAX;  ///< none of those in flight is earlier
  bool polling_ = false;
  std::uint32_t in_flight_ = 0;
  std::uint32_t expired_ = 0;
  std::uint64_t expired_bytes_ = 0;
};

}  // namespace tiercel
