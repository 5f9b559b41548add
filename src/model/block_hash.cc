// The block hash chain: docs/formats.md, "Block hash", has the preimage byte by byte.
#include "base/check.h"
#include "base/make_room.h"
#include "model/sha256.h"

#include <tiercel/block.h>

#include <algorithm>
#include <utility>

namespace tiercel {
namespace {

BlockHash hash_block(const BlockHash& parent, std::span<const TokenId> tokens, std::span<const ExtraKey> extra_keys,
                     std::size_t block) {
  Sha256 sha;
  sha.hash(parent);
  sha.u32(static_cast<std::uint32_t>(tokens.size()));
  sha.raw(std::as_bytes(tokens));
  const auto here = [block](const ExtraKey& key) { return key.first_block == block; };
  sha.u32(static_cast<std::uint32_t>(std::ranges::count_if(extra_keys, here)));
  for (const ExtraKey& key : extra_keys) {
    if (here(key)) sha.text(key.bytes);
  }
  return sha.finish();
}

}  // namespace

std::string to_hex(const BlockHash& hash) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * hash.bytes.size());
  for (const std::byte byte : hash.bytes) {
    const auto value = std::to_integer<unsigned>(byte);
    text.push_back(kDigits[value >> 4U]);
    text.push_back(kDigits[value & 15U]);
  }
  return text;
}

Space::Space(BlockHash fingerprint, std::uint32_t block_tokens, std::string tenant, BlockHash family)
    : fingerprint_(fingerprint), family_(family), block_tokens_(block_tokens), tenant_(std::move(tenant)) {}

BlockChain::BlockChain(Space space, std::vector<ExtraKey> extra_keys)
    : space_(std::move(space)), extra_keys_(std::move(extra_keys)) {}

BlockChain BlockChain::of_hashes(Space space, std::vector<BlockHash> hashes) {
  BlockChain chain(std::move(space));
  chain.hashes_ = std::move(hashes);
  return chain;
}

void BlockChain::append(std::span<const TokenId> tokens) {
  const std::size_t block_tokens = space_.block_tokens();
  if (block_tokens == 0) return;  // a chain of no session has no blocks
  make_room(hashes_, (tail_.size() + tokens.size()) / block_tokens);
  const auto close_block = [&](std::span<const TokenId> block) {
    const BlockHash& parent = hashes_.empty() ? space_.fingerprint() : hashes_.back();
    hashes_.push_back(hash_block(parent, block, extra_keys_, hashes_.size()));
  };
  if (!tail_.empty()) {
    const std::size_t missing = std::min(block_tokens - tail_.size(), tokens.size());
    tail_.insert(tail_.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(missing));
    tokens = tokens.subspan(missing);
    if (tail_.size() < block_tokens) return;
    close_block(tail_);
    tail_.clear();
  }
  for (; tokens.size() >= block_tokens; tokens = tokens.subspan(block_tokens)) close_block(tokens.first(block_tokens));
  tail_.assign(tokens.begin(), tokens.end());
}

BlockChain hash_blocks(const Space& space, std::span<const TokenId> tokens, std::span<const ExtraKey> extra_keys) {
  BlockChain chain(space, {extra_keys.begin(), extra_keys.end()});
  chain.append(tokens);
  return chain;
}

}  // namespace tiercel
