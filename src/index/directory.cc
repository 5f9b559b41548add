#include "index/directory.h"

#include "base/check.h"
#include "base/random.h"
#include "base/try.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace tiercel {
namespace {

__extension__ using Wide = unsigned __int128;

std::uint64_t word_at(const BlockHash& hash, std::size_t offset) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, hash.bytes.data() + offset, sizeof word);
  return word;
}

}  // namespace

Result<Directory> Directory::create(const Options& options) {
  if (options.capacity == 0 || options.capacity > kMaxEntries) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("index.blocks: {} is outside 1 to {}", options.capacity,
                                                         kMaxEntries));
  }
  Directory directory;
  directory.line_count_ = options.capacity * 2 / 9 + 2;  // 4.5 keys a line
  TIERCEL_TRY_ASSIGN(directory.mapping_, Mapping::create({.bytes = directory.line_count_ * sizeof(Line),
                                                          .huge_pages = options.huge_pages,
                                                          .name = "index.blocks"}));
  directory.lines_ = reinterpret_cast<Line*>(directory.mapping_.data());  // zero bytes are empty lines
  Random random(options.seed);
  for (std::uint64_t& word : directory.seed_) word = random.next();
  return directory;
}

Directory::Place Directory::place(const BlockHash& hash, GroupId group) const noexcept {
  // One multiplication keyed by two secret words, folded; the name is a SHA-256 already, the key keeps callers from
  // choosing names that share a line.
  const Wide product = static_cast<Wide>(word_at(hash, 0) ^ seed_[0]) * (word_at(hash, 8) ^ seed_[1] ^ group);
  const std::uint64_t mixed = static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U);
  return {.line = static_cast<std::uint64_t>((static_cast<Wide>(mixed) * line_count_) >> 64U),
          .tag = static_cast<std::uint32_t>(word_at(hash, 16)) ^ group};
}

void Directory::insert(const Place& place, BlockId id) {
  std::uint64_t at = place.line;
  for (std::uint64_t visited = 0; visited < line_count_; ++visited, at = after(at)) {
    Line& line = lines_[at];
    for (auto& word : line.cells) {
      if (word.load(std::memory_order_relaxed) != 0) continue;  // relaxed: this is the only writer
      word.store(cell_of(place.tag, id, {}), std::memory_order_release);
      return;
    }
    line.passed.fetch_add(1, std::memory_order_release);
  }
  TIERCEL_CHECK(false, "the directory has room for every entry");
}

void Directory::erase(const Place& place, BlockId id) {
  std::uint64_t at = place.line;
  for (std::uint64_t visited = 0; visited < line_count_; ++visited, at = after(at)) {
    for (auto& word : lines_[at].cells) {
      const std::uint64_t cell = word.load(std::memory_order_relaxed);
      if (!has_tag(cell, place.tag) || id_of(cell) != id) continue;
      word.store(0, std::memory_order_release);
      for (std::uint64_t passed = place.line; passed != at; passed = after(passed)) {
        lines_[passed].passed.fetch_sub(1, std::memory_order_release);
      }
      return;
    }
  }
  TIERCEL_CHECK(false, "an erased key is in the directory");
}

void Directory::set_tiers(const Place& place, BlockId id, TierSet ready) {
  std::uint64_t at = place.line;
  for (std::uint64_t visited = 0; visited < line_count_; ++visited, at = after(at)) {
    for (auto& word : lines_[at].cells) {
      const std::uint64_t cell = word.load(std::memory_order_relaxed);
      if (!has_tag(cell, place.tag) || id_of(cell) != id) continue;
      word.store(cell_of(place.tag, id, ready), std::memory_order_release);
      return;
    }
  }
  TIERCEL_CHECK(false, "a key whose state changes is in the directory");
}

TierSet Directory::ready_tiers(const Place& place) const noexcept {
  std::uint64_t at = place.line;
  for (std::uint64_t visited = 0; visited < line_count_; ++visited, at = after(at)) {
    const Line& line = lines_[at];
    for (const auto& word : line.cells) {
      const std::uint64_t cell = word.load(std::memory_order_acquire);
      if (has_tag(cell, place.tag)) return tiers_of(cell);
    }
    if (line.passed.load(std::memory_order_acquire) == 0) break;
  }
  return {};
}

/// Looks hashes up in order with kAhead lines on their way; `answer(i, tiers)` says whether to go on.
template <class Answer>
std::size_t Directory::scan(std::span<const BlockHash> hashes, GroupId group, Answer&& answer) const noexcept {
  Place places[kAhead];
  const std::size_t warm = std::min(kAhead, hashes.size());
  for (std::size_t i = 0; i < warm; ++i) {
    places[i] = place(hashes[i], group);
    prefetch(places[i]);
  }
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    const Place current = places[i % kAhead];
    if (i + kAhead < hashes.size()) {
      places[i % kAhead] = place(hashes[i + kAhead], group);
      prefetch(places[i % kAhead]);
    }
    if (!answer(i, ready_tiers(current))) return i;
  }
  return hashes.size();
}

std::size_t Directory::match_leading(std::span<const BlockHash> hashes, GroupId group,
                                     std::span<TierSet> tiers) const noexcept {
  return scan(hashes, group, [&](std::size_t i, TierSet ready) {
    tiers[i] = ready;
    return ready.bits != 0;
  });
}

void Directory::lookup(std::span<const BlockHash> hashes, GroupId group, std::span<TierSet> tiers) const noexcept {
  scan(hashes, group, [&](std::size_t i, TierSet ready) {
    tiers[i] = ready;
    return true;
  });
}

std::uint64_t Directory::lines_touched(const Place& place, BlockId id) const noexcept {
  std::uint64_t at = place.line;
  for (std::uint64_t visited = 1; visited <= line_count_; ++visited, at = after(at)) {
    for (const auto& word : lines_[at].cells) {
      const std::uint64_t cell = word.load(std::memory_order_acquire);
      if (has_tag(cell, place.tag) && id_of(cell) == id) return visited;
    }
  }
  return 0;
}

}  // namespace tiercel
