// read_workload(): a trace file in memory. The format is told by the first line: requests (Mooncake's), sessions, a
// table of lengths (Azure's), a recording of `tiercel serve`, or vLLM's KV events; plain or compressed with zstd.
// docs/replay.md has the fields.
//
// Blocking; one thread. Beside the result one line is in memory at a time. Errors name file, line and what is wrong.
#pragma once

#include "workload/workload.h"

#include <tiercel/result.h>

#include <cstdint>
#include <string>

namespace tiercel {

/// How sessions that know only their own time are laid over each other: each starts at a random moment of a window, and
/// what lies between two of its requests is cut to a longest gap.
struct SessionLayout {
  std::uint64_t window_ns = 8ULL * 3600 * 1'000'000'000;
  std::uint64_t longest_gap_ns = 1800ULL * 1'000'000'000;
  std::uint64_t seed = 1;
};

[[nodiscard]] Result<Workload> read_workload(const std::string& path, const SessionLayout& layout = {});

}  // namespace tiercel
