// Campaign: many runs of the simulator, several at a time, and what came of them as text. The result does not depend on
// how many run at a time, but for a limit in seconds. A broken invariant ends the process, after the seed was printed.
#pragma once

#include "sim/simulation.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tiercel::sim {

struct CampaignOptions {
  SimulationOptions run;  ///< of the first seed
  std::uint64_t runs = 1;
  std::uint32_t jobs = 1;
  std::uint64_t crash_points = 0;  ///< enough of them end it; 0: all runs
  std::uint64_t full_logs = 0;     ///< so many tombstone logs must have been filled
  std::uint64_t late_disks = 0;    ///< so many must have come to a process that had begun without them
  std::uint64_t seconds = 0;       ///< 0: as long as it takes
};

struct CampaignResult {
  Outcome sum;  ///< its hash is over all runs, whatever their order
  std::uint64_t runs = 0;
  std::vector<std::pair<std::uint64_t, Outcome>> failures;  ///< by seed
};

[[nodiscard]] CampaignResult run_campaign(const CampaignOptions& options);

/// No failure, and as many crash points and full logs as were asked for.
[[nodiscard]] bool passed(const CampaignOptions& options, const CampaignResult& result);

/// The figures, or for each failure its sentence, its last events and the command that repeats it.
[[nodiscard]] std::string describe(const CampaignOptions& options, const CampaignResult& result);

/// The command that repeats a seed.
[[nodiscard]] std::string command_of(const SimulationOptions& run, std::uint64_t seed);

}  // namespace tiercel::sim
