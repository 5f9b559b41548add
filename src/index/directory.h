// Directory: from a block's name to its entry, and which tiers hold it ready, in one cache line.
//
// Lines of 64 bytes: 8 cells of 8 bytes. A cell is one atomic word {tag 32 bits, tiers ready 3, passed 1, entry + 1 in
// 28; 0 = empty}; so a reader gets name, place and state in one load and takes no lock. A key's home line is a keyed
// hash of its name (a caller cannot aim at a line); a full line sends it to the next and is marked as passed, in its
// last cell. A key never moves: it is inserted once and erased once, so a reader never misses what is there. Sized at
// creation for `capacity` keys at 4.375 of 8 cells (14.9 bytes a key with the writer's counts), never rehashed.
//
// One writer at a time (the owner's lock); any number of readers beside it. Answers of readers are advisory: a tag may
// collide (2^-32 a cell), a state may have changed.
//
// Sketch of a match of n blocks: n + n/70 line reads, prefetched 32 ahead; no other memory but the hashes asked for.
#pragma once

#include "base/mapping.h"
#include "model/match_rule.h"

#include <tiercel/block.h>
#include <tiercel/result.h>
#include <tiercel/session.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace tiercel {

using BlockId = std::uint32_t;
inline constexpr BlockId kNoBlock = UINT32_MAX;

class Directory {
 public:
  static constexpr std::uint64_t kMaxEntries = (std::uint64_t{1} << 28U) - 1;

  struct Options {
    std::uint64_t capacity = 0;
    std::uint64_t seed = 0;
    HugePages huge_pages = HugePages::kAuto;
  };
  [[nodiscard]] static Result<Directory> create(const Options& options);

  /// Where a key lives and what its cell looks like.
  struct Place {
    std::uint64_t line;
    std::uint32_t tag;
  };
  [[nodiscard]] Place place(const BlockHash& hash, GroupId group) const noexcept { return key_.place(hash, group); }
  void prefetch(const Place& place) const noexcept { __builtin_prefetch(lines_ + place.line); }

  // Writer.
  void insert(const Place& place, BlockId id);
  void erase(const Place& place, BlockId id);
  void set_tiers(const Place& place, BlockId id, TierSet ready);
  /// Calls `is_it(id)` for each entry whose tag agrees, until it says true; then that entry, else kNoBlock.
  template <class IsIt>
  [[nodiscard]] BlockId find(const Place& place, IsIt&& is_it) const;

  // Readers.
  /// The tiers of each of `hashes` up to the first that is ready in none; answers how many that are. What lies in
  /// `tiers` behind them means nothing.
  [[nodiscard]] std::size_t match_leading(std::span<const BlockHash> hashes, GroupId group,
                                          std::span<TierSet> tiers) const noexcept;
  /// The tiers of each of `hashes`.
  void lookup(std::span<const BlockHash> hashes, GroupId group, std::span<TierSet> tiers) const noexcept;

  [[nodiscard]] std::uint64_t bytes() const noexcept { return mapping_->bytes() + passed_mapping_->bytes(); }
  [[nodiscard]] const Mapping& mapping() const noexcept { return *mapping_; }
  /// All that it lies in, for base/prefault.h.
  [[nodiscard]] std::vector<std::shared_ptr<const Mapping>> mappings() const { return {mapping_, passed_mapping_}; }
  /// Lines that a reader touches for this key, from its home on. For benchmarks and tests.
  [[nodiscard]] std::uint64_t lines_touched(const Place& place, BlockId id) const noexcept;

 private:
  static constexpr std::size_t kCells = 8;
  static constexpr std::size_t kAhead = 32;   // lines on their way: best of 8 to 64 where it was measured
  static constexpr std::size_t kGather = 32;  // stragglers that are worth a turn of their own
  static constexpr std::size_t kNoGap = SIZE_MAX;
  struct alignas(64) Line {
    std::atomic<std::uint64_t> cells[kCells];  // written whole (release), read whole (acquire)

    /// Whether keys lie beyond this line. Set before such a key's cell is written, cleared after it was emptied.
    [[nodiscard]] bool passed() const noexcept {
      return (cells[kCells - 1].load(std::memory_order_acquire) & kPassed) != 0;
    }
  };
  static_assert(sizeof(Line) == 64);

  static constexpr std::uint64_t kPassed = std::uint64_t{1} << 28U;
  [[nodiscard]] static std::uint64_t cell_of(std::uint32_t tag, BlockId id, TierSet ready) noexcept {
    return std::uint64_t{tag} << 32U | std::uint64_t{ready.bits} << 29U | (std::uint64_t{id} + 1);
  }
  [[nodiscard]] static bool is_empty(std::uint64_t cell) noexcept { return (cell & 0xFFF'FFFFU) == 0; }
  [[nodiscard]] static BlockId id_of(std::uint64_t cell) noexcept {
    return static_cast<BlockId>((cell & 0xFFF'FFFFU) - 1);
  }
  [[nodiscard]] static TierSet tiers_of(std::uint64_t cell) noexcept {
    return {.bits = static_cast<std::uint8_t>(cell >> 29U & 7U)};
  }
  [[nodiscard]] static bool has_tag(std::uint64_t cell, std::uint32_t tag) noexcept {
    return cell >> 32U == tag && !is_empty(cell);
  }
  [[nodiscard]] static std::size_t first_with_tag(const Line& line, std::uint32_t tag) noexcept;
  [[nodiscard]] static std::uint64_t peek(const Line& line, std::uint32_t tag) noexcept;
  [[nodiscard]] TierSet ready_tiers(const Place& place) const noexcept;
  template <bool kStopAtGap>
  std::size_t scan(std::span<const BlockHash> hashes, GroupId group, std::span<TierSet> tiers) const noexcept;
  template <bool kStopAtGap>
  std::size_t settle(std::span<const BlockHash> hashes, GroupId group, std::span<const std::uint32_t> stragglers,
                     std::span<TierSet> tiers) const noexcept;
  void count_passed(std::uint64_t line, int step);
  [[nodiscard]] std::uint64_t after(std::uint64_t line) const noexcept {
    return line + 1 == key_.line_count ? 0 : line + 1;
  }

  /// What turns a name into a place.
  struct Key {
    std::uint64_t line_count = 0;
    std::uint64_t seed[2] = {};
    [[nodiscard]] std::uint64_t line(const BlockHash& hash, GroupId group) const noexcept;
    [[nodiscard]] static std::uint32_t tag(const BlockHash& hash, GroupId group) noexcept;
    [[nodiscard]] Place place(const BlockHash& hash, GroupId group) const noexcept {
      return {.line = line(hash, group), .tag = tag(hash, group)};
    }
  };

  std::shared_ptr<const Mapping> mapping_;
  std::shared_ptr<const Mapping> passed_mapping_;
  Line* lines_ = nullptr;
  std::uint8_t* passed_ = nullptr;  // the writer's: keys whose cell lies beyond each line
  Key key_;
};

template <class IsIt>
BlockId Directory::find(const Place& place, IsIt&& is_it) const {
  std::uint64_t at = place.line;
  for (std::uint64_t visited = 0; visited < key_.line_count; ++visited, at = after(at)) {
    const Line& line = lines_[at];
    for (const auto& word : line.cells) {
      const std::uint64_t cell = word.load(std::memory_order_acquire);
      if (has_tag(cell, place.tag) && is_it(id_of(cell))) return id_of(cell);
    }
    if (!line.passed()) return kNoBlock;
  }
  return kNoBlock;
}

}  // namespace tiercel
