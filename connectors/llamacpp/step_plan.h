// How one decode call is shared: a token for every answer that is being written, the rest for prompts.
//
// Answers never wait for a prompt longer than one bounded piece of it. Among prompts the one with least left goes first
// (it gives the soonest first token), but the oldest always gets a quarter, so that none starves. With exact pieces
// (`aligned`) a prompt is computed in whole batches that begin at multiples of the batch, one prompt a step, so that
// its results do not depend on where a restore ended. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tiercel::llamacpp {

struct StepSlot {
  enum class Kind : std::uint8_t { kIdle, kPrompt, kAnswer };
  Kind kind = Kind::kIdle;
  std::size_t done = 0;       ///< prompt tokens already in the KV cache
  std::size_t left = 0;       ///< prompt tokens still to compute
  std::uint64_t arrival = 0;  ///< smaller is older
};

struct StepLimits {
  std::size_t batch_tokens = 512;           ///< of one decode call
  std::size_t prompt_beside_answers = 128;  ///< prompt tokens of a step in which answers are written too
  bool aligned = false;
};

/// Tokens for each slot in the next decode call.
[[nodiscard]] std::vector<std::size_t> plan_step(std::span<const StepSlot> slots, const StepLimits& limits);

/// Prompt tokens that take about 250 ms at the speed measured so far, at least 32 and at most `batch_tokens`: what
/// answers in progress are made to wait.
[[nodiscard]] std::size_t prompt_piece(double tokens_per_second, std::size_t batch_tokens);

}  // namespace tiercel::llamacpp
