// Generation: one request on its way through the engine, shared by the thread that asked and the engine's thread.
//
// The engine pushes text and finishes; the asker waits for what is new and may cancel. Text waits at most as long as
// its answer, so the bound is max_tokens pieces. All members are safe from both threads. Errors are an outcome
// (`Finish::kError` with a sentence), never an exception.
#pragma once

#include <tiercel/block.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::llamacpp {

struct SamplingOptions {
  float temperature = 1.0F;  ///< 0: greedy
  float top_p = 1.0F;
  std::int32_t top_k = 0;  ///< 0: all
  float frequency_penalty = 0.0F;
  float presence_penalty = 0.0F;
  std::uint32_t seed = 0;
};

struct GenerationRequest {
  std::vector<TokenId> prompt;
  SamplingOptions sampling;
  std::uint32_t max_tokens = 0;  ///< at least 1
  bool ignore_end = false;       ///< go on after the model's end token, up to max_tokens
  std::vector<std::string> stops;
};

enum class Finish : std::uint8_t {
  kNone,    ///< still running
  kStop,    ///< end token or stop string
  kLength,  ///< max_tokens or the context's end
  kCancelled,
  kShutdown,  ///< the server stops and the deadline for open answers has passed
  kError,
};

/// What one request cost. Times are from its arrival at the engine.
struct Timings {
  double queue_ms = 0;
  double ttft_ms = 0;
  double total_ms = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t prompt_computed = 0;
  std::uint64_t prompt_restored = 0;     ///< from Tiercel
  std::uint64_t prompt_from_engine = 0;  ///< still in the engine's KV cache
  std::uint64_t completion_tokens = 0;
  std::uint64_t bytes_restored = 0;
  std::uint64_t bytes_kept = 0;
};

class Generation {
 public:
  explicit Generation(GenerationRequest asked) : request(std::move(asked)), arrival(std::chrono::steady_clock::now()) {}

  const GenerationRequest request;
  const std::chrono::steady_clock::time_point arrival;

  struct News {
    std::string text;  ///< since the last call
    Finish finish = Finish::kNone;
  };
  /// What is new; waits at most `limit` for something to be.
  [[nodiscard]] News wait(std::chrono::milliseconds limit);
  /// The asker went away: the engine frees the slot at its next step.
  void cancel() noexcept { cancelled_.store(true, std::memory_order_release); }
  [[nodiscard]] bool cancelled() const noexcept { return cancelled_.load(std::memory_order_acquire); }
  /// After finish: final.
  [[nodiscard]] Timings timings() const;
  /// After finish: the ids of the answer's tokens, the end token included.
  [[nodiscard]] std::vector<TokenId> tokens() const;
  /// Of Finish::kError and kShutdown.
  [[nodiscard]] std::string error() const;

  void push(TokenId token, std::string_view text);
  void push(std::string_view text);
  void finish(Finish finish, const Timings& timings, std::string error = {});

 private:
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::string text_;
  std::vector<TokenId> tokens_;
  Finish finish_ = Finish::kNone;
  Timings timings_;
  std::string error_;
  std::atomic<bool> cancelled_{false};  // cancel (release) pairs with cancelled (acquire)
};

}  // namespace tiercel::llamacpp
