// GridFile: the CSV of a grid, which grows by whole cells, so that a measurement that was ended goes on where it was.
//
// A line that was torn, and a cell at the end of which rows are missing, are dropped when the file is opened. Cells of
// another GPU, driver or build stay, and are measured again for this one. One thread, one process. Knows no CUDA.
#pragma once

#include "cuda/bench/grid_row.h"

#include <tiercel/result.h>

#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tiercel::gpu {

/// The rows of the whole cells in the file. Errors name the file. kNotFound; kInvalidArgument: it is not a CSV of the
/// grid, or of one with other columns; kCorrupt: a line in the middle is not of the grid.
[[nodiscard]] Result<std::vector<GridRow>> read_grid(const std::string& path);
/// Rows of the identity that the last row has.
[[nodiscard]] std::vector<GridRow> last_identity(const std::vector<GridRow>& rows);

class GridFile {
 public:
  /// Makes the file where there is none, or an empty one. Errors as of read_grid().
  [[nodiscard]] static Result<GridFile> open(const std::string& path);

  [[nodiscard]] bool has(const GridIdentity& identity, const GridKey& key) const;
  /// The rows of one cell; they lie in the file when it returns. Fills in what all rows of a cell have in common.
  [[nodiscard]] Status append(const GridIdentity& identity, std::vector<GridRow> cell);
  [[nodiscard]] const std::vector<GridRow>& rows() const noexcept { return rows_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const noexcept { (void)std::fclose(file); }
  };
  std::string path_;
  std::vector<GridRow> rows_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace tiercel::gpu
