// `tiercel replay --tiers`: a recorded workload through an engine, RAM and an SSD on a virtual clock; its flags, its
// answer as text and as JSON. Pure but for run_replay_tiers.
#pragma once

#include "replay/tiered_replay.h"

#include <tiercel/result.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::cli {

/// "h100" (Qwen3-8B in vLLM), or points "4096:98.6ms,32768:1.23s": so long for a prompt of so many tokens.
[[nodiscard]] Result<std::vector<PrefillPoint>> parse_engine(std::string_view text);
/// "6.9GB/s", or bytes a second.
[[nodiscard]] Result<double> parse_speed(std::string_view flag, std::string_view text);

[[nodiscard]] std::string tiers_table(const std::string& path, const TieredReport& report);
[[nodiscard]] std::string tiers_json(const std::string& path, const TieredReport& report);

/// `words` without --tiers.
[[nodiscard]] int run_replay_tiers(std::span<const std::string> words);

}  // namespace tiercel::cli
