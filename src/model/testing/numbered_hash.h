// numbered_hash: the n-th of a fixed sequence of block hashes, as evenly spread as real ones. For tests and benchmarks.
#pragma once

#include "base/random.h"

#include <tiercel/block.h>

#include <cstdint>
#include <cstring>

namespace tiercel::testing_support {

[[nodiscard]] inline BlockHash numbered_hash(std::uint64_t n) noexcept {
  Random random(n);
  BlockHash hash;
  for (std::size_t i = 0; i < hash.bytes.size(); i += sizeof(std::uint64_t)) {
    const std::uint64_t word = random.next();
    std::memcpy(hash.bytes.data() + i, &word, sizeof word);
  }
  return hash;
}

}  // namespace tiercel::testing_support
