// Layout: where everything in the disk file lies, computed from a few sizes. Immutable; safe from any thread.
//
//   0        superblock, copy A         4096   superblock, copy B       8192   a page for write probes
//   data_begin   extents x extent_bytes
//   meta_begin   extent heads | namespaces | tombstone log | checkpoint (two halves) | header table
// The metadata region is counted in pages of 4096 bytes from its begin: a *page* below is such a number. A slot id is
// extent * slots_per_extent() + position, as in memory/slot_table.h; in the header table every extent has
// padded_slots() headers, so that no page is shared by two extents.
#pragma once

#include "tier/disk/format.h"

#include <tiercel/result.h>

#include <cstdint>

namespace tiercel::disk {

inline constexpr std::uint64_t kDataBegin = std::uint64_t{2} << 20U;
inline constexpr std::uint64_t kScratchOffset =
    2 * kPageBytes;  ///< a page that anyone may write to see whether it works
inline constexpr std::uint32_t kDefaultLogPages = 256;

struct Shape {
  std::uint32_t extents = 0;
  std::uint64_t extent_bytes = std::uint64_t{64} << 20U;
  std::uint64_t min_slot_bytes = std::uint64_t{256} << 10U;
  std::uint32_t max_namespaces = 4096;
  std::uint32_t log_pages = kDefaultLogPages;
  friend bool operator==(const Shape&, const Shape&) = default;
};

[[nodiscard]] constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) noexcept {
  return (value + unit - 1) / unit * unit;
}

class Layout {
 public:
  Layout() = default;
  /// Of a new file, its metadata right behind the data. kInvalidArgument: the sizes make no file.
  [[nodiscard]] static Result<Layout> plan(const Shape& shape);
  /// The same sizes with the metadata region at `meta_begin`, which must not be below data_end().
  [[nodiscard]] Layout with_meta_at(std::uint64_t meta_begin) const noexcept;
  /// What a superblock says. kCorrupt: its sizes contradict each other.
  [[nodiscard]] static Result<Layout> of(const Superblock& superblock);
  /// Writes the sizes and places into a superblock; its other fields stay.
  void describe(Superblock& superblock) const noexcept;

  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::uint32_t extents() const noexcept { return shape_.extents; }
  [[nodiscard]] std::uint32_t slots_per_extent() const noexcept { return slots_per_extent_; }
  [[nodiscard]] std::uint32_t padded_slots() const noexcept { return padded_slots_; }
  [[nodiscard]] std::uint32_t slots() const noexcept { return shape_.extents * slots_per_extent_; }

  // Data.
  [[nodiscard]] std::uint64_t data_begin() const noexcept { return data_begin_; }
  [[nodiscard]] std::uint64_t data_end() const noexcept { return data_begin_ + shape_.extents * shape_.extent_bytes; }
  [[nodiscard]] std::uint64_t meta_begin() const noexcept { return meta_begin_; }
  [[nodiscard]] std::uint64_t meta_bytes() const noexcept { return std::uint64_t{pages()} * kPageBytes; }
  [[nodiscard]] std::uint64_t file_bytes() const noexcept { return meta_begin_ + meta_bytes(); }
  /// A multiple of 4096 from min_slot_bytes to extent_bytes.
  [[nodiscard]] bool valid_slot_bytes(std::uint64_t slot_bytes) const noexcept;
  [[nodiscard]] std::uint32_t slots_of(std::uint64_t slot_bytes) const noexcept {
    return slot_bytes == 0 ? 0 : static_cast<std::uint32_t>(shape_.extent_bytes / slot_bytes);
  }
  [[nodiscard]] std::uint32_t extent_of(std::uint32_t slot) const noexcept { return slot / slots_per_extent_; }
  [[nodiscard]] std::uint32_t position_of(std::uint32_t slot) const noexcept { return slot % slots_per_extent_; }
  [[nodiscard]] std::uint32_t slot_at(std::uint32_t extent, std::uint32_t position) const noexcept {
    return extent * slots_per_extent_ + position;
  }
  /// Bytes from the start of the file.
  [[nodiscard]] std::uint64_t data_offset(std::uint32_t slot, std::uint64_t slot_bytes) const noexcept {
    return data_begin_ + extent_of(slot) * shape_.extent_bytes + position_of(slot) * slot_bytes;
  }

  // Pages of the metadata region.
  [[nodiscard]] std::uint32_t pages() const noexcept { return header_begin_ + header_pages(); }
  [[nodiscard]] std::uint64_t page_offset(std::uint32_t page) const noexcept {
    return meta_begin_ + std::uint64_t{page} * kPageBytes;
  }
  [[nodiscard]] std::uint32_t head_pages() const noexcept { return namespace_begin_; }
  [[nodiscard]] std::uint32_t head_page(std::uint32_t extent) const noexcept { return extent / kExtentHeadsPerPage; }
  [[nodiscard]] std::uint32_t namespace_begin() const noexcept { return namespace_begin_; }
  [[nodiscard]] std::uint32_t namespace_page(std::uint32_t id) const noexcept {
    return namespace_begin_ + (id - 1) / kNamespacesPerPage;
  }
  [[nodiscard]] std::uint32_t log_begin() const noexcept { return log_begin_; }
  [[nodiscard]] std::uint32_t log_pages() const noexcept { return shape_.log_pages; }
  [[nodiscard]] std::uint32_t log_records() const noexcept { return shape_.log_pages * kTombstonesPerPage; }
  [[nodiscard]] std::uint32_t checkpoint_begin() const noexcept { return checkpoint_begin_; }
  [[nodiscard]] std::uint32_t checkpoint_half_pages() const noexcept { return (header_begin_ - checkpoint_begin_) / 2; }
  [[nodiscard]] std::uint32_t header_begin() const noexcept { return header_begin_; }
  [[nodiscard]] std::uint32_t header_pages() const noexcept { return shape_.extents * extent_header_pages(); }
  [[nodiscard]] std::uint32_t extent_header_pages() const noexcept { return padded_slots_ / kHeadersPerPage; }
  [[nodiscard]] std::uint32_t header_page(std::uint32_t slot) const noexcept {
    return header_begin_ + extent_of(slot) * extent_header_pages() + position_of(slot) / kHeadersPerPage;
  }
  /// Bytes from the start of the metadata region.
  [[nodiscard]] std::uint64_t header_offset(std::uint32_t slot) const noexcept {
    return std::uint64_t{header_begin_} * kPageBytes +
           (std::uint64_t{extent_of(slot)} * padded_slots_ + position_of(slot)) * kHeaderBytes;
  }

  friend bool operator==(const Layout&, const Layout&) = default;

 private:
  [[nodiscard]] static Result<Layout> place(const Shape& shape, std::uint64_t data_begin,
                                            std::uint32_t checkpoint_pages);

  Shape shape_{};
  std::uint64_t data_begin_ = 0;
  std::uint64_t meta_begin_ = 0;
  std::uint32_t slots_per_extent_ = 1;
  std::uint32_t padded_slots_ = kHeadersPerPage;
  std::uint32_t namespace_begin_ = 0;
  std::uint32_t log_begin_ = 0;
  std::uint32_t checkpoint_begin_ = 0;
  std::uint32_t header_begin_ = 0;
};

}  // namespace tiercel::disk
