// MemoryRegistration: registers the memory that blocks lie in (DiskOptions::memory) with the backend of an opened file,
// a piece at a time beside serving.
//
// Pinning a piece holds the driver for some ms, so it begins when the pages are there, and takes a tenth of the time at
// most. What the system refuses (the memlock limit, an old kernel, threads in place of io_uring) stays unregistered,
// with one line in the log, until another file is opened: IO goes on without. The driver's thread only.
#pragma once

#include "base/clock.h"
#include "io/io_backend.h"
#include "tier/disk/disk_tier.h"

#include <cstddef>
#include <cstdint>

namespace tiercel::disk {

class MemoryRegistration {
 public:
  MemoryRegistration(const DiskOptions& options, const Clock& clock);

  /// Another file: its backend has nothing registered.
  void reset() noexcept;
  /// Registers the next piece, if it is time for one.
  void step(IoBackend& backend);
  /// When step() has something to do; UINT64_MAX: nothing, or the memory is not ready, which only a look can tell.
  [[nodiscard]] std::uint64_t next_event() const noexcept { return ended_ || !begun_ ? UINT64_MAX : next_ns_; }

  [[nodiscard]] std::uint64_t registered_bytes() const noexcept { return registered_bytes_; }

 private:
  [[nodiscard]] struct iovec next_piece() const noexcept;

  const DiskOptions& options_;
  const Clock& clock_;
  std::uint64_t piece_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
  std::size_t region_ = 0;  // of options_.memory: where the next piece lies
  std::uint64_t offset_ = 0;
  std::uint64_t registered_bytes_ = 0;
  std::uint64_t next_ns_ = 0;
  bool begun_ = false;
  bool ended_ = false;
};

}  // namespace tiercel::disk
