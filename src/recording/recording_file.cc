#include "recording/recording_file.h"

#include "base/try.h"
#include "recording/recording_lines.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

namespace tiercel {
namespace {

constexpr std::string_view kFirstKey = "{\"tiercel_recording\":";

tl::unexpected<Error> failed(const std::string& path, std::string_view what) {
  const int error = errno;
  return fail(ErrorCode::kIo, fmt::format("{}: {}: {}", path, what, std::strerror(error)), error);
}

/// The bytes of a file, for reading.
class Mapped {
 public:
  Mapped(int descriptor, std::size_t size)
      : size_(size), data_(::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0)) {}
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;
  ~Mapped() {
    if (data_ != MAP_FAILED) (void)::munmap(data_, size_);
  }
  [[nodiscard]] bool failed() const { return data_ == MAP_FAILED; }
  [[nodiscard]] std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

 private:
  std::size_t size_;
  void* data_;
};

/// The version that the first line says; 0: it is no recording's.
unsigned version_of(std::span<const std::byte> file) {
  std::array<char, 64> start{};
  ZSTD_DCtx* context = ZSTD_createDCtx();
  if (context == nullptr) return 0;
  ZSTD_inBuffer in{.src = file.data(), .size = file.size(), .pos = 0};
  ZSTD_outBuffer out{.dst = start.data(), .size = start.size(), .pos = 0};
  const std::size_t left = ZSTD_decompressStream(context, &out, &in);
  (void)ZSTD_freeDCtx(context);
  std::string_view text(start.data(), out.pos);
  if (ZSTD_isError(left) != 0U || !text.starts_with(kFirstKey)) return 0;
  text.remove_prefix(kFirstKey.size());
  unsigned version = 0;
  (void)std::from_chars(text.begin(), text.end(), version);
  return version;
}

/// Where the last whole frame ends. Empty: what follows it is damaged, not cut off.
std::optional<std::size_t> end_of_frames(std::span<const std::byte> file) {
  std::size_t at = 0;
  while (at < file.size()) {
    const std::size_t size = ZSTD_findFrameCompressedSize(file.data() + at, file.size() - at);
    if (ZSTD_isError(size) != 0U) {
      if (ZSTD_getErrorCode(size) == ZSTD_error_srcSize_wrong) return at;
      return std::nullopt;
    }
    at += size;
  }
  return at;
}

}  // namespace

Result<std::unique_ptr<RecordingFile>> RecordingFile::open(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
  if (descriptor < 0) return failed(path, "cannot be opened for a recording");
  std::unique_ptr<RecordingFile> file(new RecordingFile(path, descriptor));
  TIERCEL_TRY(file->go_on());
  return file;
}

RecordingFile::~RecordingFile() { (void)::close(descriptor_); }

Status RecordingFile::go_on() {
  struct stat status{};
  if (::fstat(descriptor_, &status) != 0) return failed(path_, "cannot be looked at");
  if (!S_ISREG(status.st_mode)) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{}: not a file; a recording needs one of its own", path_));
  }
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) return failed(path_, "another process records to it");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size == 0) return {};
  const Mapped mapped(descriptor_, size);
  if (mapped.failed()) return failed(path_, "cannot be read");
  const unsigned version = version_of(mapped.bytes());
  if (version == 0) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: there is something, and it is not a recording; name another file", path_));
  }
  if (version > RecordingLines::kVersion) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{}: a recording of version {}; this program writes {}", path_,
                                                         version, RecordingLines::kVersion));
  }
  const auto end = end_of_frames(mapped.bytes());
  if (!end) {
    return fail(ErrorCode::kCorrupt,
                fmt::format("{}: the recording is damaged; keep it under another name, or name another file", path_));
  }
  if (*end < size && ::ftruncate(descriptor_, static_cast<off_t>(*end)) != 0) return failed(path_, "cannot be cut");
  size_ = *end;
  cut_bytes_ = size - *end;
  return {};
}

Status RecordingFile::append(std::span<const std::byte> frame) {
  std::size_t done = 0;
  while (done < frame.size()) {
    const ssize_t count =
        ::pwrite(descriptor_, frame.data() + done, frame.size() - done, static_cast<off_t>(size_ + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      auto error = failed(path_, "writing failed");
      (void)::ftruncate(descriptor_, static_cast<off_t>(size_));  // what cannot be cut is written over by the next
      return error;
    }
    done += static_cast<std::size_t>(count);
  }
  size_ += frame.size();
  return {};
}

}  // namespace tiercel
