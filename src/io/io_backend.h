// IoBackend: how bytes of one open file are read and written: io_uring, threads with preadv, or memory. File (file.h)
// puts deadlines, continued short transfers and ownership of buffers on top, the same for all of them.
//
// Used by one thread at a time, but for wake().
// Decorators (faulty, delayed, counting) wrap a backend and are one. Offsets, buffers and lengths are multiples of
// alignment(); others are answered with -EINVAL or done, as the system likes. Operations are named by the caller: an id
// below depth() that is not in flight. A thread that started operations must not end before they have, and nothing may
// be in flight at destruction.
#pragma once

#include <tiercel/result.h>

#include <sys/uio.h>

#include <cstdint>
#include <span>

namespace tiercel {

enum class IoKind : std::uint8_t {
  kRead = 0,
  kWrite = 1,
  kSync = 2,  ///< what was written before and has completed is durable when this completes; no buffers
};

struct IoOperation {
  std::uint32_t id = 0;
  IoKind kind = IoKind::kRead;
  std::uint64_t offset = 0;                 ///< bytes from the start of the file
  std::span<const struct iovec> buffers{};  ///< stay as they are until the operation is reaped
};

struct IoReaped {
  std::uint32_t id = 0;
  std::int64_t result = 0;  ///< bytes moved (may be fewer than asked for; 0 of a read: the file ends), or -errno
};

class IoBackend {
 public:
  virtual ~IoBackend() = default;

  /// Starts an operation; never blocks. It may reach the device with the next reap() only, so that several share one
  /// system call. False: no room now (fewer than depth() are possible at the moment).
  [[nodiscard]] virtual bool start(const IoOperation& operation) = 0;
  /// Operations that have ended, at most reaped.size(). Waits until there is one, wake() was called, or `wait_ns` have
  /// passed; 0 does not wait.
  [[nodiscard]] virtual std::size_t reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) = 0;
  /// Ends a waiting reap, or the next one. From any thread.
  virtual void wake() noexcept = 0;

  /// Operations that may be in flight.
  [[nodiscard]] virtual std::uint32_t depth() const noexcept = 0;
  /// 4096 with O_DIRECT, else 1.
  [[nodiscard]] virtual std::uint32_t alignment() const noexcept = 0;
  /// "io_uring", "threads", "memory".
  [[nodiscard]] virtual const char* name() const noexcept = 0;
  /// Registers more of the memory that buffers lie in, for faster transfers where the system allows it: at once for all
  /// that starts later, beside what is in flight. Blocks while its pages are provided and pinned (a GiB that is there
  /// already: tens of ms). A buffer inside one region uses it; what lies across two, or in none, goes on without. Ends
  /// with the backend: the memory must outlive that. Error: this region and those after it are not registered.
  virtual Status register_memory(std::span<const struct iovec> memory) = 0;

  // Control calls: they block, and are for whoever opens the file.
  [[nodiscard]] virtual Result<std::uint64_t> size() = 0;
  /// Makes the file `bytes` long, with blocks allocated for all of it (the new part reads as zeros). Never shrinks.
  virtual Status allocate(std::uint64_t bytes) = 0;
  virtual Status truncate(std::uint64_t bytes) = 0;
};

}  // namespace tiercel
