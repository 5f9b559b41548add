#include "cuda/bench/measured_cell.h"

#include <fmt/format.h>

#include <algorithm>

namespace tiercel::gpu {

std::optional<double> MeasuredCell::get(GridWay way, Figure figure) const {
  const GridRow* row = ways[static_cast<std::size_t>(way)];
  return row == nullptr ? std::nullopt : (*row)[figure];
}

const GridRow* MeasuredCell::best_other() const {
  const GridRow* best = nullptr;
  for (const GridWay way : kGridWays) {
    if (way == GridWay::kContiguous || way == GridWay::kAuto) continue;
    const auto rate = get(way, Figure::kGbPerS);
    if (rate && (best == nullptr || *rate > *(*best)[Figure::kGbPerS])) best = ways[static_cast<std::size_t>(way)];
  }
  return best;
}

std::optional<double> MeasuredCell::behind_percent() const {
  const GridRow* best = best_other();
  const auto own = get(GridWay::kAuto, Figure::kGbPerS);
  if (best == nullptr || !own) return std::nullopt;
  return (1 - *own / *(*best)[Figure::kGbPerS]) * 100;
}

std::string MeasuredCell::name() const {
  return fmt::format("{} {} {} x {} {}", key.model, key.layout, key.tokens, key.blocks, direction_name(key.direction));
}

std::vector<MeasuredCell> measured_cells(const std::vector<GridRow>& rows) {
  std::vector<MeasuredCell> cells;
  for (const GridRow& row : rows) {
    auto cell = std::ranges::find(cells, row.key, &MeasuredCell::key);
    if (cell == cells.end()) cell = cells.insert(cells.end(), {.key = row.key, .bytes = row.bytes});
    cell->ways[static_cast<std::size_t>(row.way)] = &row;
  }
  return cells;
}

}  // namespace tiercel::gpu
