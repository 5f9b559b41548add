// Mapping: a page-aligned region of anonymous memory or of a sealed memfd, with huge pages where the system gives them.
//
// Owns the pages; move-only. Pages are zero and not yet touched. Creation is one thread's, and so is filling a reserved
// mapping; reading the members is anyone's. A forked child does not inherit a memfd's mapping. Order of attempts for
// HugePages::kAuto: reserved 2 MiB pages (hugetlb), transparent ones (madvise), ordinary pages. kRequire fails with a
// sentence where neither of the first two can be had.
#pragma once

#include <tiercel/config.h>
#include <tiercel/result.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace tiercel {

inline constexpr std::uint64_t kHugePageBytes = std::uint64_t{2} << 20U;

enum class PageKind : std::uint8_t { kOrdinary, kTransparent, kHugetlb };

class Mapping {
 public:
  struct Options {
    std::uint64_t bytes = 0;  ///< rounded up to 2 MiB
    HugePages huge_pages = HugePages::kAuto;
    ArenaKind kind = ArenaKind::kAnonymous;
    std::string name = "tiercel";  ///< of the memfd, and the key in errors
  };

  [[nodiscard]] static Result<Mapping> create(const Options& options);
  /// The same, for what must live as long as the last who uses the pages. Throws std::bad_alloc.
  [[nodiscard]] static Result<std::shared_ptr<const Mapping>> share(const Options& options);

  /// Maps a memfd that another process has made and sealed, of which `bytes` are expected; takes over the descriptor.
  /// A forked child does not inherit it. kInvalidArgument: it has another size, or could be shrunk under us.
  [[nodiscard]] static Result<Mapping> of_memfd(int fd, std::uint64_t bytes);

  /// Address space for `bytes` (rounded up to 2 MiB) without memory: a touch before fill() or fill_with() is a fault.
  [[nodiscard]] static Result<Mapping> reserve(std::uint64_t bytes);
  /// Of a reserved mapping: memory of its own, as create() makes it. Whatever uses the mapping must be told afterwards.
  Status fill(const Options& options);
  /// Of a reserved mapping: a memfd that another process has made and sealed; takes over the descriptor. Errors as
  /// of_memfd; then nothing has changed.
  Status fill_with(int fd, HugePages huge_pages);

  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  /// What was asked of the kernel and accepted. kTransparent is a wish; huge_bytes() tells what came of it.
  [[nodiscard]] PageKind page_kind() const noexcept { return page_kind_; }
  /// The memfd, or -1. Sealed against shrinking, growing and further seals.
  [[nodiscard]] int fd() const noexcept { return fd_; }
  /// Bytes that lie on huge pages now, from /proc/self/smaps; 0 where that cannot be read.
  [[nodiscard]] std::uint64_t huge_bytes() const;

  /// Makes the kernel provide the pages of [offset, offset + bytes) without changing their content; safe beside use.
  /// kUnsupported on kernels before 5.14, kOutOfMemory where there are none.
  Status populate(std::uint64_t offset, std::uint64_t bytes) const;

 private:
  Status make(const Options& options);
  void unmap() noexcept;

  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
  PageKind page_kind_ = PageKind::kOrdinary;
  int fd_ = -1;
};

}  // namespace tiercel
