#include "cuda/bench/grid_meter.h"
#include "cuda/bench/grid_report.h"
#include "cuda/bench/measurements.h"

#include <fmt/format.h>

#include <cstdio>

namespace tiercel::gpu {

Status measure_grid(const GridArguments& arguments) {
  const auto report = [](const std::string& line) {
    std::fprintf(stderr, "%s\n", line.c_str());
    std::fflush(stderr);
  };
  TIERCEL_TRY_ASSIGN(GridFile file, GridFile::open(arguments.csv));
  GridRun run{.cells = grid_cells({.arena_bytes = arguments.arena_bytes, .gpu_bytes = arguments.gpu_bytes}),
              .budget_seconds = arguments.budget_seconds,
              .report = report};
  run.elapsed_seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - arguments.begin).count();
  };
  TIERCEL_TRY_ASSIGN(run.identity, grid_identity());
  std::printf("%s\n", schedule_text(run, file).c_str());
  std::fflush(stdout);
  TIERCEL_TRY_ASSIGN(const PoolMemory memory, PoolMemory::make(arguments.gpu_bytes, arguments.arena_bytes));
  GridOutcome outcome;
  {
    GpuGridMeter meter(memory, report);
    TIERCEL_TRY_ASSIGN(outcome, run_grid(run, file, meter));
  }
  std::printf("%zu cells measured, %zu were there, %zu are left%s; %.0f s\n\n", outcome.measured, outcome.present,
              outcome.left, outcome.left > 0 ? " (run it again with the same file)" : "", run.elapsed_seconds());
  return report_grid_file(arguments.csv, arguments.svg);
}

}  // namespace tiercel::gpu
