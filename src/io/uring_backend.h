// UringBackend: IoBackend by one io_uring, with the file registered, and registered buffers where the limits allow.
//
// Owns the file and the ring. start() only fills a place of the submission queue; reap() takes what lies in the ring
// without a system call, else submits all that was started, collects what has ended and waits in one, so a busy driver
// makes one call for many operations.
// wake() is an eventfd that the ring reads; it costs a system call only while reap() sleeps. Nothing may be in flight
// at destruction (checked: the kernel would go on writing into the buffers).
#pragma once

#include "io/io_backend.h"
#include "io/system_file.h"

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

namespace tiercel {

/// A ring that has shown that it works. Opaque, so that liburing stays inside one file.
class Uring;
struct UringDeleter {
  void operator()(Uring* ring) const noexcept;
};
using UringPointer = std::unique_ptr<Uring, UringDeleter>;

/// Room for `depth` operations and the wake. kUnsupported with a sentence where the kernel or the container has no
/// io_uring, or one without what is needed here (5.11).
[[nodiscard]] Result<UringPointer> make_uring(std::uint32_t depth);

class UringBackend final : public IoBackend {
 public:
  static constexpr std::size_t kMostRegions = 2048;

  /// `ring` was made for `depth`. `held` (-1: none): a descriptor that the ring keeps open too; see SystemFileSystem.
  UringBackend(SystemFile file, UringPointer ring, std::uint32_t depth, int held = -1);
  UringBackend(const UringBackend&) = delete;
  UringBackend& operator=(const UringBackend&) = delete;
  ~UringBackend() override;

  [[nodiscard]] bool start(const IoOperation& operation) override;
  [[nodiscard]] std::size_t reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) override;
  void wake() noexcept override;
  [[nodiscard]] std::uint32_t depth() const noexcept override { return depth_; }
  [[nodiscard]] std::uint32_t alignment() const noexcept override { return file_.alignment(); }
  [[nodiscard]] const char* name() const noexcept override { return "io_uring"; }
  /// Pins the memory (counts against RLIMIT_MEMLOCK), in regions of at most 1 GiB that may be cut further. Used for
  /// operations of one buffer; scattered ones go without. At most kMostRegions.
  Status register_memory(std::span<const struct iovec> memory) override;
  [[nodiscard]] Result<std::uint64_t> size() override { return file_.size(); }
  Status allocate(std::uint64_t bytes) override { return file_.allocate(bytes); }
  Status truncate(std::uint64_t bytes) override { return file_.truncate(bytes); }

 private:
  struct Registered {
    const std::byte* begin = nullptr;
    const std::byte* end = nullptr;
    int index = 0;  // in the kernel's table
  };

  [[nodiscard]] Status register_region(const struct iovec& region);
  [[nodiscard]] int registered_index(std::span<const struct iovec> buffers) const noexcept;
  [[nodiscard]] std::size_t drain(std::span<IoReaped> reaped);
  void arm_wake();
  void submit_and_wait(std::uint64_t wait_ns);

  const SystemFile file_;
  const std::uint32_t depth_;
  FileDescriptor wake_fd_;
  std::uint64_t wake_value_ = 0;  // where the kernel puts what the eventfd held
  bool wake_armed_ = false;
  bool file_registered_ = false;
  bool has_table_ = false;              // of registered memory
  std::vector<Registered> registered_;  // by address; the kernel's table is made with the first
  std::uint32_t in_flight_ = 0;
  // wake: woken_ = true, then looks at sleeping_. reap: sleeping_ = true, then looks at woken_. Both sequentially
  // consistent, so that one of them sees the other.
  std::atomic<bool> woken_{false};
  std::atomic<bool> sleeping_{false};
  UringPointer ring_;  // last: goes before what the kernel writes to
};

}  // namespace tiercel
