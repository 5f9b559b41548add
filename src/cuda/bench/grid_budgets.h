// grid_budgets: the budgets of docs/results/h200.md held against what was measured of `auto`. Knows no CUDA.
#pragma once

#include "cuda/bench/measured_cell.h"

#include <cstddef>
#include <string>
#include <vector>

namespace tiercel::gpu {

struct BudgetOutcome {
  std::string what;
  std::size_t cells = 0;  ///< that it applies to; 0: nothing was measured
  std::size_t missed = 0;
  std::string worst;  ///< value and cell

  /// "holds", "missed" or "-".
  [[nodiscard]] std::string verdict() const { return cells == 0 ? "-" : missed == 0 ? "holds" : "missed"; }
};

[[nodiscard]] std::vector<BudgetOutcome> grid_budgets(const std::vector<MeasuredCell>& cells);

}  // namespace tiercel::gpu
