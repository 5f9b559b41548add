// MemoryFile and MemoryBackend: a file in memory and an IoBackend that has it open, for tests. It forgets nothing and
// loses nothing: crashes are the simulator's.
//
// MemoryFile is shared by all that have it open and is safe from any thread; only pages that were written take memory.
// MemoryBackend moves bytes within start() and hands out completions in order.
#pragma once

#include "base/mutex.h"
#include "io/completion_queue.h"
#include "io/io_backend.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <unordered_map>

namespace tiercel {

/// The bytes that the files of one filesystem may have together.
struct MemoryCapacity {
  std::atomic<std::uint64_t> total_bytes{UINT64_MAX};  // set by the test; nothing is ordered by it
  std::atomic<std::uint64_t> used_bytes{0};            // changed under the lock of some file; nothing is ordered by it
};

class MemoryFile {
 public:
  explicit MemoryFile(std::shared_ptr<MemoryCapacity> capacity = std::make_shared<MemoryCapacity>());
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile();

  /// Bytes moved, fewer at the end of the file or where the capacity ends; or -ENOSPC.
  [[nodiscard]] std::int64_t read(std::uint64_t offset, std::span<const struct iovec> buffers);
  [[nodiscard]] std::int64_t write(std::uint64_t offset, std::span<const struct iovec> buffers);
  [[nodiscard]] std::uint64_t size();
  /// Grows or shrinks. 0 or -ENOSPC.
  [[nodiscard]] std::int64_t resize(std::uint64_t bytes);

 private:
  static constexpr std::uint64_t kPageBytes = 65536;
  using Page = std::array<std::byte, kPageBytes>;

  [[nodiscard]] std::uint64_t grow_to(std::uint64_t bytes) TIERCEL_REQUIRES(mutex_);

  Mutex mutex_;
  const std::shared_ptr<MemoryCapacity> capacity_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Page>> pages_ TIERCEL_GUARDED_BY(mutex_);
  std::uint64_t bytes_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

struct MemoryBackendOptions {
  std::uint32_t depth = 64;
  std::uint32_t alignment = 4096;  ///< what does not keep to it is answered with -EINVAL
  bool read_only = false;          ///< writes: -EBADF
};

class MemoryBackend final : public IoBackend {
 public:
  explicit MemoryBackend(std::shared_ptr<MemoryFile> file, const MemoryBackendOptions& options = {});

  [[nodiscard]] bool start(const IoOperation& operation) override;
  [[nodiscard]] std::size_t reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) override;
  void wake() noexcept override { ended_.wake(); }
  [[nodiscard]] std::uint32_t depth() const noexcept override { return options_.depth; }
  [[nodiscard]] std::uint32_t alignment() const noexcept override { return options_.alignment; }
  [[nodiscard]] const char* name() const noexcept override { return "memory"; }
  Status register_memory(std::span<const struct iovec> memory) override;
  [[nodiscard]] Result<std::uint64_t> size() override;
  Status allocate(std::uint64_t bytes) override;
  Status truncate(std::uint64_t bytes) override;

 private:
  [[nodiscard]] std::int64_t move(const IoOperation& operation);

  const std::shared_ptr<MemoryFile> file_;
  const MemoryBackendOptions options_;
  std::uint32_t in_flight_ = 0;
  CompletionQueue ended_;
};

}  // namespace tiercel
