#include "io/system_file.h"

#include "base/log.h"
#include "base/try.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <system_error>

namespace tiercel {
namespace {

constexpr std::uint64_t kPageBytes = 4096;

/// What O_DIRECT asks of offsets and buffers, as far as the kernel tells (6.1 and later); 0: it has none for this file.
std::uint64_t direct_alignment(int fd) {
#ifdef STATX_DIOALIGN
  struct statx status{};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 && (status.stx_mask & STATX_DIOALIGN) != 0) {
    return std::max(status.stx_dio_offset_align, status.stx_dio_mem_align);
  }
#else
  (void)fd;
#endif
  return kPageBytes;
}

}  // namespace

tl::unexpected<Error> system_error(const std::string& what, int error) {
  const ErrorCode code = error == ENOENT || error == ENOTDIR ? ErrorCode::kNotFound
                         : error == EEXIST                   ? ErrorCode::kInvalidArgument
                                                             : ErrorCode::kIo;
  return fail(code, fmt::format("{}: {}", what, std::system_category().message(error)), error);
}

Result<SystemFile> SystemFile::open(const std::string& path, const OpenOptions& options) {
  struct stat status{};
  // Before the open, which would wait for a writer where somebody has put a pipe.
  if (stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    return fail(ErrorCode::kInvalidArgument, path + " is not a regular file");
  }
  int flags = O_CLOEXEC | (options.read_only ? O_RDONLY : O_RDWR);
  if (options.create) flags |= O_CREAT | (options.exclusive ? O_EXCL : 0);
  FileDescriptor fd(::open(path.c_str(), flags, 0600));
  if (!fd) return system_error(path, errno);
  SystemFile file(std::move(fd), path);
  struct statfs place{};
  file.in_memory_ = fstatfs(file.fd(), &place) == 0 && (place.f_type == TMPFS_MAGIC || place.f_type == RAMFS_MAGIC);
  if (options.direct) file.set_direct();
  return file;
}

/// Behind the open: with O_CREAT a refused O_DIRECT leaves a file behind that was not there before.
void SystemFile::set_direct() {
  const std::uint64_t alignment = direct_alignment(fd_.get());
  std::string why;
  if (alignment == 0) {
    why = "the filesystem has none";
  } else if (alignment > kPageBytes) {
    why = fmt::format("it would need multiples of {} bytes", alignment);
  } else if (fcntl(fd_.get(), F_SETFL, fcntl(fd_.get(), F_GETFL) | O_DIRECT) != 0) {
    why = std::system_category().message(errno);
  } else {
    direct_ = true;
    return;
  }
  log_line(LogLevel::kWarn, "no_direct_io",
           fmt::format("{}: no O_DIRECT ({}): its IO goes through the page cache", path_, why));
}

Result<std::uint64_t> SystemFile::size() const {
  struct stat status{};
  if (fstat(fd_.get(), &status) != 0) return system_error(path_, errno);
  return static_cast<std::uint64_t>(status.st_size);
}

Status SystemFile::allocate(std::uint64_t bytes) const {
  TIERCEL_TRY_ASSIGN(const std::uint64_t before, size());
  Status outcome;
  int result = 0;
  do {
    result = fallocate(fd_.get(), 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return {};
  if (errno == EOPNOTSUPP || errno == ENOSYS) {
    outcome = write_zeros(before, bytes);
    if (outcome) return {};
  } else {
    outcome = system_error(fmt::format("{}: allocating {} bytes", path_, bytes), errno);
  }
  // What was given before the space ran out goes back.
  if (const Result<std::uint64_t> now = size(); now && *now > before) (void)truncate(before);
  return outcome;
}

Status SystemFile::write_zeros(std::uint64_t begin, std::uint64_t end) const {
  constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20U;
  const std::unique_ptr<void, decltype(&std::free)> zeros(std::aligned_alloc(kPageBytes, kPieceBytes), &std::free);
  if (!zeros) return fail(ErrorCode::kOutOfMemory, "no memory for 1 MiB of zeros");
  std::fill_n(static_cast<char*>(zeros.get()), kPieceBytes, '\0');
  if (direct_ && (begin | end) % kPageBytes != 0) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{}: its length is no multiple of {}", path_, kPageBytes));
  }
  while (begin < end) {
    const ssize_t written =
        pwrite(fd_.get(), zeros.get(), std::min(kPieceBytes, end - begin), static_cast<off_t>(begin));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return system_error(path_, written < 0 ? errno : ENOSPC);
    begin += static_cast<std::uint64_t>(written);
  }
  return {};
}

Status SystemFile::truncate(std::uint64_t bytes) const {
  if (ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0) {
    return system_error(fmt::format("{}: cutting it to {} bytes", path_, bytes), errno);
  }
  return {};
}

}  // namespace tiercel
