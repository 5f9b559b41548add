// SystemFile: an open regular file of the system with what io_uring and threads have in common: opening with O_DIRECT
// where the filesystem has it, size, allocation, truncation. Owns the descriptor; move-only. One thread at a time.
#pragma once

#include "io/file_descriptor.h"
#include "io/file_system.h"

#include <tiercel/result.h>

#include <cstdint>
#include <string>

namespace tiercel {

class SystemFile {
 public:
  /// One log line where `direct` was wanted and the filesystem has none.
  [[nodiscard]] static Result<SystemFile> open(const std::string& path, const OpenOptions& options);

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] bool direct() const noexcept { return direct_; }
  /// A read is a copy by the CPU: the file lies in RAM, or is read through the page cache.
  [[nodiscard]] bool is_copied() const noexcept { return in_memory_ || !direct_; }
  [[nodiscard]] std::uint32_t alignment() const noexcept { return direct_ ? 4096 : 1; }

  [[nodiscard]] Result<std::uint64_t> size() const;
  /// By fallocate; where the filesystem has none, by writing zeros behind the end. After an error the file is as long
  /// as before.
  [[nodiscard]] Status allocate(std::uint64_t bytes) const;
  [[nodiscard]] Status truncate(std::uint64_t bytes) const;

 private:
  SystemFile(FileDescriptor fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  void set_direct();
  [[nodiscard]] Status write_zeros(std::uint64_t begin, std::uint64_t end) const;

  FileDescriptor fd_;
  std::string path_;
  bool direct_ = false;
  bool in_memory_ = false;
};

/// kNotFound, kInvalidArgument (it exists already) or kIo, with "WHAT: why".
[[nodiscard]] tl::unexpected<Error> system_error(const std::string& what, int error);

}  // namespace tiercel
