#include "base/mapping.h"

#include "base/check.h"
#include "base/try.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <utility>

namespace tiercel {
namespace {

/// The bracketed word of "always [madvise] never".
std::string chosen_word(const char* path) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    if (word.size() > 2 && word.front() == '[') return word.substr(1, word.size() - 2);
  }
  return "never";
}

bool transparent_pages_allowed(ArenaKind kind) {
  const std::string word = chosen_word(kind == ArenaKind::kMemfd ? "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
                                                                 : "/sys/kernel/mm/transparent_hugepage/enabled");
  return word == "always" || word == "madvise" || word == "advise" || word == "within_size" || word == "force";
}

/// Address space whose start is a multiple of 2 MiB, so that transparent huge pages can form; MAP_FAILED with errno.
void* reserve_aligned(std::uint64_t bytes) {
  void* room = mmap(nullptr, bytes + kHugePageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return MAP_FAILED;
  const auto start = reinterpret_cast<std::uintptr_t>(room);
  const std::uintptr_t aligned = (start + kHugePageBytes - 1) & ~(kHugePageBytes - 1);
  if (aligned > start) munmap(room, aligned - start);
  std::byte* const place = static_cast<std::byte*>(room) + (aligned - start);
  if (start + kHugePageBytes > aligned) munmap(place + bytes, start + kHugePageBytes - aligned);
  return place;
}

/// A mapping of ordinary pages.
void* map_aligned(std::uint64_t bytes, int fd, int flags) {
  void* const place = reserve_aligned(bytes);
  if (place == MAP_FAILED) return MAP_FAILED;
  void* mapped = mmap(place, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
  if (mapped == MAP_FAILED) {
    const int error = errno;
    munmap(place, bytes);
    errno = error;
  }
  return mapped;
}

tl::unexpected<Error> no_address_space(const std::string& name, std::uint64_t bytes, int error) {
  return fail(ErrorCode::kOutOfMemory,
              fmt::format("{}: {} MiB of address space: {}", name, bytes >> 20U, strerror(error)), error);
}

/// Has it been made and sealed as announced?
Status check_memfd(int fd, std::uint64_t bytes) {
  struct stat about{};
  constexpr int kSealed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  const int seals = fcntl(fd, F_GET_SEALS);  // -1 of what is no memfd
  if (fstat(fd, &about) == 0 && static_cast<std::uint64_t>(about.st_size) == bytes && seals >= 0 &&
      (seals & kSealed) == kSealed) {
    return {};
  }
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("a shared memory of {} bytes; {} sealed ones were announced", about.st_size, bytes));
}

bool is_hugetlb(int fd) {
  struct statfs about{};
  return fstatfs(fd, &about) == 0 && about.f_type == HUGETLBFS_MAGIC;
}

Result<int> open_memfd(const Mapping::Options& options, std::uint64_t bytes, unsigned extra_flags) {
  const int fd = memfd_create(options.name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | extra_flags);
  if (fd < 0) return fail(ErrorCode::kIo, fmt::format("{}: memfd_create: {}", options.name, strerror(errno)), errno);
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0 ||
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    const int error = errno;
    close(fd);
    return fail(
        ErrorCode::kIo,
        fmt::format("{}: a memfd of {}: {}", options.name, fmt::format("{} MiB", bytes >> 20U), strerror(error)),
        error);
  }
  return fd;
}

}  // namespace

Result<Mapping> Mapping::create(const Options& options) {
  if (options.bytes == 0 || options.bytes > (std::uint64_t{1} << 47U)) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: a mapping of {} bytes; valid is 1 to 2^47", options.name, options.bytes));
  }
  Mapping mapping;
  mapping.bytes_ = (options.bytes + kHugePageBytes - 1) & ~(kHugePageBytes - 1);
  TIERCEL_TRY(mapping.make(options));
  return mapping;
}

Status Mapping::make(const Options& options) {
  const bool memfd = options.kind == ArenaKind::kMemfd;
  const int share = memfd ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
  void* address = MAP_FAILED;

  if (options.huge_pages != HugePages::kOff) {
    if (memfd) {
      if (auto fd = open_memfd(options, bytes_, MFD_HUGETLB)) fd_ = *fd;
    }
    if (!memfd || fd_ >= 0) {
      // Reserved at once (no MAP_NORESERVE): a page that is missing must fail here, not as SIGBUS at first touch.
      address = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, share | (memfd ? 0 : MAP_HUGETLB), fd_, 0);
    }
    if (address != MAP_FAILED) {
      page_kind_ = PageKind::kHugetlb;
    } else if (fd_ >= 0) {
      close(std::exchange(fd_, -1));
    }
  }
  if (address == MAP_FAILED) {
    const bool transparent = options.huge_pages != HugePages::kOff && transparent_pages_allowed(options.kind);
    if (options.huge_pages == HugePages::kRequire && !transparent) {
      return fail(ErrorCode::kUnsupported,
                  fmt::format("{}: huge pages are required, but none are reserved (sysctl vm.nr_hugepages={}) and "
                              "transparent ones are off",
                              options.name, bytes_ / kHugePageBytes));
    }
    if (memfd) {
      TIERCEL_TRY_ASSIGN(fd_, open_memfd(options, bytes_, 0));
    }
    address = map_aligned(bytes_, fd_, share | MAP_NORESERVE);
    if (address == MAP_FAILED) {
      const int error = errno;
      if (fd_ >= 0) close(std::exchange(fd_, -1));
      return no_address_space(options.name, bytes_, error);
    }
    if (transparent && madvise(address, bytes_, MADV_HUGEPAGE) == 0) page_kind_ = PageKind::kTransparent;
  }
  data_ = static_cast<std::byte*>(address);
  if (memfd) (void)madvise(address, bytes_, MADV_DONTFORK);
  return {};
}

