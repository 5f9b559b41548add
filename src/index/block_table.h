// BlockTable: every block that the cache knows, with its copies, its place in the tree of prefixes and its pins.
//
// An entry is 64 bytes (name, copies, slots, generation) and 32 bytes beside it (children per tier, sibling links,
// checksum); with the Directory's 14.9 bytes and the policy's 16 that makes 126.9 bytes a block. Entries are addressed
// by index, the parent too. Sized at creation; memory is touched as entries are used.
//
// An entry lives while it has a copy in some tier, a logical pin, or a child entry (then, without a copy, it is a
// stub), or is a root. Roots stand for namespaces: the parent of a first block. One writer at a time (the owner's
// lock); match() and the Directory's reader calls may run beside it.
#pragma once

#include "base/tenant_number.h"
#include "index/copy_state.h"
#include "index/directory.h"
#include "model/match_rule.h"

#include <tiercel/block.h>
#include <tiercel/result.h>
#include <tiercel/session.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace tiercel {

/// The hot part of an entry: one cache line.
struct alignas(64) BlockEntry {
  BlockHash hash;
  BlockId space = kNoBlock;                                   ///< the root of its namespace
  BlockId parent = kNoBlock;                                  ///< of a free entry: the next free one
  std::array<std::uint32_t, 2> slot{UINT32_MAX, UINT32_MAX};  ///< host, disk; of a root, host: its tenant
  std::array<CopyState, kTierCount> state{};
  GroupId group = 0;
  std::uint16_t logical_pins = 0;
  bool in_use = false;
  bool is_root = false;
  std::uint64_t generation = 0;  ///< of the last fill: changes whenever the bytes may
};
static_assert(sizeof(BlockEntry) == 64);

/// The cold part.
struct BlockLinks {
  std::array<std::uint32_t, kTierCount> children{};  ///< child entries with a copy in that tier, in whatever state
  BlockId first_child = kNoBlock;
  BlockId next_sibling = kNoBlock;
  BlockId previous_sibling = kNoBlock;
  std::uint64_t checksum = 0;
};
static_assert(sizeof(BlockLinks) == 32);

class BlockTable {
 public:
  struct Options {
    std::uint64_t capacity = 0;  ///< entries, roots and stubs included
    std::uint64_t seed = 0;
    HugePages huge_pages = HugePages::kAuto;
  };
  [[nodiscard]] static Result<BlockTable> create(const Options& options);

  // Entries.
  [[nodiscard]] BlockId find(const BlockHash& hash, GroupId group) const;
  void prefetch(const BlockHash& hash, GroupId group) const noexcept {
    directory_.prefetch(directory_.place(hash, group));
  }
  /// A new entry without a copy; `parent` is an entry or a root. kNoBlock: the table is full.
  [[nodiscard]] BlockId insert(const BlockHash& hash, GroupId group, BlockId parent);
  [[nodiscard]] BlockId insert_root(const BlockHash& fingerprint, TenantNumber tenant = kNoTenant);
  /// The root of the block's namespace; of a root, itself.
  [[nodiscard]] BlockId root_of(BlockId id) const noexcept { return entries_[id].space; }
  /// Whose blocks these are: known by the root of their namespace alone.
  [[nodiscard]] TenantNumber tenant(BlockId id) const noexcept {
    return static_cast<TenantNumber>(entries_[root_of(id)].slot[0]);
  }
  void set_tenant(BlockId root, TenantNumber tenant) noexcept { entries_[root].slot[0] = tenant; }
  /// Frees the entry if nothing keeps it, and then its ancestors likewise, at most kCascade in all; the rest waits for
  /// collect(). Answers how many went.
  int erase_if_unused(BlockId id);
  /// Goes on with cascades that were cut, for about `budget` entries. Answers how many it looked at; 0: nothing is
  /// left.
  int collect(int budget);
  /// Cut cascades that collect() has not come to.
  [[nodiscard]] bool has_cut_cascades() const noexcept { return !cut_cascades_.empty(); }
  void erase_root(BlockId id);

  [[nodiscard]] const BlockEntry& operator[](BlockId id) const noexcept { return entries_[id]; }
  [[nodiscard]] const BlockLinks& links(BlockId id) const noexcept { return links_[id]; }

