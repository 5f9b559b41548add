// The schedule of the grid: which cells, which ways in each, how often, and how long that takes by a sketch.
//
// The sketch: bytes at 50 GB/s (90 both ways at once), 3.5 us for each piece where the driver gets a list, 30 us a run;
// beside a model the time of its replays. What is slow is cut off (kWaySeconds). The meter takes the same counts, so
// that the estimate is of what it does. Pure; knows no CUDA.
#pragma once

#include "cuda/bench/grid_row.h"
#include "cuda/bench/pool_shape.h"

#include <cstdint>
#include <string>
#include <vector>

namespace tiercel::gpu {

inline constexpr double kWaySeconds = 0.3;      ///< that one way may take in a cell; two runs it gets always
inline constexpr double kReplaySeconds = 0.12;  ///< of a model, alone and beside each way
inline constexpr double kSettleSeconds = 0.05;  ///< of a model before it is measured
inline constexpr double kForeignSeconds = 0.15;
inline constexpr std::uint64_t kLargeBytes = 16'000'000;  ///< from which a cell is measured beside models too

struct GridCell {
  PoolShape shape;
  std::uint64_t blocks = 0;
  GridDirection direction = GridDirection::kStore;
  bool beside_models = false;
  bool foreign = false;  ///< small copies of another stream are timed beside each way

  [[nodiscard]] GridKey key() const { return {shape.model, shape.layout(), shape.tokens, blocks, direction}; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return blocks * shape.block_bytes(); }
  /// Blocks of one direction.
  [[nodiscard]] std::uint64_t each() const noexcept { return direction == GridDirection::kBoth ? blocks / 2 : blocks; }
};

/// Bytes that a plan, and the pages of all its layers, may have.
struct GridLimits {
  std::uint64_t arena_bytes = std::uint64_t{4} << 30U;
  std::uint64_t gpu_bytes = std::uint64_t{10} << 30U;
};

/// In the order of measuring: what matters most first.
[[nodiscard]] std::vector<GridCell> grid_cells(const GridLimits& limits);
/// Contiguous first.
[[nodiscard]] std::vector<GridWay> grid_ways(const GridCell& cell);
/// Of them, those that are measured beside models and foreign copies.
[[nodiscard]] bool is_beside(GridWay way) noexcept;

/// How often a way runs in a cell: `bursts` times `runs` in a row, the ways in turn, so that all meet what the machine
/// does over time; before each burst `warm` runs that do not count.
struct Repetitions {
  int bursts = 3;
  int runs = 1;
  int warm = 0;
};
[[nodiscard]] Repetitions repetitions_of(std::uint64_t bytes) noexcept;

struct GridSeconds {
  double copies = 0;
  double models = 0;
  double foreign = 0;
  [[nodiscard]] double all() const noexcept { return copies + models + foreign; }
};
[[nodiscard]] GridSeconds estimate(const GridCell& cell);

}  // namespace tiercel::gpu
