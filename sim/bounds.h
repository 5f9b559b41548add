// The bounds that a cache's own figures must keep to, at any time and when nothing is held. Violations go to the
// history.
#pragma once

#include "sim/history.h"
#include "sim/world.h"

namespace tiercel::sim {

/// At any moment between two calls.
void check_bounds(World& world, History& history);
/// Nobody holds anything, and time enough has passed: no pin, no quarantine is left.
void check_nothing_held(World& world, History& history);
/// Soon after a boot: every directory answers reads, or has not been there. Then what the cache has can be served.
[[nodiscard]] bool all_answer(World& world);
[[nodiscard]] bool all_on(World& world);
/// The disks are there and well, and time enough has passed: every directory is on.
void check_directories(World& world, History& history);
/// Everything was deleted.
void check_empty(World& world, History& history);

}  // namespace tiercel::sim
