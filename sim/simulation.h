// Simulation: one run from one seed: engines, a cache, a disk, crashes and restarts, and the judgement of it all.
//
// The same options give the same run, to the last event: `Outcome::trace_hash` says so. One thread a run; runs share
// nothing.
#pragma once

#include "sim/plant.h"
#include "sim/profile.h"

#include <cstdint>
#include <cstdio>
#include <string>

namespace tiercel::sim {

struct SimulationOptions {
  std::uint64_t seed = 1;
  std::uint64_t steps = 400;
  std::uint64_t crash_points = UINT64_MAX;  ///< the run ends after so many
  ProfileRequest request;
  Plant plant = Plant::kNone;
  std::FILE* live_trace = nullptr;
};

struct Outcome {
  bool ok = true;
  std::string violation;    ///< a sentence
  std::string last_events;  ///< of the trace, if not ok
  std::uint64_t trace_hash = 0;
  std::uint64_t events = 0;  ///< of the trace
  std::uint64_t steps = 0;
  std::uint64_t boots = 0;
  std::uint64_t crashes = 0;
  std::uint64_t kills_checked = 0;  ///< crashes after which every acknowledged block must be there
  std::uint64_t io_events = 0;
  std::uint64_t faults = 0;
  std::uint64_t stored_blocks = 0;
  std::uint64_t loaded_blocks = 0;
  std::uint64_t disk_blocks_found = 0;   ///< after restarts, summed
  std::uint64_t loaded_from_before = 0;  ///< blocks that an earlier process had stored
  std::uint64_t deletes = 0;
  std::uint64_t boots_without = 0;         ///< boots at which a disk was missing
  std::uint64_t late_disks = 0;            ///< disks that came, or came back, in the middle of a boot
  std::uint64_t kept_through_absence = 0;  ///< of the kills checked: after boots without a disk
  std::uint64_t full_logs = 0;             ///< of tombstones, which then began anew
};

[[nodiscard]] Outcome simulate(const SimulationOptions& options);

}  // namespace tiercel::sim
