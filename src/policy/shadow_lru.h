// ShadowLru: what LRU would hold after the same uses, by names alone, to judge a learned policy by.
//
// It sees every use: the shadow of a sample of sequences (1 in 4, by their roots or behind the first wide fork) was off
// by 0.5 to 20 % of the block uses on recorded workloads, which is more than what it has to tell. 18 bytes a block: of
// a name it keeps 32 bits, so that one block in 2^32 / capacity is taken for another. One thread; no IO, no locks; O(1)
// a call.
#pragma once

#include "policy/block_numbers.h"

#include <cstdint>
#include <vector>

namespace tiercel {

class ShadowLru {
 public:
  static constexpr std::uint64_t kBytesPerBlock = 12 + BlockNumbers::kBytesPerBlock;

  /// With a capacity of 0 it holds nothing.
  explicit ShadowLru(std::uint64_t capacity);

  [[nodiscard]] bool holds(std::uint64_t block) const;
  /// The blocks of a use, tail first; what is too much goes at once.
  void touch(std::uint64_t block);
  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return entries_.capacity() * sizeof(Entry) + numbers_.bytes(); }

 private:
  static constexpr std::uint32_t kNone = BlockNumbers::kNone;
  struct Entry {
    std::uint32_t mark = 0;
    std::uint32_t older = kNone;
    std::uint32_t newer = kNone;
  };
  static_assert(sizeof(Entry) == 12);

  [[nodiscard]] auto mark_at() const {
    return [this](std::uint32_t entry) { return std::uint64_t{entries_[entry].mark}; };
  }
  void link_newest(std::uint32_t entry);
  void unlink(std::uint32_t entry);

  std::uint64_t capacity_;
  BlockNumbers numbers_;
  std::vector<Entry> entries_;
  std::uint32_t oldest_ = kNone;
  std::uint32_t newest_ = kNone;
};

}  // namespace tiercel
