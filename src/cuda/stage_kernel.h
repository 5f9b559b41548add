// The launch of a stage kernel: what a lane's stage is filled from pages by, or emptied into them.
#pragma once

#include "cuda/stage_move.h"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace tiercel::gpu {

enum class StageFlow : std::uint8_t {
  kGather = 0,   ///< pages into the stage
  kScatter = 1,  ///< the stage into pages
};

/// `blocks`: at most so many thread blocks.
[[nodiscard]] cudaError_t launch_stage(StageFlow flow, const StageParams& params, std::uint32_t blocks,
                                       cudaStream_t stream) noexcept;

}  // namespace tiercel::gpu