Result<Mapping> Mapping::of_memfd(int fd, std::uint64_t bytes) {
  Mapping mapping;
  mapping.fd_ = fd;
  TIERCEL_TRY(check_memfd(fd, bytes));
  void* address = map_aligned(bytes, fd, MAP_SHARED | MAP_NORESERVE);
  if (address == MAP_FAILED) {  // of reserved huge pages: their own alignment
    address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  if (address == MAP_FAILED) return no_address_space("a shared memory", bytes, errno);
  mapping.data_ = static_cast<std::byte*>(address);
  mapping.bytes_ = bytes;
  (void)madvise(address, bytes, MADV_DONTFORK);
  return mapping;
}

Result<Mapping> Mapping::reserve(std::uint64_t bytes) {
  Mapping mapping;
  mapping.bytes_ = (bytes + kHugePageBytes - 1) & ~(kHugePageBytes - 1);
  void* address = reserve_aligned(mapping.bytes_);
  if (address == MAP_FAILED) return no_address_space("host.capacity", mapping.bytes_, errno);
  mapping.data_ = static_cast<std::byte*>(address);
  return mapping;
}

Status Mapping::fill(const Options& options) {
  TIERCEL_TRY_ASSIGN(Mapping made, create(options));  // what can go wrong goes wrong there
  return fill_with(std::exchange(made.fd_, -1), options.huge_pages);
}

Status Mapping::fill_with(int fd, HugePages huge_pages) {
  Status sound = check_memfd(fd, bytes_);
  if (sound) {  // tried elsewhere first: a fixed mapping that fails has taken the reserved place away
    void* trial = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (trial == MAP_FAILED) {
      sound = no_address_space("a shared memory", bytes_, errno);
    } else {
      munmap(trial, bytes_);
    }
  }
  if (!sound) {
    close(fd);
    return sound;
  }
  void* address = mmap(data_, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0);
  TIERCEL_CHECK(address == data_, "what could be mapped elsewhere can be mapped here");
  fd_ = fd;
  page_kind_ = is_hugetlb(fd) ? PageKind::kHugetlb : PageKind::kOrdinary;
  const bool wanted = huge_pages != HugePages::kOff && page_kind_ == PageKind::kOrdinary;
  if (wanted && transparent_pages_allowed(ArenaKind::kMemfd) && madvise(address, bytes_, MADV_HUGEPAGE) == 0) {
    page_kind_ = PageKind::kTransparent;
  }
  (void)madvise(address, bytes_, MADV_DONTFORK);
  return {};
}

Result<std::shared_ptr<const Mapping>> Mapping::share(const Options& options) {
  TIERCEL_TRY_ASSIGN(Mapping mapping, create(options));
  return std::make_shared<const Mapping>(std::move(mapping));
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      page_kind_(other.page_kind_),
      fd_(std::exchange(other.fd_, -1)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    unmap();
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    page_kind_ = other.page_kind_;
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

Mapping::~Mapping() { unmap(); }

void Mapping::unmap() noexcept {
  if (data_ != nullptr) munmap(std::exchange(data_, nullptr), bytes_);
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

std::uint64_t Mapping::huge_bytes() const {
  if (page_kind_ == PageKind::kHugetlb) return bytes_;
  std::ifstream smaps("/proc/self/smaps");
  const auto begin = reinterpret_cast<std::uintptr_t>(data_);
  std::string line;
  bool inside = false;
  std::uint64_t kib = 0;
  while (std::getline(smaps, line)) {
    std::uintptr_t from = 0;
    std::uintptr_t to = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) {
      inside = from >= begin && to <= begin + bytes_;
    } else if (inside && (line.starts_with("AnonHugePages:") || line.starts_with("ShmemPmdMapped:"))) {
      kib += std::strtoull(line.c_str() + line.find(':') + 1, nullptr, 10);
    }
  }
  return kib << 10U;
}

Status Mapping::populate(std::uint64_t offset, std::uint64_t bytes) const {
#if !defined(MADV_POPULATE_WRITE)
  constexpr int MADV_POPULATE_WRITE = 23;  // the kernel's number; older libc headers lack the name
#endif
  while (madvise(data_ + offset, bytes, MADV_POPULATE_WRITE) != 0) {
    const int error = errno;
    if (error == EAGAIN || error == EINTR) continue;
    if (error == EINVAL) return fail(ErrorCode::kUnsupported, "MADV_POPULATE_WRITE needs Linux 5.14", error);
    return fail(ErrorCode::kOutOfMemory,
                fmt::format("pages for {}: {}", fmt::format("{} MiB", bytes >> 20U), strerror(error)), error);
  }
  return {};
}

}  // namespace tiercel
