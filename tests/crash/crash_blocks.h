// What the killed writer and its test agree on: the cache, the chains, and a block's bytes as a function of its name.
#pragma once

#include <tiercel/cache.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace tiercel::crash {

inline constexpr std::uint64_t kBlockBytes = 16 * 1024;
inline constexpr std::uint32_t kBlockTokens = 4;
inline constexpr std::size_t kChainBlocks = 12;

/// Room for all that a writer stores in its time, so that nothing has to go.
inline Config config(const std::string& directory) {
  Config config{.host = {.capacity = 64_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = 16_KiB},
                .workers = {.threads = 2}};
  config.disk.directories = {directory};
  config.disk.capacity = 256_MiB;
  config.index.blocks = 64'000;
  return config;
}

inline SessionOptions options() {
  return {
      .model = {.name = "crash", .kv_dtype = "f16"}, .block_tokens = kBlockTokens, .layout = Layout::blob(kBlockBytes)};
}

/// Chain `number`, of which each is another from its first block on.
inline BlockChain chain(const Space& space, std::uint64_t number, std::size_t blocks = kChainBlocks) {
  std::vector<TokenId> tokens(blocks * kBlockTokens, static_cast<TokenId>(number));
  return hash_blocks(space, tokens);
}

/// The bytes of a block follow from its name alone: a wrong byte shows, whoever wrote it.
inline std::uint64_t word(const BlockHash& hash, std::size_t at) {
  std::uint64_t seed = 0;
  std::memcpy(&seed, hash.bytes.data(), sizeof seed);
  return (seed + at) * 0x9E37'79B9'7F4A'7C15U;
}
inline void fill(std::span<std::byte> bytes, const BlockHash& hash) {
  for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
    const std::uint64_t value = word(hash, at);
    std::memcpy(bytes.data() + at, &value, sizeof value);
  }
}
inline bool is_whole(std::span<const std::byte> bytes, const BlockHash& hash) {
  if (bytes.size() != kBlockBytes) return false;
  for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    if (value != word(hash, at)) return false;
  }
  return true;
}

}  // namespace tiercel::crash
