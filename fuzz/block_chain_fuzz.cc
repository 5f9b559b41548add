// Fuzz target of the block hash chain: however tokens arrive, in one call or cut into pieces, with whatever extra keys,
// the chain is the same. A chain that depends on the cut would make an engine miss, or hit, by its own batching.
#include <tiercel/block.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kMaxTokens = 4096;

/// Takes numbers off the front of the input; zeroes once it is empty.
class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t first = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return first;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input({data, size});
  const std::uint32_t block_tokens = 1U + input.byte() % 70U;
  tiercel::BlockHash fingerprint;
  fingerprint.bytes[0] = std::byte{input.byte()};
  const tiercel::Space space(fingerprint, block_tokens, "default");

  std::vector<tiercel::ExtraKey> extra_keys(input.byte() % 4U);
  for (tiercel::ExtraKey& key : extra_keys) {
    key.first_block = input.byte() % 8U;
    key.bytes.assign(input.byte() % 16U, static_cast<char>(input.byte()));
  }

  std::vector<tiercel::TokenId> tokens;
  tiercel::BlockChain in_pieces(space, extra_keys);
  while (!input.empty() && tokens.size() < kMaxTokens) {
    std::vector<tiercel::TokenId> piece(input.byte() % 200U);
    for (tiercel::TokenId& token : piece) token = static_cast<tiercel::TokenId>(input.byte() * 0x01010101U);
    in_pieces.append(piece);
    tokens.insert(tokens.end(), piece.begin(), piece.end());
    if (in_pieces.tokens() != tokens.size() || in_pieces.size() != tokens.size() / block_tokens) std::abort();
  }

  const tiercel::BlockChain at_once = tiercel::hash_blocks(space, tokens, extra_keys);
  if (!std::ranges::equal(in_pieces.hashes(), at_once.hashes())) std::abort();
  return 0;
}
