#include "model/block_checksum.h"

#include "model/xxh3_avx2.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>

namespace tiercel {
namespace {

std::uint64_t hash_of(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
#ifdef TIERCEL_XXH3_AVX2
  static const bool kAvx2 = __builtin_cpu_supports("avx2") != 0;
  if (kAvx2) return xxh3_avx2(bytes.data(), bytes.size(), seed);
#endif
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace

std::uint64_t block_checksum(const BlockIdentity& identity, std::span<const std::byte> bytes) {
  // fingerprint 32 | hash 32 | group u64 | length u64 | generation u64, little-endian
  unsigned char claim[32 + 32 + 3 * 8];
  const std::uint64_t numbers[3] = {identity.group, bytes.size(), identity.generation};
  std::memcpy(claim, identity.fingerprint.bytes.data(), 32);
  std::memcpy(claim + 32, identity.hash.bytes.data(), 32);
  std::memcpy(claim + 64, numbers, sizeof numbers);
  return hash_of(bytes, XXH3_64bits(claim, sizeof claim));
}

}  // namespace tiercel
