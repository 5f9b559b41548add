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

/// Of the product of 128 bits.
std::uint64_t upper_half(std::uint64_t left, std::uint64_t right) noexcept {
  return static_cast<std::uint64_t>((static_cast<Wide>(left) * right) >> 64U);
}

}  // namespace

Result<Directory> Directory::create(const Options& options) {
  if (options.capacity == 0 || options.capacity > kMaxEntries) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("index.blocks: {} is outside 1 to {}", options.capacity, kMaxEntries));
  }
  Directory directory;
  directory.key_.line_count = options.capacity * 8 / 35 + 2;  // 4.375 keys a line
  TIERCEL_TRY_ASSIGN(directory.mapping_, Mapping::share({.bytes = directory.key_.line_count * sizeof(Line),
                                                         .huge_pages = options.huge_pages,
                                                         .name = "index.blocks"}));
  TIERCEL_TRY_ASSIGN(
      directory.passed_mapping_,
      Mapping::share({.bytes = directory.key_.line_count, .huge_pages = options.huge_pages, .name = "index.blocks"}));
  directory.lines_ = reinterpret_cast<Line*>(directory.mapping_->data());  // zero bytes are empty lines
  directory.passed_ = reinterpret_cast<std::uint8_t*>(directory.passed_mapping_->data());
  Random random(options.seed);
  for (std::uint64_t& word : directory.key_.seed) word = random.next();
  return directory;
}

std::uint64_t Directory::Key::line(const BlockHash& hash, GroupId group) const noexcept {
  // One multiplication keyed by two secret words, folded; the name is a SHA-256 already, the key keeps callers from
  // choosing names that share a line.
  const std::uint64_t left = word_at(hash, 0) ^ seed[0];
  const std::uint64_t right = word_at(hash, 8) ^ (seed[1] ^ group);
  return upper_half(left * right ^ upper_half(left, right), line_count);
}

std::uint32_t Directory::Key::tag(const BlockHash& hash, GroupId group) noexcept {
  return static_cast<std::uint32_t>(word_at(hash, 16)) ^ group;
}

void Directory::insert(const Place& place, BlockId id) {
  std::uint64_t at = place.line;
  for (std::uint64_t visited = 0; visited < key_.line_count; ++visited, at = after(at)) {
    for (auto& word : lines_[at].cells) {
      const std::uint64_t cell = word.load(std::memory_order_relaxed);  // relaxed: this is the only writer
      if (!is_empty(cell)) continue;
      word.store(cell_of(place.tag, id, {}) | (cell & kPassed), std::memory_order_release);
      return;
    }
    count_passed(at, 1);
  }
  TIERCEL_CHECK(false, "the directory has room for every entry");
}

/// Raises or lowers the count of keys beyond a line, and marks the line while there are any. A count that ran full
/// stays so: its line is then looked past for ever, which costs a read and no answer.
void Directory::count_passed(std::uint64_t line, int step) {
  std::uint8_t& count = passed_[line];
  if (count == UINT8_MAX) return;
  count = static_cast<std::uint8_t>(count + step);
  auto& word = lines_[line].cells[kCells - 1];
  const std::uint64_t cell = word.load(std::memory_order_relaxed);
  word.store(count != 0 ? cell | kPassed : cell & ~kPassed, std::memory_order_release);
}

void Directory::erase(const Place& place, BlockId id) {
  std::uint64_t at = place.line;
  for (std::uint64_t visited = 0; visited < key_.line_count; ++visited, at = after(at)) {
    for (auto& word : lines_[at].cells) {
      const std::uint64_t cell = word.load(std::memory_order_relaxed);
      if (!has_tag(cell, place.tag) || id_of(cell) != id) continue;
      word.store(cell & kPassed, std::memory_order_release);
      for (std::uint64_t passed = place.line; passed != at; passed = after(passed)) count_passed(passed, -1);
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
      word.store(cell_of(place.tag, id, ready) | (cell & kPassed), std::memory_order_release);
      return;
    }
  }
  TIERCEL_CHECK(false, "a key whose state changes is in the directory");
}

/// The first cell whose upper half is `tag`, else the last cell; an empty cell agrees with tag 0, so the cell itself
/// decides. Without a branch: which cell agrees is as good as random, and a wrong guess costs more than all
/// comparisons.
std::size_t Directory::first_with_tag(const Line& line, std::uint32_t tag) noexcept {
#if defined(__SSE2__) && !defined(TIERCEL_THREAD_SANITIZER)
  // Vector loads are not atomic for the language, but no x86 tears an aligned 8-byte word, and the word that is chosen
  // here is loaded again atomically.
  const auto* words = reinterpret_cast<const __m128i*>(&line);
  const auto upper_halves = [](__m128i low, __m128i high) {
    return _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(low), _mm_castsi128_ps(high), 0xDD));
  };
  const __m128i wanted = _mm_set1_epi32(static_cast<int>(tag));
  const __m128i first = upper_halves(_mm_load_si128(words), _mm_load_si128(words + 1));
  const __m128i second = upper_halves(_mm_load_si128(words + 2), _mm_load_si128(words + 3));
  const __m128i agree = _mm_packs_epi32(_mm_cmpeq_epi32(first, wanted), _mm_cmpeq_epi32(second, wanted));
  const auto two_bits_a_cell = static_cast<unsigned>(_mm_movemask_epi8(agree));
  return static_cast<unsigned>(std::countr_zero(two_bits_a_cell | ~0U << 2 * (kCells - 1))) / 2;
