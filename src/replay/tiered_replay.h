// tiered_replay(): a recorded workload on a virtual clock, through an engine that prefills one prompt after the other,
// RAM and an SSD of given sizes and speeds, under a policy, with loads that the load planner decides. Says what
// requests would have waited for their first token.
//
// The model. Requests come at the trace's times over time_scale. Blocks are stored in RAM and, all of them, on the SSD
// as they are computed; each tier keeps what its policy keeps. A request's leading blocks in RAM are there at once;
// those behind them on the SSD are read in one piece when the request arrives, after all that the SSD was given before,
// reads and writes in one queue. Then the loaded bytes cross the bus, and the rest is computed when the engine has done
// with those before. Decoding takes no time of the prefills. Every speed is what it is said to be: no noise. Blocking,
// one thread, no IO; deterministic by the seed.
#pragma once

#include "policy/prefill_model.h"
#include "replay/replay.h"

#include <tiercel/result.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel {

/// What an engine takes for one prompt of so many tokens.
struct PrefillPoint {
  double tokens = 0;
  double seconds = 0;
};

struct TieredOptions {
  std::uint64_t token_bytes = 0;   ///< of KV, over all layers
  std::uint32_t block_tokens = 0;  ///< 0: of the trace, block_tokens_of()
  std::uint64_t ram_bytes = 0;
  std::uint64_t ssd_bytes = 0;  ///< 0: there is none
  double ssd_read_bytes_per_second = 0;
  double ssd_write_bytes_per_second = 0;
  double ssd_latency_seconds = 0;
  double bus_bytes_per_second = 0;
  std::vector<PrefillPoint> engine{};   ///< at least one
  std::vector<std::string> policies{};  ///< LRU and the optimum are run with any
  double time_scale = 1;                ///< requests come so many times as far apart
  std::uint64_t seed = 1;
};

enum class TieredMode : std::uint8_t { kPlanned = 0, kAlwaysLoad = 1, kAlwaysCompute = 2 };
/// "planned", "always load", "always compute".
[[nodiscard]] std::string_view tiered_mode_name(TieredMode mode) noexcept;

/// Seconds.
struct FirstTokens {
  double mean = 0;
  double p50 = 0;
  double p95 = 0;
  double p99 = 0;
};

struct TieredRun {
  std::string policy;
  TieredMode mode = TieredMode::kPlanned;
  std::uint64_t ram_blocks = 0;   ///< loaded
  std::uint64_t ssd_blocks = 0;   ///< loaded
  std::uint64_t left_blocks = 0;  ///< in a tier, and computed
  std::uint64_t computed_tokens = 0;
  std::uint64_t ssd_written_bytes = 0;  ///< of every block that a use did not find there
  FirstTokens first_tokens;
  double busy_share = 0;  ///< of the time, that the engine prefills
};

struct TieredReport {
  std::uint64_t requests = 0;
  std::uint64_t block_uses = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint32_t block_tokens = 0;
  std::uint64_t ram_capacity_blocks = 0;
  std::uint64_t ssd_capacity_blocks = 0;
  double trace_seconds = 0;     ///< from the first request to the last, scaled
  std::vector<TieredRun> runs;  ///< by policy, in the order of replay_policy_names(), and mode
  [[nodiscard]] const TieredRun* run_of(std::string_view policy, TieredMode mode) const;
};

/// Tokens of the trace's blocks: the power of two nearest to what its prompts have a block.
[[nodiscard]] std::uint32_t block_tokens_of(const Workload& workload);

/// An engine's time for any prompt, from a few points.
[[nodiscard]] PrefillModel prefill_of(const std::vector<PrefillPoint>& points);

/// kInvalidArgument: an unknown policy, a speed or size that is not above 0, no point of the engine, a trace without
/// blocks.
[[nodiscard]] Result<TieredReport> tiered_replay(const Workload& workload, const TieredOptions& options);

}  // namespace tiercel
