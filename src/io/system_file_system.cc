#include "io/system_file_system.h"

#include "base/log.h"
#include "base/try.h"
#include "io/system_file.h"
#include "io/system_file_lock.h"
#include "io/thread_backend.h"
#include "io/uring_backend.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

namespace tiercel {
namespace {

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// A rename is durable when the directories that it changed are.
Status sync_directory(const std::string& directory) {
  const FileDescriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || fsync(fd.get()) != 0) return system_error(directory, errno);
  return {};
}

}  // namespace

SystemFileSystem::SystemFileSystem(IoEngine engine, FileDescriptor held) : held_(std::move(held)) {
  constexpr std::uint32_t kTrialDepth = 1;
  if (engine == IoEngine::kThreads) {
    reason_ = "configured";
  } else if (const Result<UringPointer> trial = make_uring(kTrialDepth); trial) {
    uring_ = true;
  } else {
    reason_ = trial.error().message;
  }
  log_line(LogLevel::kInfo, "io_engine",
           uring_ ? "disk IO by io_uring: a trial ring works"
                  : fmt::format("disk IO by {} threads a file: {}", ThreadBackend::kThreads, reason_));
}

Result<std::unique_ptr<IoBackend>> SystemFileSystem::open(const std::string& path, const OpenOptions& options) {
  if (options.depth == 0) return fail(ErrorCode::kInvalidArgument, path + ": a depth of 0; at least 1 is needed");
  TIERCEL_TRY_ASSIGN(SystemFile file, SystemFile::open(path, options));
  if (uring_) {
    Result<UringPointer> ring = make_uring(options.depth);
    if (ring) return std::make_unique<UringBackend>(std::move(file), std::move(*ring), options.depth, held_.get());
    log_line(LogLevel::kWarn, "io_uring_failed", fmt::format("{}: IO by threads: {}", path, ring.error().message));
  }
  return std::make_unique<ThreadBackend>(std::move(file), options.depth);
}

Status SystemFileSystem::rename(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) return system_error(fmt::format("{} to {}", from, to), errno);
  TIERCEL_TRY(sync_directory(directory_of(to)));
  if (directory_of(from) != directory_of(to)) TIERCEL_TRY(sync_directory(directory_of(from)));
  return {};
}

Status SystemFileSystem::remove(const std::string& path) {
  if (unlink(path.c_str()) != 0) return system_error(path, errno);
  return {};
}

Result<bool> SystemFileSystem::exists(const std::string& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  return system_error(path, errno);
}

Result<std::unique_ptr<FileLock>> SystemFileSystem::lock(const std::string& path) { return lock_system_file(path); }

Result<FreeSpace> SystemFileSystem::space(const std::string& directory) {
  struct statvfs status{};
  if (statvfs(directory.c_str(), &status) != 0) return system_error(directory, errno);
  return FreeSpace{.free_bytes = std::uint64_t{status.f_bavail} * status.f_frsize,
                   .total_bytes = std::uint64_t{status.f_blocks} * status.f_frsize};
}

}  // namespace tiercel
