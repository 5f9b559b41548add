// Metadata: the metadata region of one opened disk file as it is in memory, and its superblock. No IO: calls change the
// image and name the page (layout.h) that is to be written; whoever has the File writes page(n) to
// layout().page_offset(n).
//
// The image is one mapping of the whole region; what is empty takes no memory. A header page must not be written before
// the extent head and the namespace entry that it needs have been (see docs/formats.md, "Order of writes"): that is the
// caller's. Shared ownership, so that an IO that outlives its deadline keeps the image. One thread at a time.
#pragma once

#include "base/mapping.h"
#include "tier/disk/layout.h"
#include "tier/disk/tombstone_index.h"

#include <tiercel/result.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace tiercel::disk {

/// Pages that lie side by side in the region.
struct PageRange {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  friend bool operator==(const PageRange&, const PageRange&) = default;
};

/// A superblock to be written and synced. Nothing changes in memory before Metadata::apply, so that a write that fails
/// can be repeated, and goes to the same copy.
struct SuperblockUpdate {
  Superblock superblock;
  std::uint32_t copy = 0;
  [[nodiscard]] std::uint64_t offset() const noexcept { return copy * kPageBytes; }
};

class Metadata {
 public:
  /// An empty region for this superblock, which was read from `copy`. kCorrupt as Layout::of, kOutOfMemory.
  [[nodiscard]] static Result<std::shared_ptr<Metadata>> create(const Superblock& superblock, std::uint32_t copy);

  [[nodiscard]] const Layout& layout() const noexcept { return layout_; }
  [[nodiscard]] const Superblock& superblock() const noexcept { return superblock_; }
  [[nodiscard]] std::uint32_t copy() const noexcept { return copy_; }
  [[nodiscard]] std::uint64_t epoch() const noexcept { return superblock_.boot_epoch; }

  // Pages.
  [[nodiscard]] ConstPageSpan page(std::uint32_t page) const noexcept {
    return ConstPageSpan(image_.data() + std::uint64_t{page} * kPageBytes, kPageBytes);
  }
  /// For reading pages in: recovery alone.
  [[nodiscard]] std::byte* page_memory(std::uint32_t page) noexcept {
    return image_.data() + std::uint64_t{page} * kPageBytes;
  }

  // Superblock.
  /// An epoch of another directory's that this file's boots are to go on above: every update has it from now on. Those
  /// of the log's tombstones count by themselves, so that none is forgotten before boots go on above it.
  void carry_epoch(std::uint64_t epoch) noexcept;
  [[nodiscard]] std::uint64_t carried_epoch() const noexcept { return carried_epoch_; }
  /// The next one, with `changed` in it (its sequence is set here, and its epoch raised to the one that is carried). It
  /// goes to the copy that does not count now.
  [[nodiscard]] SuperblockUpdate update(Superblock changed) const noexcept;
  /// Says that an update has been written and synced.
  void apply(const SuperblockUpdate& update) noexcept;

  // Extents.
  [[nodiscard]] const ExtentHead& extent(std::uint32_t extent) const noexcept { return heads_[extent]; }
  /// Bytes of a slot, a number an extent; 0: free.
  [[nodiscard]] std::vector<std::uint64_t> slot_sizes() const;
  /// Cuts an extent for slots of another size: no header of it counts any longer. Returns the page of its head.
  std::uint32_t cut(std::uint32_t extent, std::uint64_t slot_bytes);

  // Namespaces.
  [[nodiscard]] std::optional<std::uint32_t> namespace_id(const BlockHash& fingerprint) const;
  struct Namespace {
    BlockHash fingerprint;
    TenantId owner{};
  };
  /// Of an id in a header; null: there is none.
  [[nodiscard]] const Namespace* space(std::uint32_t id) const noexcept;
  /// A new entry, on layout().namespace_page(id). kLimit: the table is full.
  [[nodiscard]] Result<std::uint32_t> add_namespace(const BlockHash& fingerprint, const TenantId& owner = {});
  /// Names the tenant of an entry that had none. True: its page is to be written.
  [[nodiscard]] bool set_owner(std::uint32_t id, const TenantId& owner);

