// grid_plot: GB/s over the bytes of a plan as SVG: a panel a direction, a line a way, the contiguous copy as the roof.
//
// A row of panels for each of the geometries with the most sizes. Knows no CUDA.
#pragma once

#include "cuda/bench/grid_row.h"

#include <tiercel/result.h>

#include <string>
#include <vector>

namespace tiercel::gpu {

[[nodiscard]] std::string grid_plot(const std::vector<GridRow>& rows);
/// Errors name the file.
[[nodiscard]] Status write_grid_plot(const std::string& path, const std::vector<GridRow>& rows);

}  // namespace tiercel::gpu