  // Copies.
  [[nodiscard]] CopyState state(BlockId id, TierId tier) const noexcept {
    return entries_[id].state[static_cast<std::size_t>(tier)];
  }
  /// A step of copy_state.h's table (checked); keeps the directory and the parent's child count in step.
  void set_state(BlockId id, TierId tier, CopyState to);
  void set_slot(BlockId id, TierId tier, std::uint32_t slot) noexcept {
    entries_[id].slot[static_cast<std::size_t>(tier)] = slot;
  }
  [[nodiscard]] std::uint32_t slot(BlockId id, TierId tier) const noexcept {
    return entries_[id].slot[static_cast<std::size_t>(tier)];
  }
  void set_generation(BlockId id, std::uint64_t generation) noexcept { entries_[id].generation = generation; }
  void set_checksum(BlockId id, std::uint64_t checksum) noexcept { links_[id].checksum = checksum; }
  [[nodiscard]] bool has_copy(BlockId id) const noexcept;
  [[nodiscard]] std::uint32_t children_in(BlockId id, TierId tier) const noexcept {
    return links_[id].children[static_cast<std::size_t>(tier)];
  }

  /// May a copy go without cutting a block off from its root? Not while a child has one in the same tier, nor, if it is
  /// the last readable copy of its block, while there is any child.
  [[nodiscard]] bool can_lose(BlockId id, TierId tier) const noexcept;

  // Logical pins.
  /// False: the counter is full (65,535).
  [[nodiscard]] bool pin(BlockId id) noexcept;
  void unpin(BlockId id) noexcept;
  void clear_pins(BlockId id) noexcept;

  // Readers.
  /// The largest n that can be served (model/match_rule.h) over all tiers; `tiers` gets, for each of those n blocks,
  /// the tiers that hold every group of it. Lock-free.
  [[nodiscard]] std::size_t match(std::span<const BlockHash> hashes, std::span<const GroupRule> rules,
                                  std::vector<TierSet>& tiers) const;

  [[nodiscard]] const Directory& directory() const noexcept { return directory_; }
  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::uint64_t entries() const noexcept { return used_; }
  [[nodiscard]] std::uint64_t stubs() const noexcept { return stubs_; }
  [[nodiscard]] std::uint64_t pinned_blocks() const noexcept { return pinned_; }
  /// Bytes reserved for entries, links and directory.
  [[nodiscard]] std::uint64_t bytes() const noexcept {
    return entries_mapping_->bytes() + links_mapping_->bytes() + directory_.bytes();
  }
  [[nodiscard]] const Mapping& entries_mapping() const noexcept { return *entries_mapping_; }
  /// All that it lies in, for base/prefault.h.
  [[nodiscard]] std::vector<std::shared_ptr<const Mapping>> mappings() const;

  /// Walks everything and aborts on a contradiction. For tests.
  void check_consistency() const;

 private:
  static constexpr int kCascade = 16;
  static constexpr std::size_t kCutCascades = 256;  // of more at once collect() finds the rest by a walk

  [[nodiscard]] BlockId take_free();
  void link_child(BlockId parent, BlockId child);
  void unlink_child(BlockId child);
  [[nodiscard]] bool is_unused(BlockId id) const noexcept;
  [[nodiscard]] bool is_stub(BlockId id) const noexcept;

  std::uint64_t capacity_ = 0;
  std::uint64_t used_ = 0;
  std::uint64_t stubs_ = 0;
  std::uint64_t pinned_ = 0;
  BlockId free_ = kNoBlock;
  BlockId untouched_ = 0;  // entries from here on were never used
  std::vector<BlockId> cut_cascades_;
  BlockId walk_end_ = 0;  // collect() still looks at the entries [walk_, walk_end_)
  BlockId walk_ = 0;
  std::shared_ptr<const Mapping> entries_mapping_;
  std::shared_ptr<const Mapping> links_mapping_;
  BlockEntry* entries_ = nullptr;
  BlockLinks* links_ = nullptr;
  Directory directory_;
};

}  // namespace tiercel
