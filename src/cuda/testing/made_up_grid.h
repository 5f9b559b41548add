// made_up_rows: rows of a cell of the grid with figures that nobody measured: auto at 97 % of contiguous, others below.
#pragma once

#include "cuda/bench/grid_schedule.h"

#include <vector>

namespace tiercel::gpu {

[[nodiscard]] inline std::vector<GridRow> made_up_rows(const GridCell& cell) {
  std::vector<GridRow> rows;
  for (const GridWay way : grid_ways(cell)) {
    GridRow row{.key = cell.key(), .bytes = cell.bytes(), .way = way};
    const double share = way == GridWay::kContiguous ? 100 : way == GridWay::kAuto ? 97 : 90;
    row[Figure::kGbPerS] = share / 2;
    row[Figure::kShare] = share;
    row[Figure::kOverUs] = (100 - share) * 10;
    row[Figure::kSubmitUs] = 2;
    if (cell.beside_models && is_beside(way)) {
      for (const Figure figure : {Figure::kDecodeGbPerS, Figure::kPrefillGbPerS}) row[figure] = share / 2 - 1;
      for (const Figure figure :
           {Figure::kDecodeSlowerP50, Figure::kDecodeSlowerP99, Figure::kDecodeLost, Figure::kDecodeMemory,
            Figure::kPrefillSlowerP50, Figure::kPrefillSlowerP99, Figure::kPrefillLost, Figure::kPrefillMemory}) {
        row[figure] = 3;
      }
    }
    if (cell.foreign && is_beside(way)) {
      for (const Figure figure :
           {Figure::kForeignOutP50Us, Figure::kForeignOutP99Us, Figure::kForeignInP50Us, Figure::kForeignInP99Us}) {
        row[figure] = 40;
      }
    }
    rows.push_back(std::move(row));
  }
  for (GridRow& row : rows) row.cell_rows = static_cast<std::uint32_t>(rows.size());
  return rows;
}

}  // namespace tiercel::gpu
