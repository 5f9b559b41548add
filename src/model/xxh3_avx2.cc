#include "model/xxh3_avx2.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tiercel {

std::uint64_t xxh3_avx2(const void* data, std::size_t bytes, std::uint64_t seed) noexcept {
  return XXH3_64bits_withSeed(data, bytes, seed);
}

}  // namespace tiercel
