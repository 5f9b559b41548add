// combine_workloads(): several workloads as one, for what happens when the work of a tier changes or several kinds of
// work share it. Blocks and sessions of different workloads are different ones. Pure.
#pragma once

#include "workload/workload.h"

#include <tiercel/result.h>

#include <cstdint>
#include <span>

namespace tiercel {

enum class WorkloadOrder : std::uint8_t {
  kOneAfterAnother = 0,  ///< each begins a second after the one before has ended
  kMixed = 1,            ///< all begin at once, each at its own speed
};

/// kLimit: more blocks or sessions than a workload can have.
[[nodiscard]] Result<Workload> combine_workloads(std::span<const Workload> workloads, WorkloadOrder order);

}  // namespace tiercel
