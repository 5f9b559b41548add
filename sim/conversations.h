// Conversations: the tree of prefixes that simulated engines talk about: a few chains a model and tenant, which share
// their first blocks, with their keys in the history. Made once a run; hashes do not depend on the process.
#pragma once

#include "base/random.h"
#include "sim/history.h"

#include <tiercel/session.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tiercel::sim {

struct Conversation {
  BlockChain chain;
  std::vector<KeyId> keys;  ///< of its blocks
  std::uint64_t number = 0;
};

/// The conversations of one tenant with one model.
struct Namespace {
  Space space;
  KeyId root{};
  std::vector<Conversation> conversations;
};

struct TreeShape {
  std::size_t conversations = 8;
  std::size_t longest = 10;  ///< blocks
};

[[nodiscard]] Namespace make_namespace(const Space& space, const TreeShape& shape, History& history, Random& random);

}  // namespace tiercel::sim
