// MemoryFileSystem: files by path in memory, for tests. Lives as long as the test; what has a file open keeps it.
//
// Every directory has to be made first. Files outlive backends, so that a second open finds what the first wrote; an
// open file that is removed or replaced lives on for those who have it open. Safe from any thread.
#pragma once

#include "base/mutex.h"
#include "io/file_system.h"
#include "io/memory_backend.h"

#include <map>
#include <memory>
#include <set>
#include <string>

namespace tiercel {

class MemoryFileSystem final : public FileSystem {
 public:
  /// `capacity_bytes`: of all files together.
  explicit MemoryFileSystem(std::uint64_t capacity_bytes = std::uint64_t{1} << 40U);

  void make_directory(const std::string& path);
  /// Writes beyond it fail with ENOSPC; files that are there stay.
  void set_capacity(std::uint64_t capacity_bytes);

  [[nodiscard]] Result<std::unique_ptr<IoBackend>> open(const std::string& path, const OpenOptions& options) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  [[nodiscard]] Result<bool> exists(const std::string& path) override;
  [[nodiscard]] Result<std::unique_ptr<FileLock>> lock(const std::string& path) override;
  [[nodiscard]] Result<FreeSpace> space(const std::string& directory) override;

 private:
  struct State;
  class Lock;
  std::shared_ptr<State> state_;  // shared with the locks, which may be given back later
};

}  // namespace tiercel
