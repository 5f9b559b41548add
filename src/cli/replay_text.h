// The answer of `tiercel replay` as text and as JSON, and its capacities as people write them. Pure functions.
#pragma once

#include "replay/replay.h"

#include <tiercel/result.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::cli {

/// "1%,0.5%,5859": shares of the trace's blocks, or numbers of blocks.
[[nodiscard]] Result<std::vector<ReplayCapacity>> parse_capacities(std::string_view text);

struct ReplayedTrace {
  std::string path;
  double read_seconds = 0;  // of the processor
  ReplayReport report;
};

/// One trace: a column a capacity, a line a policy, with the closure behind each ratio.
[[nodiscard]] std::string replay_table(const ReplayedTrace& trace);
/// Score and mean closure of each policy over all traces, and how long it took.
[[nodiscard]] std::string replay_score_table(std::span<const ReplayedTrace> traces);
[[nodiscard]] std::string replay_json(std::span<const ReplayedTrace> traces);

}  // namespace tiercel::cli
