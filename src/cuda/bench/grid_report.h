// grid_report: the tables of a grid, as text of at most 11,400 characters in lines of at most 200. Knows no CUDA.
#pragma once

#include "cuda/bench/grid_row.h"

#include <tiercel/result.h>

#include <cstddef>
#include <string>
#include <vector>

namespace tiercel::gpu {

inline constexpr std::size_t kReportCharacters = 11'400;  ///< of the 12,000 that are read; the rest says what ran

/// Rows of one identity. Where they are too many, those in which nothing is marked are left out first, from the end.
[[nodiscard]] std::string grid_report(const std::vector<GridRow>& rows);
/// Prints the report of the last identity in the file and, where `svg` is not empty, writes its plot.
[[nodiscard]] Status report_grid_file(const std::string& csv, const std::string& svg);

}  // namespace tiercel::gpu
