#include "cache/waiting_blocks.h"

#include "base/check.h"
#include "base/make_room.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace tiercel {
namespace {

constexpr std::uint64_t kOdd = 0x9E37'79B9'7F4A'7C15U;
constexpr std::size_t kFirstCells = 16;

}  // namespace

// ---- the table

WaitingBlocks::Key WaitingBlocks::key_of(const BlockHash& parent) const noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, parent.bytes.data(), sizeof word);
  word = (word ^ seed_) * kOdd;
  return {.part = word >> 56U, .tag = static_cast<std::uint32_t>(word >> 24U)};
}

std::size_t WaitingBlocks::Part::find(std::uint32_t tag) const noexcept {
  std::size_t at = home(tag);
  while (cells[at].head != kNone && cells[at].tag != tag) at = after(at);
  return at;
}

/// What lies behind it moves up where it may.
void WaitingBlocks::Part::erase(std::size_t cell) noexcept {
  --used;
  for (std::size_t next = after(cell); cells[next].head != kNone; next = after(next)) {
    const std::size_t from = home(cells[next].tag);
    const bool stays = cell <= next ? cell < from && from <= next : cell < from || from <= next;
    if (stays) continue;
    cells[cell] = cells[next];
    cell = next;
  }
  cells[cell] = {};
}

/// For one more: at most four of five cells are used.
void WaitingBlocks::Part::make_room() {
  if ((used + 1) * 5 <= cells.size() * 4) return;
  std::vector<Cell> old(std::max(kFirstCells, cells.size() + cells.size() / 4));
  old.swap(cells);
  for (const Cell& cell : old) {
    if (cell.head != kNone) cells[find(cell.tag)] = cell;
  }
}

// ---- nodes

std::uint32_t WaitingBlocks::new_node() {
  if (first_free_ != kNone) return std::exchange(first_free_, node(first_free_).next);
  if (untouched_ == chunks_.size() * kChunk) {
    TIERCEL_CHECK(untouched_ < kSwept - kChunk, "blocks that wait are counted in 32 bits");
    chunks_.push_back(std::make_unique<Node[]>(kChunk));
  }
  return untouched_++;
}

void WaitingBlocks::free_node(std::uint32_t index) noexcept {
  node(index).next = std::exchange(first_free_, index);
  --size_;
}

std::uint64_t WaitingBlocks::bytes() const noexcept {
  std::uint64_t bytes = sizeof *this + chunks_.size() * kChunk * sizeof(Node);
  for (const Part& part : parts_) bytes += part.cells.size() * sizeof(Cell);
  return bytes;
}

void WaitingBlocks::add(const BlockHash& parent, WaitingPlace place) {
  const Key key = key_of(parent);
  Part& part = parts_[key.part];
  part.make_room();
  const std::uint32_t index = new_node();
  Cell& cell = part.cells[part.find(key.tag)];
  if (cell.head == kNone) ++part.used;
  node(index) = {.next = cell.head, .place = place};
  cell = {.tag = key.tag, .head = index};
  ++size_;
}

void WaitingBlocks::take(const BlockHash& parent, std::vector<WaitingPlace>& to) {
  const Key key = key_of(parent);
  Part& part = parts_[key.part];
  if (part.used == 0) return;
  const std::size_t cell = part.find(key.tag);
  if (part.cells[cell].head == kNone) return;
  std::size_t count = 0;
  for (std::uint32_t i = part.cells[cell].head; i != kNone; i = node(i).next) ++count;
  make_room(to, count);
  for (std::uint32_t i = part.cells[cell].head; i != kNone;) {
    to.push_back(node(i).place);
    free_node(std::exchange(i, node(i).next));
  }
  part.erase(cell);
}

// ---- sweeps

class WaitingBlocks::Sweep {
 public:
  Sweep(WaitingBlocks& blocks, Judge judge) : blocks_(blocks), judge_(judge) {}

  void run(Part& part) {
    for (Cell& cell : part.cells) {
      for (std::uint32_t i = cell.head, next = kNone; i != kNone; i = next) {
        next = blocks_.node(i).next;
        entries_[count_] = {.cell = &cell, .node = i};
        places_[count_++] = blocks_.node(i).place;
        if (count_ == kBatch) end_batch();
      }
    }
    end_batch();
    for (std::size_t at = 0; at < part.cells.size();) {
      if (part.cells[at].head == kSwept) {
        part.erase(at);  // and what has moved up to here is looked at
      } else {
        ++at;
      }
    }
  }

 private:
  struct Entry {
    Cell* cell = nullptr;
    std::uint32_t node = kNone;
  };

  void end_batch() {
    gone_.fill(false);
    if (count_ > 0) judge_(std::span(places_).first(count_), std::span(gone_).first(count_));
    const std::size_t count = std::exchange(count_, 0);
    for (std::size_t i = 0; i < count; ++i) {
      const auto [cell, index] = entries_[i];
      if (std::exchange(cell_, cell) != cell) kept_ = kNone;
      if (!gone_[i]) {
        kept_ = index;
        continue;
      }
      const std::uint32_t next = blocks_.node(index).next;
      (kept_ == kNone ? cell->head : blocks_.node(kept_).next) = next;
      if (cell->head == kNone) cell->head = kSwept;  // what lies behind it is to be found meanwhile
      blocks_.free_node(index);
    }
  }

  WaitingBlocks& blocks_;
  Judge judge_;
  std::array<Entry, kBatch> entries_{};
  std::array<WaitingPlace, kBatch> places_{};
  std::array<bool, kBatch> gone_{};
  std::size_t count_ = 0;
  Cell* cell_ = nullptr;        // of the last entry
  std::uint32_t kept_ = kNone;  // the last node of its list that stays
};

void WaitingBlocks::sweep(Judge judge) {
  Sweep sweep(*this, judge);
  for (Part& part : parts_) sweep.run(part);
  if (size_ > 0) return;
  parts_ = {};
  chunks_.clear();
  untouched_ = 0;
  first_free_ = kNone;
}

}  // namespace tiercel
