// SystemFileSystem: the operating system's files, read and written by io_uring or, where there is none, by threads.
//
// Finds out once, at construction, by making a ring and moving something through it; one log line says which it is and
// why. Safe from any thread. A lock is flock on the named file, with the holder's process id as its content.
#pragma once

#include "io/file_descriptor.h"
#include "io/file_system.h"

#include <string>

namespace tiercel {

enum class IoEngine : std::uint8_t {
  kAuto,     ///< io_uring where it works, else threads
  kThreads,  ///< threads even so
};

class SystemFileSystem final : public FileSystem {
 public:
  /// `held`: a descriptor that every ring keeps open until all that was given to it has ended, also where the process
  /// was killed before; so a lock on it tells whoever comes next that nothing is in flight any more. (Threads do not
  /// end before their operations, and the process' descriptors not before its threads.)
  explicit SystemFileSystem(IoEngine engine = IoEngine::kAuto, FileDescriptor held = {});

  /// "io_uring" or "threads".
  [[nodiscard]] const char* engine() const noexcept { return uring_ ? "io_uring" : "threads"; }
  /// Why it is threads; empty with io_uring.
  [[nodiscard]] const std::string& reason() const noexcept { return reason_; }

  [[nodiscard]] Result<std::unique_ptr<IoBackend>> open(const std::string& path, const OpenOptions& options) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  [[nodiscard]] Result<bool> exists(const std::string& path) override;
  [[nodiscard]] Result<std::unique_ptr<FileLock>> lock(const std::string& path) override;
  [[nodiscard]] Result<FreeSpace> space(const std::string& directory) override;

 private:
  bool uring_ = false;
  std::string reason_;
  const FileDescriptor held_;
};

}  // namespace tiercel
