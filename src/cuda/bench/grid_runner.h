// run_grid: measures the cells that a file lacks, one after another, until all are there or the time is up.
//
// What measures is given, so that order, budget and resumption are tested without a GPU. One thread.
#pragma once

#include "cuda/bench/grid_file.h"
#include "cuda/bench/grid_schedule.h"

#include <tiercel/result.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace tiercel::gpu {

class GridMeter {
 public:
  virtual ~GridMeter() = default;
  /// A row for each of grid_ways(cell), contiguous first. The file fills in identity and the number of rows.
  [[nodiscard]] virtual std::vector<GridRow> measure(const GridCell& cell) = 0;
};

struct GridRun {
  std::vector<GridCell> cells;
  GridIdentity identity;
  double budget_seconds = 420;
  std::function<double()> elapsed_seconds;         ///< since the program began
  std::function<void(const std::string&)> report;  ///< a line of progress
};

struct GridOutcome {
  std::size_t measured = 0;
  std::size_t present = 0;  ///< were in the file before
  std::size_t left = 0;
};

/// "schedule: ...", what is to be done and how long it takes by the sketch.
[[nodiscard]] std::string schedule_text(const GridRun& run, const GridFile& file);
/// A cell begins if its estimate, corrected by how wrong those before were, ends within the budget; the first that does
/// not ends the run.
[[nodiscard]] Result<GridOutcome> run_grid(const GridRun& run, GridFile& file, GridMeter& meter);

}  // namespace tiercel::gpu
