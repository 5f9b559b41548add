// The checksum of a block's bytes: XXH3-64, seeded with all that the bytes claim to be, so that the right bytes under
// the wrong name, length or generation do not pass. docs/formats.md, "Block checksum".
#pragma once

#include <tiercel/block.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tiercel {

struct BlockIdentity {
  const BlockHash& fingerprint;
  const BlockHash& hash;
  std::uint8_t group = 0;
  std::uint64_t generation = 0;
};

[[nodiscard]] std::uint64_t block_checksum(const BlockIdentity& identity, std::span<const std::byte> bytes);

}  // namespace tiercel
