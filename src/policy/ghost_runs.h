// GhostRuns: the names of blocks that went, in runs: blocks of one sequence, one behind the other, that were last used
// together and went one after the other, tail first. A bounded number of runs; the oldest is forgotten.
//
// A run keeps its first block's name and parts of the names at 0, 1, 8 and 32 blocks before its end. A sequence that
// comes back shows with these how much of the run it shares: all, all but the last, or at least so much; a name stands
// for all blocks before it, so a later match proves the earlier ones. 38 bytes a run. One thread; no IO, no locks.
#pragma once

#include "policy/block_numbers.h"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace tiercel {

class GhostRuns {
 public:
  using Index = std::uint32_t;
  static constexpr Index kNone = UINT32_MAX;
  static constexpr std::size_t kMarks = 4;
  static constexpr std::array<std::uint32_t, kMarks> kMarkedFromEnd = {0, 1, 8, 32};

  struct Run {
    std::uint64_t name = 0;  ///< of the first block
    Index record = kNone;    ///< of the owner; kNone: the run is free
    Index older = kNone;     ///< of a free run: the next free one
    Index newer = kNone;
    std::uint16_t blocks = 0;
    std::uint8_t pace = 0;              ///< of the owner, of the first block
    std::uint8_t children_of_last = 0;  ///< of the owner
    std::array<std::uint16_t, kMarks> marks{};
  };
  static_assert(sizeof(Run) == 32);
  static constexpr std::uint64_t kBytesPerRun = sizeof(Run) + BlockNumbers::kBytesPerBlock;

  explicit GhostRuns(std::uint64_t most) : numbers_(most), most_(most) {}

  [[nodiscard]] Index find(std::uint64_t name) const;
  [[nodiscard]] const Run& run(Index index) const { return runs_[index]; }
  /// How many leading blocks of `names`, which begins with the run's first block, are the run's; at least 1.
  [[nodiscard]] std::uint32_t shared(Index index, std::span<const std::uint64_t> names) const;

  /// A run of one block, whose name has no run yet. There must be room.
  [[nodiscard]] Index add(const Run& run);
  /// Is this a run of `record` that has room for the block before it? `index` may be of a run that is gone.
  [[nodiscard]] bool may_grow(Index index, Index record) const {
    return index != kNone && runs_[index].record == record && runs_[index].blocks < UINT16_MAX;
  }
  /// The block before the run's first joins it.
  void grow(Index index, std::uint64_t name, std::uint8_t pace);
  void remove(Index index);

  [[nodiscard]] bool full() const noexcept { return count_ >= most_; }
  [[nodiscard]] Index oldest() const noexcept { return oldest_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return runs_.capacity() * sizeof(Run) + numbers_.bytes(); }

 private:
  [[nodiscard]] auto name_of() const {
    return [this](Index index) { return runs_[index].name; };
  }
  static void mark(Run& run);
  void link_newest(Index index);
  void unlink(Index index);

  std::vector<Run> runs_;
  BlockNumbers numbers_;
  Index free_ = kNone;
  Index oldest_ = kNone;
  Index newest_ = kNone;
  std::uint64_t count_ = 0;
  std::uint64_t most_;
};

}  // namespace tiercel
