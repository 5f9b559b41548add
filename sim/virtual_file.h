// VirtualFile: one simulated file as pages of 4 KiB, and what of it would be left after a crash.
//
// Readers see every completed write. Durable is what a sync covered; of the rest a crash keeps what the seed says, page
// by page. Pages are shared and immutable, so a file costs what was written to it. One thread at a time; no errors:
// whoever calls has checked the range.
#pragma once

#include "base/random.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace tiercel::sim {

inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr std::uint64_t kSectorBytes = 512;

using Page = std::array<std::byte, kPageBytes>;
using PageRef = std::shared_ptr<const Page>;  ///< null: zeros

/// What a crash does to writes that no sync covers.
struct CrashStyle {
  enum class Kind : std::uint8_t {
    kKill = 0,   ///< of the process: completed writes stay, those in flight are kept or not, page by page
    kPower = 1,  ///< of the machine: any subset of the unsynced pages, in any order
  };
  Kind kind = Kind::kPower;
  std::uint32_t keep_percent = 50;  ///< chance of an unsynced page image to be kept
  bool ordered = false;             ///< instead: all up to a random moment, nothing after it
  bool tears = false;               ///< a page may be made of 512-byte sectors of several images
};

class VirtualFile {
 public:
  /// A page image on its way to the file.
  struct PageWrite {
    std::uint64_t page = 0;
    PageRef image;
  };

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// Durable after the next sync.
  void resize(std::uint64_t bytes);
  /// [offset, offset + to.size()) lies in the file.
  void read(std::uint64_t offset, std::span<std::byte> to) const;
  /// A completed write. Durable after a sync that begins later.
  void write(const PageWrite& write);
  [[nodiscard]] PageRef page(std::uint64_t page) const;
  /// The stored bytes change by themselves: in what is read from now on, and in every image a crash could bring back.
  void flip_bit(std::uint64_t page, std::uint32_t bit);

  /// A sync that begins now covers what is there now ...
  [[nodiscard]] std::uint64_t mark() const noexcept { return sequence_; }
  /// ... and makes it durable when it ends.
  void make_durable(std::uint64_t mark);
  [[nodiscard]] std::size_t unsynced_pages() const noexcept { return unsynced_.size(); }

  /// Everything that is not durable is decided; what is left is durable.
  void crash(const CrashStyle& style, std::span<const PageWrite> in_flight, Random& random);

 private:
  struct Image {
    std::uint64_t sequence = 0;  // 0: the durable one
    PageRef bytes;
  };
  struct Size {
    std::uint64_t sequence = 0;
    std::uint64_t bytes = 0;
  };
  using Images = std::vector<Image>;  // oldest first; [0] is durable

  [[nodiscard]] static PageRef choose(const Images& images, const CrashStyle& style, std::uint64_t cut, Random& random);
  void crash_size(const CrashStyle& style, std::uint64_t cut, Random& random);

  std::vector<PageRef> pages_;                // as readers see them
  std::map<std::uint64_t, Images> unsynced_;  // ordered: a crash asks the seed in this order
  std::vector<Size> sizes_;                   // what size the file had, since the last sync; [0] is durable
  std::uint64_t size_ = 0;
  std::uint64_t sequence_ = 0;
};

/// A page of `image` whose sectors are taken from `other` where `random` says so; `image` where both are the same.
[[nodiscard]] PageRef torn(const PageRef& image, const PageRef& other, Random& random);

}  // namespace tiercel::sim
