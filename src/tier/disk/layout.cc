#include "tier/disk/layout.h"

#include "base/try.h"

#include <string>

namespace tiercel::disk {
namespace {

// Bounds of what a file may be, far above what is useful: with them no sum or product below can overflow.
constexpr std::uint64_t kMaxExtentBytes = std::uint64_t{1} << 40U;
constexpr std::uint64_t kMaxDataBytes = std::uint64_t{1} << 60U;
constexpr std::uint64_t kMaxSlots = std::uint64_t{1} << 31U;
constexpr std::uint32_t kMaxNamespaces = 1U << 24U;
constexpr std::uint32_t kMaxLogPages = 1U << 20U;

[[nodiscard]] constexpr std::uint32_t pages_for(std::uint64_t items, std::uint64_t per_page) noexcept {
  return static_cast<std::uint32_t>((items + per_page - 1) / per_page);
}

/// Each half of the checkpoint names every slot once. 0 for sizes that make no file.
[[nodiscard]] std::uint32_t checkpoint_pages_for(const Shape& shape) {
  const std::uint64_t per_extent = shape.min_slot_bytes == 0 ? 0 : shape.extent_bytes / shape.min_slot_bytes;
  const std::uint64_t slots = per_extent > kMaxSlots ? 0 : shape.extents * per_extent;
  return slots > kMaxSlots ? 0 : 2 * pages_for(slots, kCheckpointSlotsPerPage);
}

/// The sentence that says why these sizes make no file; empty if they do.
[[nodiscard]] std::string objection(const Shape& shape) {
  if (shape.extent_bytes < kPageBytes || shape.extent_bytes > kMaxExtentBytes || shape.extent_bytes % kPageBytes != 0) {
    return "extent size " + std::to_string(shape.extent_bytes) + " is not a multiple of 4096 from 4096 to 1 TiB";
  }
  if (shape.min_slot_bytes < kPageBytes || shape.min_slot_bytes > shape.extent_bytes ||
      shape.min_slot_bytes % kPageBytes != 0) {
    return "smallest slot size " + std::to_string(shape.min_slot_bytes) +
           " is not a multiple of 4096 from 4096 to the extent size " + std::to_string(shape.extent_bytes);
  }
  const std::uint64_t slots_per_extent = shape.extent_bytes / shape.min_slot_bytes;
  if (shape.extents == 0 || shape.extents > kMaxDataBytes / shape.extent_bytes ||
      shape.extents > kMaxSlots / round_up(slots_per_extent, kHeadersPerPage)) {
    return std::to_string(shape.extents) + " extents of " + std::to_string(shape.extent_bytes) +
           " bytes: at least one, at most 2^60 bytes and 2^31 slots";
  }
  if (shape.max_namespaces == 0 || shape.max_namespaces > kMaxNamespaces) {
    return std::to_string(shape.max_namespaces) + " namespaces: from 1 to 2^24";
  }
  if (shape.log_pages == 0 || shape.log_pages > kMaxLogPages) {
    return std::to_string(shape.log_pages) + " pages of the tombstone log: from 1 to 2^20";
  }
  return {};
}

}  // namespace

Result<Layout> Layout::place(const Shape& shape, std::uint64_t data_begin, std::uint32_t checkpoint_pages) {
  if (std::string sentence = objection(shape); !sentence.empty()) {
    return fail(ErrorCode::kInvalidArgument, "disk file: " + std::move(sentence));
  }
  Layout layout;
  layout.shape_ = shape;
  layout.data_begin_ = data_begin;
  layout.slots_per_extent_ = static_cast<std::uint32_t>(shape.extent_bytes / shape.min_slot_bytes);
  layout.padded_slots_ = static_cast<std::uint32_t>(round_up(layout.slots_per_extent_, kHeadersPerPage));
  layout.namespace_begin_ = pages_for(shape.extents, kExtentHeadsPerPage);
  layout.log_begin_ = layout.namespace_begin_ + pages_for(shape.max_namespaces, kNamespacesPerPage);
  layout.checkpoint_begin_ = layout.log_begin_ + shape.log_pages;
  layout.header_begin_ = layout.checkpoint_begin_ + checkpoint_pages;
  layout.meta_begin_ = layout.data_end();
  return layout;
}

Result<Layout> Layout::plan(const Shape& shape) { return place(shape, kDataBegin, checkpoint_pages_for(shape)); }

Layout Layout::with_meta_at(std::uint64_t meta_begin) const noexcept {
  Layout moved = *this;
  moved.meta_begin_ = meta_begin;
  return moved;
}

Result<Layout> Layout::of(const Superblock& superblock) {
  const Shape shape{.extents = superblock.extents,
                    .extent_bytes = superblock.extent_bytes,
                    .min_slot_bytes = superblock.min_slot_bytes,
                    .max_namespaces = superblock.max_namespaces,
                    .log_pages = superblock.log_pages};
  auto placed = place(shape, superblock.data_begin, superblock.checkpoint_pages);
  if (!placed) return fail(ErrorCode::kCorrupt, std::move(placed).error().message);
  const bool agree = superblock.data_begin >= kScratchOffset + kPageBytes && superblock.data_begin <= kMaxDataBytes &&
                     superblock.data_begin % kPageBytes == 0 && superblock.checkpoint_pages % 2 == 0 &&
                     superblock.checkpoint_pages <= checkpoint_pages_for(shape) &&
                     superblock.meta_begin % kPageBytes == 0 && superblock.meta_begin >= placed->data_end() &&
                     superblock.meta_begin <= 4 * kMaxDataBytes && superblock.meta_bytes == placed->meta_bytes();
  if (!agree)
    return fail(ErrorCode::kCorrupt, "disk file: the sizes and places in its superblock contradict each other");
  return placed->with_meta_at(superblock.meta_begin);
}

void Layout::describe(Superblock& superblock) const noexcept {
  superblock.extent_bytes = shape_.extent_bytes;
  superblock.min_slot_bytes = shape_.min_slot_bytes;
  superblock.extents = shape_.extents;
  superblock.max_namespaces = shape_.max_namespaces;
  superblock.data_begin = data_begin_;
  superblock.meta_begin = meta_begin_;
  superblock.meta_bytes = meta_bytes();
  superblock.log_pages = shape_.log_pages;
  superblock.checkpoint_pages = header_begin_ - checkpoint_begin_;
}

bool Layout::valid_slot_bytes(std::uint64_t slot_bytes) const noexcept {
  return slot_bytes >= shape_.min_slot_bytes && slot_bytes <= shape_.extent_bytes && slot_bytes % kPageBytes == 0;
}

}  // namespace tiercel::disk
