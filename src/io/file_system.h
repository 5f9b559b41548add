// FileSystem: opens files by path. The system's own (system_file_system.h) chooses io_uring or threads; the simulator's
// keeps files in memory and decides what a crash leaves of them. Calls block. Safe from any thread.
#pragma once

#include "io/io_backend.h"

#include <tiercel/result.h>

#include <cstdint>
#include <memory>
#include <string>

namespace tiercel {

/// Holds the exclusive lock of a path until destroyed.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

struct OpenOptions {
  bool create = false;     ///< kNotFound without it where there is no such file
  bool exclusive = false;  ///< with create: an existing file is an error (kInvalidArgument)
  bool direct = true;      ///< O_DIRECT; where the filesystem has none, ordinary IO and one line in the log
  bool read_only = false;
  std::uint32_t depth = 64;
};

struct FreeSpace {
  std::uint64_t free_bytes = 0;  ///< for an ordinary user
  std::uint64_t total_bytes = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  [[nodiscard]] virtual Result<std::unique_ptr<IoBackend>> open(const std::string& path,
                                                                const OpenOptions& options) = 0;
  /// Replaces `to`; durable when it returns (the directory is synced).
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  virtual Status remove(const std::string& path) = 0;
  [[nodiscard]] virtual Result<bool> exists(const std::string& path) = 0;
  /// Takes the lock of `path` (made if missing) and writes this process's id into it. kLimit: another process has it;
  /// the sentence names its id.
  [[nodiscard]] virtual Result<std::unique_ptr<FileLock>> lock(const std::string& path) = 0;
  /// Of the filesystem that holds the directory. kNotFound: no such directory.
  [[nodiscard]] virtual Result<FreeSpace> space(const std::string& directory) = 0;
};

}  // namespace tiercel
