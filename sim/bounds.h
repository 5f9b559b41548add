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
/// Everything was deleted.
void check_empty(World& world, History& history);

}  // namespace tiercel::sim