  // Headers.
  /// Writes the block's header into the image. Its namespace must be known, its slot be one of its extent, its
  /// generation's epoch below epoch() + kEpochsAhead. Returns the page.
  std::uint32_t put(const DiskBlock& block);
  /// Removes a header, whatever it says. Returns the page.
  std::uint32_t clear(std::uint32_t slot);
  /// What the image has for a slot; kNone fills `to`.
  [[nodiscard]] Fault header(std::uint32_t slot, DiskBlock& to) const {
    return examine({.slot = slot, .epochs = epoch() + kEpochsAhead}, to).fault;
  }
  struct Question {
    std::uint32_t slot = 0;
    std::uint64_t epochs = 0;  ///< boots that may have written it: those below
  };
  struct Answer {
    Fault fault = Fault::kEmpty;
    std::uint32_t namespace_id = 0;  ///< that an intact header names, even where the rest of it is wrong; else 0
  };
  Answer examine(const Question& question, DiskBlock& to) const;
  void prefetch_header(std::uint32_t slot) const noexcept {
    const std::byte* const header = image_.data() + layout_.header_offset(slot);
    __builtin_prefetch(header);
    __builtin_prefetch(header + kHeaderBytes / 2);
  }

  // Tombstones.
  [[nodiscard]] std::uint32_t free_tombstones() const noexcept { return layout_.log_records() - log_used_; }
  /// Appends a record; returns its page. free_tombstones() must not be 0. Durable once that page is written and synced.
  std::uint32_t append(const Tombstone& tombstone);
  /// Begins the log anew. First every changed header page must have been written and synced, those of recovery's
  /// repaired_pages() too; then this update is written, synced and applied. No append in between.
  [[nodiscard]] SuperblockUpdate restart_log() const noexcept;

  // For a change of size: what another region has is taken over.
  void copy_namespaces(const Metadata& other);
  void set_head(std::uint32_t extent, const ExtentHead& head);
  /// The region is to be written at another place.
  void move_to(std::uint64_t meta_begin) noexcept;

  /// Puts a checkpoint of at most layout().slots() slots into the image (more are left out); returns the pages that it
  /// has, to be written in any order.
  PageRange put_checkpoint(std::span<const std::uint32_t> coldest_first);

  // Reading the region in: for Recovery. Each takes what the image has and repairs it (see repaired_pages).
  struct Taken {
    std::uint64_t good = 0;
    std::uint64_t bad = 0;
  };
  Taken take_heads();
  Taken take_namespaces();
  Taken take_log(TombstoneIndex& buried);
  [[nodiscard]] std::vector<std::uint32_t> take_checkpoint();
  /// The image changed since it was read: the page is written when there is time, and before the log begins anew.
  void repaired(std::uint32_t page);
  /// Each once, in order of their first repair.
  [[nodiscard]] const std::vector<std::uint32_t>& repaired_pages() const noexcept { return repaired_; }
  /// Frees the entries of namespaces that no header names: `named` has a flag for each id.
  void keep_namespaces(const std::vector<bool>& named);

 private:
  Metadata(const Superblock& superblock, std::uint32_t copy, const Layout& layout, Mapping image);

  template <std::size_t Size>
  [[nodiscard]] std::span<std::byte, Size> record(std::uint64_t offset) noexcept {
    return std::span<std::byte, Size>(image_.data() + offset, Size);
  }
  template <std::size_t Size>
  [[nodiscard]] std::span<const std::byte, Size> record(std::uint64_t offset) const noexcept {
    return std::span<const std::byte, Size>(image_.data() + offset, Size);
  }
  void put_space(std::uint32_t id, const Namespace& space);
  [[nodiscard]] std::uint64_t head_offset(std::uint32_t extent) const noexcept { return extent * kExtentHeadBytes; }
  [[nodiscard]] std::uint64_t namespace_offset(std::uint32_t id) const noexcept {
    return layout_.namespace_begin() * kPageBytes + (id - 1) * kNamespaceBytes;
  }
  [[nodiscard]] std::uint64_t log_offset(std::uint32_t position) const noexcept {
    return layout_.log_begin() * kPageBytes + position * kTombstoneBytes;
  }

  Superblock superblock_;
  std::uint32_t copy_;
  Layout layout_;
  Mapping image_;
  std::vector<ExtentHead> heads_;
  std::vector<std::optional<Namespace>> spaces_;  ///< by id - 1
  /// By id - 1: its owner is known. A store (release), once, after the owner is there pairs with examine() (acquire),
  /// which other threads call while set_owner() names the tenant of an entry that had none.
  std::unique_ptr<std::atomic<bool>[]> owned_;
  std::unordered_map<BlockHash, std::uint32_t, NameHasher> ids_;
  std::uint32_t first_free_namespace_ = 1;  ///< no lower id is free
  std::uint32_t log_used_ = 0;              ///< records of the log that are taken
  std::uint64_t next_tombstone_ = 1;
  std::uint64_t carried_epoch_ = 0;
  std::uint64_t checkpoint_sequence_ = 0;  ///< of the newest one
  std::vector<std::uint32_t> repaired_;
  std::vector<bool> is_repaired_;
};

}  // namespace tiercel::disk
