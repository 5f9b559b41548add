#include "io/system_file_lock.h"

#include "io/file_descriptor.h"
#include "io/system_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

namespace tiercel {
namespace {

class SystemFileLock final : public FileLock {
 public:
  explicit SystemFileLock(FileDescriptor fd) : fd_(std::move(fd)) {}
  SystemFileLock(const SystemFileLock&) = delete;
  SystemFileLock& operator=(const SystemFileLock&) = delete;
  /// The file is not removed: a process that waits at its old inode would hold a lock that nobody else sees.
  ~SystemFileLock() override { (void)!ftruncate(fd_.get(), 0); }

 private:
  FileDescriptor fd_;
};

/// The process id in a lock file, or 0.
int holder(int fd) {
  std::array<char, 32> text{};
  const ssize_t bytes = pread(fd, text.data(), text.size(), 0);
  int pid = 0;
  if (bytes > 0) (void)std::from_chars(text.data(), text.data() + bytes, pid);
  return pid;
}

/// Whether the path still names the file that was locked.
bool is_file_of_path(int fd, const std::string& path) {
  struct stat locked{};
  struct stat named{};
  return fstat(fd, &locked) == 0 && stat(path.c_str(), &named) == 0 && locked.st_dev == named.st_dev &&
         locked.st_ino == named.st_ino;
}

int flock_now(int fd) {
  int result = 0;
  do {
    result = flock(fd, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

}  // namespace

Result<std::unique_ptr<FileLock>> lock_system_file(const std::string& path) {
  constexpr int kAttempts = 8;  // each ends with somebody else having replaced the file
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd) return system_error(path, errno);
    const int error = flock_now(fd.get());
    if (error == EWOULDBLOCK) {
      const int pid = holder(fd.get());
      const std::string who = pid > 0 ? fmt::format("process {}", pid) : "another process";
      return fail(ErrorCode::kLimit, fmt::format("{} is locked by {}", path, who), error);
    }
    if (error != 0) return system_error(path + ": flock", error);
    if (!is_file_of_path(fd.get(), path)) continue;
    const std::string pid = fmt::format("{}\n", getpid());
    if (ftruncate(fd.get(), 0) != 0 || pwrite(fd.get(), pid.data(), pid.size(), 0) != std::ssize(pid)) {
      return system_error(path, errno);
    }
    return std::make_unique<SystemFileLock>(std::move(fd));
  }
  return fail(ErrorCode::kIo, path + ": the lock file is replaced again and again");
}

}  // namespace tiercel
