// Calibration: what merged and staged plans cost on this GPU, measured, and kept in a file for the next start.
//
// measure_path_costs() moves blocks of 1 MiB in pieces of 16 KiB to 1 MiB, one block and many, each direction, each
// path, through a Feeder as any plan, and keeps the shortest of a few times: about 100 ms on an H200. Many are enough
// for stages and chunks to follow each other as in large plans. Pages lie in the stages of the other direction and
// slots in 16 MiB of its own, again and again, so it needs no memory of the engine and what it moves means nothing.
// Before the first plan and from a thread that has called begin_thread(); nothing else uses the device meanwhile.
#pragma once

#include "base/clock.h"
#include "cuda/copy_device.h"
#include "cuda/path_choice.h"

#include <tiercel/result.h>

#include <optional>
#include <string>

namespace tiercel::gpu {

struct CalibrationSize {
  std::uint32_t blocks = 64;                 ///< of the longer plans
  int times = 3;                             ///< measured, after one that warms up
  std::uint64_t at_most_ns = 2'000'000'000;  ///< for all; then no further plan is begun
};

/// kUnsupported: stages of less than 16 MiB a direction; kTimeout: the GPU is too busy. Else the device's error.
[[nodiscard]] Result<PathCosts> measure_path_costs(CopyDevice& device, const Clock& clock,
                                                   const GpuCopyOptions& options, const CalibrationSize& size = {});

/// What the costs depend on beside the device: `device` is its model, number and driver, on one line.
[[nodiscard]] std::string calibration_key(const std::string& device, const GpuCopyOptions& options);

// A file in `folder` for each key. A file that is damaged, or of another version, is as none.
[[nodiscard]] std::optional<PathCosts> read_path_costs(const std::string& folder, const std::string& key);
/// Appears whole or not at all. kIo names the path; nobody depends on it.
Status write_path_costs(const std::string& folder, const std::string& key, const PathCosts& costs);

}  // namespace tiercel::gpu
