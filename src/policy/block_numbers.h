// BlockNumbers: a hash table from the 64-bit names of blocks to numbers of a pool, linear probing, at most two thirds
// full: 6 bytes a block. The pool keeps the names; `name_of(number)` is asked for them. One thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace tiercel {

class BlockNumbers {
 public:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  static constexpr std::uint64_t kBytesPerBlock = 6;

  explicit BlockNumbers(std::uint64_t blocks) : cells_(std::max<std::uint64_t>(blocks, 8) * 3 / 2 + 1, kNone) {}

  template <class NameOf>
  [[nodiscard]] std::uint32_t find(std::uint64_t name, const NameOf& name_of) const {
    for (std::uint64_t at = home(name);; at = next(at)) {
      if (cells_[at] == kNone || name_of(cells_[at]) == name) return cells_[at];
    }
  }

  /// `number` must not be in the table.
  template <class NameOf>
  void insert(std::uint32_t number, const NameOf& name_of) {
    if (3 * (count_ + 1) > 2 * cells_.size()) {
      std::vector<std::uint32_t> old(cells_.size() + cells_.size() / 4, kNone);
      old.swap(cells_);
      for (const std::uint32_t moved : old) {
        if (moved != kNone) place(moved, name_of(moved));
      }
    }
    place(number, name_of(number));
    ++count_;
  }

  /// `name` must be in the table. Those behind it move up, so that no mark is left.
  template <class NameOf>
  void erase(std::uint64_t name, const NameOf& name_of) {
    std::uint64_t hole = home(name);
    while (name_of(cells_[hole]) != name) hole = next(hole);
    for (std::uint64_t at = next(hole); cells_[at] != kNone; at = next(at)) {
      if (distance(home(name_of(cells_[at])), at) >= distance(hole, at)) {
        cells_[hole] = cells_[at];
        hole = at;
      }
    }
    cells_[hole] = kNone;
    --count_;
  }

  [[nodiscard]] std::uint64_t bytes() const noexcept { return cells_.size() * sizeof(std::uint32_t); }

 private:
  [[nodiscard]] std::uint64_t home(std::uint64_t name) const noexcept {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<Wide>(name * 0x9E3779B97F4A7C15U) * cells_.size()) >> 64U);
  }
  [[nodiscard]] std::uint64_t next(std::uint64_t at) const noexcept { return at + 1 == cells_.size() ? 0 : at + 1; }
  [[nodiscard]] std::uint64_t distance(std::uint64_t from, std::uint64_t to) const noexcept {
    return to >= from ? to - from : to + cells_.size() - from;
  }
  void place(std::uint32_t number, std::uint64_t name) {
    std::uint64_t at = home(name);
    while (cells_[at] != kNone) at = next(at);
    cells_[at] = number;
  }

  std::vector<std::uint32_t> cells_;
  std::uint64_t count_ = 0;
};

}  // namespace tiercel
