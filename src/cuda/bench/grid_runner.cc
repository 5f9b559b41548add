#include "cuda/bench/grid_runner.h"

#include "base/try.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace tiercel::gpu {
namespace {

std::string name_of(const GridKey& key) {
  return fmt::format("{} {}, {} tokens, {} blocks, {}", key.model, key.layout, key.tokens, key.blocks,
                     direction_name(key.direction));
}

}  // namespace

std::string schedule_text(const GridRun& run, const GridFile& file) {
  GridSeconds seconds;
  std::size_t to_do = 0;
  for (const GridCell& cell : run.cells) {
    if (file.has(run.identity, cell.key())) continue;
    ++to_do;
    const GridSeconds one = estimate(cell);
    seconds.copies += one.copies;
    seconds.models += one.models;
    seconds.foreign += one.foreign;
  }
  return fmt::format(
      "schedule: {} cells, {} of them in the file; the others take about {:.0f} s (copies {:.0f}, beside models "
      "{:.0f}, "
      "beside foreign copies {:.0f}), budget {:.0f} s",
      run.cells.size(), run.cells.size() - to_do, seconds.all(), seconds.copies, seconds.models, seconds.foreign,
      run.budget_seconds);
}

Result<GridOutcome> run_grid(const GridRun& run, GridFile& file, GridMeter& meter) {
  GridOutcome outcome;
  double estimated = 0;
  double taken = 0;
  bool time_is_up = false;
  for (const GridCell& cell : run.cells) {
    if (file.has(run.identity, cell.key())) {
      ++outcome.present;
      continue;
    }
    const double seconds = estimate(cell).all();
    const double wrong = estimated > 0 ? std::max(1.0, taken / estimated) : 1;
    const double begin = run.elapsed_seconds();
    time_is_up = time_is_up || begin + seconds * wrong > run.budget_seconds;
    if (time_is_up) {
      ++outcome.left;
      continue;
    }
    std::vector<GridRow> rows = meter.measure(cell);
    TIERCEL_TRY(file.append(run.identity, std::move(rows)));
    const double spent = run.elapsed_seconds() - begin;
    ++outcome.measured;
    estimated += seconds;
    taken += spent;
    run.report(fmt::format("{:6.1f} s  {}: {:.2f} s (estimate {:.2f})", begin, name_of(cell.key()), spent, seconds));
  }
  return outcome;
}

}  // namespace tiercel::gpu
