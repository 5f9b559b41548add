// Goal: the chain is a function of namespace, tokens and extra keys alone, however the tokens arrive; the preimage is
// the documented one (a golden value computed from the specification with another tool).
#include <tiercel/block.h>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

namespace tiercel {
namespace {

Space space_of(std::uint32_t block_tokens, std::uint8_t first_byte = 0) {
  BlockHash fingerprint;
  for (std::size_t i = 0; i < 32; ++i) fingerprint.bytes[i] = static_cast<std::byte>(i);
  fingerprint.bytes[0] = static_cast<std::byte>(first_byte);
  return {fingerprint, block_tokens, "default"};
}

// Method: SHA-256(parent 32 bytes | u32 count | i32 tokens | u32 extra count | (u64 length | bytes)*), by python
// hashlib.
TEST(BlockChain, golden_preimage) {
  const std::vector<TokenId> tokens{1, 2, 3, 4, 5, -6, 70000, 8, 9};
  const auto chain = hash_blocks(space_of(4), tokens, std::vector<ExtraKey>{{.first_block = 1, .bytes = "lora:abc"}});
  ASSERT_EQ(chain.size(), 2U);
  EXPECT_EQ(chain.tokens(), 9U);
  EXPECT_EQ(to_hex(chain[0]), "302c1c2e27df6dc22af7dca0b4ef1b1121d49fe0bb28055880b11852b1c12322");
  EXPECT_EQ(to_hex(chain[1]), "fbb3d474b09169acd7513a9d5f8a332100764f2055eb43c755d821b770f916cc");
}

TEST(BlockChain, no_session_no_blocks) { EXPECT_TRUE(hash_blocks(Space{}, std::vector<TokenId>(100, 1)).empty()); }

TEST(BlockChain, namespace_and_extra_keys_change_all_that_follows) {
  const std::vector<TokenId> tokens(32, 7);
  std::set<BlockHash> seen;
  const auto add = [&](const BlockChain& chain, std::size_t from) {
    for (std::size_t i = from; i < chain.size(); ++i) EXPECT_TRUE(seen.insert(chain[i]).second) << i;
  };
  add(hash_blocks(space_of(8), tokens), 0);
  add(hash_blocks(space_of(8, 1), tokens), 0);
  add(hash_blocks(space_of(8), tokens, std::vector<ExtraKey>{{0, "a"}}), 0);
  add(hash_blocks(space_of(8), tokens, std::vector<ExtraKey>{{0, "ab"}}), 0);
  add(hash_blocks(space_of(8), tokens, std::vector<ExtraKey>{{0, "a"}, {0, "b"}}), 0);
  add(hash_blocks(space_of(8), tokens, std::vector<ExtraKey>{{1, "a"}}), 1);
}

RC_GTEST_PROP(BlockChain, pieces_do_not_matter, ()) {
  const auto tokens = *rc::gen::container<std::vector<TokenId>>(rc::gen::arbitrary<TokenId>());
  const auto block_tokens = *rc::gen::inRange<std::uint32_t>(1, 9);
  const auto whole = hash_blocks(space_of(block_tokens), tokens);
  BlockChain pieces(space_of(block_tokens));
  for (std::size_t at = 0; at < tokens.size();) {
    const auto n = *rc::gen::inRange<std::size_t>(0, tokens.size() - at + 1);
    pieces.append(std::span(tokens).subspan(at, n));
    if (n == 0) pieces.append(std::span(tokens).subspan(at, 1));
    at += std::max<std::size_t>(n, 1);
  }
  RC_ASSERT(whole.size() == tokens.size() / block_tokens);
  RC_ASSERT(std::ranges::equal(whole.hashes(), pieces.hashes()));
  RC_ASSERT(pieces.tokens() == tokens.size());
}

}  // namespace
}  // namespace tiercel
