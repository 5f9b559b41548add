// Token blocks and their names: Space, BlockHash, BlockChain.
//
// A token block is `block_tokens` consecutive tokens of one sequence, aligned to a multiple of it. Its name is the
// SHA-256 over its parent's hash, its tokens and the extra keys that begin in it; the first block's parent is the
// fingerprint of the namespace. docs/formats.md gives the preimage byte by byte. All types here are values, safe to
// read from several threads, to be changed by one.
#pragma once

#include <tiercel/export.h>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel {

/// A token id as engines use it; hashed as 32-bit little-endian.
using TokenId = std::int32_t;

/// 32 bytes that name a token block, or a namespace (then called its fingerprint).
struct BlockHash {
  std::array<std::byte, 32> bytes{};
  friend auto operator<=>(const BlockHash&, const BlockHash&) = default;
};

/// 64 lower-case hexadecimal digits.
[[nodiscard]] TIERCEL_API std::string to_hex(const BlockHash& hash);

/// What decides a block's KV besides its tokens: the digest of a LoRA adapter's files or of an image, for example. It
/// enters the hash of token block `first_block` and so, through the chain, of every later one.
struct ExtraKey {
  std::size_t first_block = 0;
  std::string bytes;
};

/// A namespace as sessions hand it out (`Session::space`): all that decides the bytes of a block besides its tokens.
/// Blocks of two namespaces never meet.
class TIERCEL_API Space {
 public:
  Space() = default;
  /// `family`: the fingerprint of the default tenant's namespace with the same model and layout.
  Space(BlockHash fingerprint, std::uint32_t block_tokens, std::string tenant, BlockHash family = {});

  [[nodiscard]] const BlockHash& fingerprint() const noexcept { return fingerprint_; }
  /// Tokens in a block; 0 for a default-constructed Space, which belongs to no session.
  [[nodiscard]] std::uint32_t block_tokens() const noexcept { return block_tokens_; }
  [[nodiscard]] const std::string& tenant() const noexcept { return tenant_; }
  [[nodiscard]] const BlockHash& family() const noexcept { return family_; }

 private:
  BlockHash fingerprint_;
  BlockHash family_;
  std::uint32_t block_tokens_ = 0;
  std::string tenant_;
};

/// The hashes of the full token blocks of one sequence, first to last. Grows by `append` as tokens become known; a
/// tail shorter than a block is kept until it fills.
class TIERCEL_API BlockChain {
 public:
  BlockChain() = default;
  explicit BlockChain(Space space, std::vector<ExtraKey> extra_keys = {});
  /// Of blocks that another process of the same engine has hashed. Appending to it goes on without extra keys.
  [[nodiscard]] static BlockChain of_hashes(Space space, std::vector<BlockHash> hashes);

  /// Adds tokens and hashes every block that became full. Cost: about one SHA-256 of 4 * block_tokens + 40 bytes each.
  void append(std::span<const TokenId> tokens);

  [[nodiscard]] std::size_t size() const noexcept { return hashes_.size(); }
  [[nodiscard]] bool empty() const noexcept { return hashes_.empty(); }
  /// Tokens given so far, the unfinished tail included.
  [[nodiscard]] std::size_t tokens() const noexcept { return hashes_.size() * space_.block_tokens() + tail_.size(); }
  [[nodiscard]] const BlockHash& operator[](std::size_t block) const { return hashes_[block]; }
  [[nodiscard]] std::span<const BlockHash> hashes() const noexcept { return hashes_; }
  [[nodiscard]] const Space& space() const noexcept { return space_; }

 private:
  Space space_;
  std::vector<ExtraKey> extra_keys_;
  std::vector<BlockHash> hashes_;
  std::vector<TokenId> tail_;
};

/// The chain of `tokens`, which starts at position 0 of its sequence.
[[nodiscard]] TIERCEL_API BlockChain hash_blocks(const Space& space, std::span<const TokenId> tokens,
                                                 std::span<const ExtraKey> extra_keys = {});

}  // namespace tiercel
