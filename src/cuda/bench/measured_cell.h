// MeasuredCell: the rows of one cell of the grid by way, and what is asked of them.
//
// Views of rows that outlive it. Knows no CUDA.
#pragma once

#include "cuda/bench/grid_row.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace tiercel::gpu {

struct MeasuredCell {
  GridKey key;
  std::uint64_t bytes = 0;
  std::array<const GridRow*, kGridWays.size()> ways{};

  /// Nothing: the way was not measured, or not this of it.
  [[nodiscard]] std::optional<double> get(GridWay way, Figure figure) const;
  /// Neither auto nor the bound. Null: auto was measured alone.
  [[nodiscard]] const GridRow* best_other() const;
  /// By how much auto is slower than the best other way, as a share of it, percent; below 0: it is faster.
  [[nodiscard]] std::optional<double> behind_percent() const;
  /// "qwen3-8b hnd 16 x 1024 store"
  [[nodiscard]] std::string name() const;
};

/// In the order of the rows. Of a cell that stands there twice the later one.
[[nodiscard]] std::vector<MeasuredCell> measured_cells(const std::vector<GridRow>& rows);

}  // namespace tiercel::gpu
