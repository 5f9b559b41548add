#include "sim/conversations.h"

#include <algorithm>

namespace tiercel::sim {

Namespace make_namespace(const Space& space, const TreeShape& shape, History& history, Random& random) {
  Namespace made{.space = space, .root = history.key(space.fingerprint(), std::nullopt)};
  const std::size_t block_tokens = space.block_tokens();
  std::vector<std::vector<TokenId>> all;
  for (std::size_t c = 0; c < shape.conversations; ++c) {
    const std::size_t blocks = 1 + random.below(shape.longest);
    std::vector<TokenId> tokens;
    if (c > 0) {  // branches off an earlier one
      tokens = all[random.below(c)];
      tokens.resize(std::min(tokens.size(), random.below(blocks + 1) * block_tokens));
    }
    while (tokens.size() < blocks * block_tokens)
      tokens.push_back(static_cast<TokenId>(1000 * (c + 1) + tokens.size()));
    Conversation conversation{.chain = hash_blocks(space, tokens), .number = c};
    KeyId parent = made.root;
    for (const BlockHash& hash : conversation.chain.hashes()) {
      parent = history.key(hash, parent);
      conversation.keys.push_back(parent);
    }
    made.conversations.push_back(std::move(conversation));
    all.push_back(std::move(tokens));
  }
  return made;
}

}  // namespace tiercel::sim
