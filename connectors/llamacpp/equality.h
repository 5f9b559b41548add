// Is what Tiercel restores the same, token for token, as what the engine computes?
//
// One conversation runs turn by turn on two engines with one slot and exact reuse: one restores its history from a
// cache, since its own KV memory is emptied after every turn; the other has no cache and computes everything each time.
// Both compute in whole batches that begin at multiples of the batch, so the same tokens are summed in the same order
// and greedy answers must be equal to the last token. Used by the test and by tiercel-llama-equality. Loads the model
// twice.
#pragma once

#include <tiercel/result.h>

#include <cstdint>
#include <string>

namespace tiercel::llamacpp {

struct EqualityOptions {
  std::string model;
  std::uint32_t turns = 20;
  std::uint32_t answer_tokens = 12;
  std::uint32_t batch_tokens = 64;  ///< also the block: restores end at multiples of it
  std::uint32_t threads = 0;
};

struct EqualityResult {
  std::uint32_t turns = 0;
  std::uint32_t equal = 0;   ///< turns whose answers agree in every token
  std::uint64_t tokens = 0;  ///< of answers that were compared
  std::uint64_t prompt_tokens = 0;
  std::uint64_t restored_tokens = 0;    ///< prompt tokens that came from the cache
  std::uint64_t computed_tokens = 0;    ///< by the engine with the cache
  std::uint64_t expected_restored = 0;  ///< all whole batches of the turn before
};

[[nodiscard]] Result<EqualityResult> check_equality(const EqualityOptions& options);

}  // namespace tiercel::llamacpp
