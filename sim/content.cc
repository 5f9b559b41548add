#include "sim/content.h"

#include "base/check.h"
#include "base/random.h"

#include <cstring>

namespace tiercel::sim {
namespace {

constexpr std::uint64_t kMagic = 0x5349'4D42'4C4F'434BU;  // "KCOLBMIS"
constexpr std::size_t kHeadWords = 5;

std::uint64_t seed_of(const Stamp& stamp) {
  return Random(Random(Random(stamp.key).next() ^ stamp.writer).next() ^ stamp.sequence).next();
}

std::uint64_t word_at(std::uint64_t seed, std::size_t at) { return seed + at * 0x9E37'79B9'7F4A'7C15U; }

void put(std::span<std::byte> to, std::size_t at, std::uint64_t word) {
  std::memcpy(to.data() + at, &word, sizeof word);
}

std::uint64_t get(std::span<const std::byte> from, std::size_t at) {
  std::uint64_t word = 0;
  std::memcpy(&word, from.data() + at, sizeof word);
  return word;
}

}  // namespace

void write_content(std::span<std::byte> to, const Stamp& stamp) {
  TIERCEL_CHECK(to.size() >= kLeastContentBytes && to.size() % 8 == 0 && stamp.bytes == to.size(),
                "simulated content has whole words and says its size");
  const std::uint64_t head[kHeadWords] = {kMagic, stamp.key, stamp.writer, stamp.sequence, stamp.bytes};
  std::memcpy(to.data(), head, sizeof head);
  const std::uint64_t seed = seed_of(stamp);
  for (std::size_t at = sizeof head; at < to.size(); at += 8) put(to, at, word_at(seed, at));
}

std::optional<Stamp> read_stamp(std::span<const std::byte> bytes) {
  if (bytes.size() < kLeastContentBytes || get(bytes, 0) != kMagic) return std::nullopt;
  return Stamp{.key = get(bytes, 8), .writer = get(bytes, 16), .sequence = get(bytes, 24), .bytes = get(bytes, 32)};
}

std::optional<std::size_t> first_difference(std::span<const std::byte> bytes, const Stamp& stamp) {
  const std::uint64_t head[kHeadWords] = {kMagic, stamp.key, stamp.writer, stamp.sequence, stamp.bytes};
  for (std::size_t i = 0; i < kHeadWords; ++i) {
    if (get(bytes, i * 8) != head[i]) return i * 8;
  }
  const std::uint64_t seed = seed_of(stamp);
  for (std::size_t at = sizeof head; at + 8 <= bytes.size(); at += 8) {
    if (get(bytes, at) != word_at(seed, at)) return at;
  }
  return std::nullopt;
}

}  // namespace tiercel::sim
