// with_stages: options whose stages and chunks are the same in both directions, for tests and measurements.
#pragma once

#include "transfer/gpu_copy_engine.h"

#include <cstdint>

namespace tiercel::gpu {

struct StageOptions {
  std::uint64_t stage_bytes = 0;
  std::uint32_t stages = 3;
  std::uint64_t chunk_bytes = 0;
};

[[nodiscard]] constexpr GpuCopyOptions with_stages(const StageOptions& stages, GpuCopyOptions options = {}) {
  options.store_stage_bytes = stages.stage_bytes;
  options.load_stage_bytes = stages.stage_bytes;
  options.store_stages = stages.stages;
  options.load_stages = stages.stages;
  options.store_chunk_bytes = stages.chunk_bytes;
  options.load_chunk_bytes = stages.chunk_bytes;
  return options;
}

}  // namespace tiercel::gpu