#else
  unsigned found = 1U << (kCells - 1);
  for (unsigned i = 0; i < kCells; ++i) {
    found |= static_cast<unsigned>(line.cells[i].load(std::memory_order_relaxed) >> 32U == tag) << i;
  }
  return static_cast<unsigned>(std::countr_zero(found));
#endif
}

/// The ready tiers of a key whose cell is in this line: 1 to 7. Anything else says nothing: ready_tiers() knows.
std::uint64_t Directory::peek(const Line& line, std::uint32_t tag) noexcept {
  const std::uint64_t cell = line.cells[first_with_tag(line, tag)].load(std::memory_order_acquire);
  return cell >> 29U ^ std::uint64_t{tag} << 3U;
}

TierSet Directory::ready_tiers(const Place& place) const noexcept {
  std::uint64_t at = place.line;
  for (std::uint64_t visited = 0; visited < key_.line_count; ++visited, at = after(at)) {
    const Line& line = lines_[at];
    const std::uint64_t first = line.cells[first_with_tag(line, place.tag)].load(std::memory_order_acquire);
    if (has_tag(first, place.tag)) return tiers_of(first);
    for (std::size_t i = 0; i < kCells && place.tag == 0; ++i) {  // an empty cell may stand before the one with tag 0
      const std::uint64_t cell = line.cells[i].load(std::memory_order_acquire);
      if (has_tag(cell, 0)) return tiers_of(cell);
    }
    if (!line.passed()) break;
  }
  return {};
}

/// Looks at the home line of each hash, in order, with kAhead lines on their way. A block that this does not show as
/// ready (1 in 80 of those that are) is a straggler and waits until some have gathered; then the lines behind their
/// homes are fetched together. So neither a wrong guess nor a line that is not there yet stops the rest.
template <bool kStopAtGap>
std::size_t Directory::scan(std::span<const BlockHash> hashes, GroupId group, std::span<TierSet> tiers) const noexcept {
  const Key key = key_;  // copies: acquire loads would make the compiler read the members anew for every hash
  const Line* const lines = lines_;
  const std::size_t count = hashes.size();
  const Line* ahead[kAhead];
  std::uint32_t stragglers[kGather + kAhead];
  std::size_t waiting = 0;
  const auto fetch = [&](std::size_t i, std::size_t slot) {
    ahead[slot] = lines + key.line(hashes[i], group);
    __builtin_prefetch(ahead[slot]);
  };
  const auto look = [&](std::size_t i, const Line* line) {
    const std::uint64_t seen = peek(*line, Key::tag(hashes[i], group));
    tiers[i].bits = static_cast<std::uint8_t>(seen);
    stragglers[waiting] = static_cast<std::uint32_t>(i);
    waiting += seen - 1 < 7 ? 0 : 1;
  };

  for (std::size_t i = 0; i < std::min(kAhead, count); ++i) fetch(i, i);
  for (std::size_t begin = 0; begin < count; begin += kAhead) {
    const std::size_t next = begin + kAhead;
    if (next + kAhead <= count) {
      for (std::size_t slot = 0; slot < kAhead; ++slot) {
        const Line* const line = ahead[slot];
        fetch(next + slot, slot);
        look(begin + slot, line);
      }
    } else {
      for (std::size_t slot = 0; slot < std::min(kAhead, count - begin); ++slot) {
        const Line* const line = ahead[slot];
        if (next + slot < count) fetch(next + slot, slot);
        look(begin + slot, line);
      }
    }
    if (waiting < kGather && next < count) continue;
    const std::size_t gap = settle<kStopAtGap>(hashes, group, {stragglers, waiting}, tiers);
    if (gap != kNoGap) return gap;
    waiting = 0;
  }
  return count;
}

/// The tiers of the blocks that `stragglers` names. Ends at the first that has none and answers it, if asked to.
template <bool kStopAtGap>
std::size_t Directory::settle(std::span<const BlockHash> hashes, GroupId group,
                              std::span<const std::uint32_t> stragglers, std::span<TierSet> tiers) const noexcept {
  for (const std::uint32_t i : stragglers) {
    const std::uint64_t home = key_.line(hashes[i], group);
    __builtin_prefetch(lines_ + (lines_[home].passed() ? after(home) : home));
  }
  for (const std::uint32_t i : stragglers) {
    const Place place = key_.place(hashes[i], group);
    const std::uint64_t seen = peek(lines_[after(place.line)], place.tag);
    tiers[i] = seen - 1 < 7 ? TierSet{.bits = static_cast<std::uint8_t>(seen)} : ready_tiers(place);
    if (kStopAtGap && tiers[i].bits == 0) return i;
  }
  return kNoGap;
}

std::size_t Directory::match_leading(std::span<const BlockHash> hashes, GroupId group,
                                     std::span<TierSet> tiers) const noexcept {
  return scan<true>(hashes, group, tiers);
}

void Directory::lookup(std::span<const BlockHash> hashes, GroupId group, std::span<TierSet> tiers) const noexcept {
  scan<false>(hashes, group, tiers);
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
