// Goal: the checksum is XXH3-64 of the bytes, seeded by who they are, whatever instructions the processor has: files go
// from one machine to another.
#include "model/block_checksum.h"

#include "base/random.h"
#include "model/xxh3_avx2.h"

#include <gtest/gtest.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>
#include <vector>

namespace tiercel {
namespace {

std::vector<std::byte> random_bytes(std::size_t count) {
  std::vector<std::byte> bytes(count);
  Random random(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
  return bytes;
}

/// Written from the text of docs/formats.md.
std::uint64_t by_the_book(const BlockIdentity& identity, std::span<const std::byte> bytes) {
  std::vector<std::byte> claim(88);
  std::memcpy(claim.data(), identity.fingerprint.bytes.data(), 32);
  std::memcpy(claim.data() + 32, identity.hash.bytes.data(), 32);
  const std::uint64_t numbers[3] = {identity.group, bytes.size(), identity.generation};
  std::memcpy(claim.data() + 64, numbers, 24);
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), XXH3_64bits(claim.data(), claim.size()));
}

TEST(BlockChecksum, IsTheSameNumberOnEveryProcessorForEveryLength) {
  const std::vector<std::byte> bytes = random_bytes((std::size_t{1} << 20U) + 77);
  BlockHash fingerprint;
  BlockHash hash;
  hash.bytes[3] = std::byte{9};
  const BlockIdentity identity{.fingerprint = fingerprint, .hash = hash, .generation = 12345};
  std::vector<std::size_t> lengths{4096, 65536, std::size_t{1} << 20U, bytes.size()};
  for (std::size_t length = 1; length < 2100; ++length) lengths.push_back(length);
  for (const std::size_t length : lengths) {
    const auto first = std::span(bytes).first(length);
    const auto last = std::span(bytes).last(length);  // at an odd address
    EXPECT_EQ(block_checksum(identity, first), by_the_book(identity, first)) << length;
    EXPECT_EQ(block_checksum(identity, last), by_the_book(identity, last)) << length;
  }
}

#ifdef __x86_64__
TEST(BlockChecksum, WideVectorsMakeTheSameHash) {
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "this processor has no AVX2";
  const std::vector<std::byte> bytes = random_bytes(300'001);
  for (std::size_t length = 0; length <= bytes.size(); length += 1 + length / 7) {
    EXPECT_EQ(xxh3_avx2(bytes.data() + 1, length == 0 ? 0 : length - 1, length),
              XXH3_64bits_withSeed(bytes.data() + 1, length == 0 ? 0 : length - 1, length))
        << length;
  }
}
#endif

}  // namespace
}  // namespace tiercel
