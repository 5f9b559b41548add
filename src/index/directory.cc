#include "index/directory.h"

#include "base/check.h"
#include "base/random.h"
#include "base/try.h"

#include <fmt/format.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cstring>

// The thread sanitizer cannot know that these vector loads are whole words; it gets the scalar form.
#if defined(__SANITIZE_THREAD__)
#define TIERCEL_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TIERCEL_THREAD_SANITIZER
#endif
#endif

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
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("index.blocks: {} is outside 1 to {}", options.capacity, kMaxEntries));
  }
  Directory directory;
  directory.key_.line_count = options.capacity * 2 / 9 + 2;  // 4.5 keys a line
  TIERCEL_TRY_ASSIGN(directory.mapping_, Mapping::create({.bytes = directory.key_.line_count * sizeof(Line),
                                                          .huge_pages = options.huge_pages,
                                                          .name = "index.blocks"}));
  directory.lines_ = reinterpret_cast<Line*>(directory.mapping_.data());  // zero bytes are empty lines
  Random random(options.seed);
  for (std::uint64_t& word : directory.key_.seed) word = random.next();
  return directory;
}

Directory::Place Directory::Key::place(const BlockHash& hash, GroupId group) const noexcept {
  // One multiplication keyed by two secret words, folded; the name is a SHA-256 already, the key keeps callers from
  // choosing names that share a line.
  const Wide product = static_cast<Wide>(word_at(hash, 0) ^ seed[0]) * (word_at(hash, 8) ^ seed[1] ^ group);
  const std::uint64_t mixed = static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U);
  return {.line = static_cast<std::uint64_t>((static_cast<Wide>(mixed) * line_count) >> 64U),
          .tag = static_cast<std::uint32_t>(word_at(hash, 16)) ^ group};
}

void Directory::insert(const Place& place, BlockId id) {
  std::uint64_t at = place.line;
  for (std::uint64_t visited = 0; visited < key_.line_count; ++visited, at = after(at)) {
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
  for (std::uint64_t visited = 0; visited < key_.line_count; ++visited, at = after(at)) {
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
  for (std::uint64_t visited = 0; visited < key_.line_count; ++visited, at = after(at)) {
    for (auto& word : lines_[at].cells) {
      const std::uint64_t cell = word.load(std::memory_order_relaxed);
      if (!has_tag(cell, place.tag) || id_of(cell) != id) continue;
      word.store(cell_of(place.tag, id, ready), std::memory_order_release);
      return;
    }
  }
  TIERCEL_CHECK(false, "a key whose state changes is in the directory");
}

/// A bit for each cell whose upper half is `tag`; an empty cell agrees with tag 0, so the cell itself decides. Compared
/// without a branch: which cell agrees is as good as random, and a wrong guess costs more than all comparisons.
unsigned Directory::cells_with_tag(const Line& line, std::uint32_t tag) noexcept {
#if defined(__SSE2__) && !defined(TIERCEL_THREAD_SANITIZER)
  // Vector loads are not atomic for the language, but no x86 tears an aligned 8-byte word, and a word that is chosen
  // here is loaded again atomically.
  const auto* words = reinterpret_cast<const __m128i*>(&line);
  const auto upper_halves = [](__m128i low, __m128i high) {
    return _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(low), _mm_castsi128_ps(high), 0xDD));
  };
  const __m128i wanted = _mm_set1_epi32(static_cast<int>(tag));
  const __m128i first = upper_halves(_mm_load_si128(words), _mm_load_si128(words + 1));
  const __m128i second = upper_halves(_mm_load_si128(words + 2), _mm_load_si128(words + 3));
  const auto bits = [&](__m128i halves) {
    return static_cast<unsigned>(_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(halves, wanted))));
  };
  return (bits(first) | bits(second) << 4U) >> 1U;  // word 0 is the count
#else
  unsigned found = 0;
  for (unsigned i = 0; i < kCells; ++i) {
    found |= static_cast<unsigned>(line.cells[i].load(std::memory_order_relaxed) >> 32U == tag) << i;
  }
  return found;
#endif
}

TierSet Directory::ready_tiers(const Place& place) const noexcept {
  std::uint64_t at = place.line;
  for (std::uint64_t visited = 0; visited < key_.line_count; ++visited, at = after(at)) {
    const Line& line = lines_[at];
    for (unsigned found = cells_with_tag(line, place.tag); found != 0; found &= found - 1) {
      const std::uint64_t cell = line.cells[std::countr_zero(found)].load(std::memory_order_acquire);
      if (has_tag(cell, place.tag)) [[likely]]
        return tiers_of(cell);
    }
    if (line.passed.load(std::memory_order_acquire) == 0) break;
  }
  return {};
}

/// Looks hashes up in order with kAhead lines on their way; `answer(i, tiers)` says whether to go on. Works on copies
/// of the members: acquire loads would make the compiler read them anew for every hash.
template <class Answer>
std::size_t Directory::scan(std::span<const BlockHash> hashes, GroupId group, Answer&& answer) const noexcept {
  const Key key = key_;
  const Line* const lines = lines_;
  Place places[kAhead];
  const std::size_t warm = std::min(kAhead, hashes.size());
  for (std::size_t i = 0; i < warm; ++i) {
    places[i] = key.place(hashes[i], group);
    __builtin_prefetch(lines + places[i].line);
  }
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    const Place current = places[i % kAhead];
    if (i + kAhead < hashes.size()) {
      const Place next = key.place(hashes[i + kAhead], group);
      __builtin_prefetch(lines + next.line);
      places[i % kAhead] = next;
    }
    const Line& home = lines[current.line];
    const unsigned found = cells_with_tag(home, current.tag);
    const std::uint64_t cell = home.cells[std::countr_zero(found | 1U << (kCells - 1))].load(std::memory_order_acquire);
    const TierSet tiers = has_tag(cell, current.tag) ? tiers_of(cell) : ready_tiers(current);
    if (!answer(i, tiers)) return i;
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
  for (std::uint64_t visited = 1; visited <= key_.line_count; ++visited, at = after(at)) {
    for (const auto& word : lines_[at].cells) {
      const std::uint64_t cell = word.load(std::memory_order_acquire);
      if (has_tag(cell, place.tag) && id_of(cell) == id) return visited;
    }
  }
  return 0;
}

}  // namespace tiercel
