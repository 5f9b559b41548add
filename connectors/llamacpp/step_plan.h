// How one decode call is shared: a token for every answer that is being written, the rest for prompts.
//
// Answers never wait for a prompt longer than one bounded piece of it. Among prompts the one with least left goes first
// (it gives the soonest first token), but the oldest always gets a quarter, so that none starves. With exact pieces
// (`aligned`) a prompt is computed in whole batches that begin at multiples of the batch, one prompt a step, so that
// its results do not depend on where a restore ended. Pure functions.
#pragma once

#include <chrono>
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
  /// Answers or prompts in a call, not both: for processors, whose attention computes a tile of tokens over all that
  /// any of them attends to, so that one answer's token beside a prompt's costs more than a call of its own.
  bool apart = false;
  bool prompts_turn = false;  ///< of `apart`: who has this call if both want it
};

/// Tokens for each slot in the next decode call.
[[nodiscard]] std::vector<std::size_t> plan_step(std::span<const StepSlot> slots, const StepLimits& limits);

/// Below so many tokens in a call llama.cpp's attention on processors takes the path of single tokens, which is several
/// times dearer (135M model after 900 tokens, 2 processors: 63 tokens 449 ms, 64 tokens 320 ms).
inline constexpr std::size_t kAttentionTile = 64;

/// Prompt tokens that take about 500 ms at the speed measured so far, in whole tiles, at least one and at most
/// `batch_tokens`: what answers in progress are made to wait, or half as much again (see plan_step).
[[nodiscard]] std::size_t prompt_piece(double tokens_per_second, std::size_t batch_tokens);

/// How long prompts that are about to be computed wait for one that may come: 3 % of what they take, at most 10 ms.
/// Users who come at the same time then share a call, which is dear when it is small. None for a full batch.
[[nodiscard]] std::chrono::duration<double> wait_for_company(std::size_t prompt_tokens, double tokens_per_second,
                                                             std::size_t batch_tokens);

}  // namespace tiercel::llamacpp
