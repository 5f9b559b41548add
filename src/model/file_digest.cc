#include "model/file_digest.h"

#include "base/try.h"
#include "model/digest_cache.h"
#include "model/sha256.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <ctime>
#include <system_error>
#include <thread>
#include <vector>

namespace tiercel {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20U;
constexpr int kMostPasses = 3;

class OpenFile {
 public:
  // Non-blocking, so that a FIFO cannot hold the caller; on a regular file it means nothing.
  explicit OpenFile(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  int fd_;
};

tl::unexpected<Error> system_error(const std::string& path, int number) {
  return fail(number == ENOENT || number == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo,
              fmt::format("{}: {}", path, std::generic_category().message(number)), number);
}

Result<FileIdentity> look_at(int fd, const std::string& path) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return system_error(path, errno);
  if (!S_ISREG(status.st_mode)) {
    return fail(ErrorCode::kInvalidArgument, path + ": is not a regular file, which a digest needs");
  }
  return identity_of(status);
}

/// SHA-256 of the bytes from the start to the end of the file.
Result<BlockHash> read_and_hash(int fd, const std::string& path) {
  std::vector<std::byte> buffer(kBufferBytes);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  Sha256 sha;
  for (off_t offset = 0;;) {
    const ssize_t got = ::pread(fd, buffer.data(), buffer.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(path, errno);
    if (got == 0) return sha.finish();
    sha.raw(std::span(buffer).first(static_cast<std::size_t>(got)));
    offset += got;
  }
}

/// Will a write from now on be seen in the file's times? Not while the clock that stamps files (a coarse one: 1 to 10
/// ms a tick) still stands where it stood at the last change; filesystems that keep whole seconds need two of them.
/// Waits out a tick.
bool times_are_settled(const FileIdentity& file) {
  constexpr std::int64_t kSecondNs = 1'000'000'000;
  const std::int64_t settled_ns = file.changed_ns + (file.changed_ns % kSecondNs == 0 ? 2 * kSecondNs : 0);
  for (int i = 0; i < 25; ++i) {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (std::int64_t{now.tv_sec} * kSecondNs + now.tv_nsec > settled_ns) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
  }
  return false;
}

}  // namespace

Result<BlockHash> file_digest_observed(const std::string& path, const std::string& cache_directory,
                                       const std::function<void()>& after_pass) {
  const OpenFile file(path);
  if (file.fd() < 0) return system_error(path, errno);
  TIERCEL_TRY_ASSIGN(FileIdentity before, look_at(file.fd(), path));
  if (!cache_directory.empty()) {
    if (const auto kept = read_digest_cache(cache_directory, before)) return *kept;
  }
  for (int pass = 0; pass < kMostPasses; ++pass) {
    const bool keep = !cache_directory.empty() && times_are_settled(before);
    TIERCEL_TRY_ASSIGN(const BlockHash digest, read_and_hash(file.fd(), path));
    if (after_pass) after_pass();
    TIERCEL_TRY_ASSIGN(const FileIdentity after, look_at(file.fd(), path));
    if (after == before) {
      if (keep) write_digest_cache(cache_directory, before, digest);
      return digest;
    }
    before = after;
  }
  return fail(ErrorCode::kIo, fmt::format("{}: changed while it was read, {} times in a row", path, kMostPasses));
}

Result<BlockHash> file_digest(const std::string& path, const std::string& cache_directory) {
  return file_digest_observed(path, cache_directory, {});
}

}  // namespace tiercel
