// The launch of a stage kernel: what a lane's stage is filled from pages by, or emptied into them.
#pragma once

#include "cuda/stage_move.h"
#include "transfer/copy_plan.h"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace tiercel::gpu {

/// `blocks`: at most so many thread blocks.
[[nodiscard]] cudaError_t launch_stage(CopyDirection direction, const StageParams& params, std::uint32_t blocks,
                                       cudaStream_t stream) noexcept;

}  // namespace tiercel::gpu
