#include "cuda/bench/grid_schedule.h"

#include <algorithm>

namespace tiercel::gpu {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30U;
constexpr std::uint64_t kMostBlocks = 4096;
constexpr std::uint64_t kForeignBlocks = 512;
constexpr std::uint64_t kLoopBlocks = 64;
/// Rows that are transposed are copied tile by tile without the kernel.
constexpr std::uint64_t kTransposedBlocks = 4;
constexpr double kRunSeconds = 30e-6;
constexpr double kPieceSeconds = 3.5e-6;
constexpr double kCellSeconds = 0.03;  // lists, the kernel's table, a line in the file

/// K and V of a head and token, 2 bytes a value.
constexpr std::uint32_t row_of(std::uint32_t head_values) { return head_values * 2 * 2; }

std::vector<PoolShape> shapes() {
  return {
      {.model = "qwen3-8b"},
      {.model = "deepseek-v3", .order = PageOrder::kLatent, .layers = 61, .heads = 1, .row_bytes = 576 * 2},
      {.model = "qwen3-8b", .order = PageOrder::kTokens},
      {.model = "qwen3-8b", .order = PageOrder::kCrossLayer},
      {.model = "llama-3.1-8b", .layers = 32},
      {.model = "llama-3.1-70b", .layers = 80},
      {.model = "qwen3-32b", .layers = 64},
      {.model = "gpt-oss-20b", .layers = 24, .row_bytes = row_of(64)},
      {.model = "smollm2-135m", .layers = 30, .heads = 3, .row_bytes = row_of(64)},
  };
}

/// All counts of blocks, for those that the rest is read by.
bool is_full(const PoolShape& shape) {
  return shape.tokens == 16 &&
         (shape.order == PageOrder::kLatent || (shape.model == "qwen3-8b" && shape.order == PageOrder::kHeads));
}

std::vector<std::uint64_t> block_counts(const PoolShape& shape, const GridLimits& limits) {
  const auto fit = [&](std::uint64_t bytes) {
    const std::uint64_t most = std::min({bytes, limits.arena_bytes, limits.gpu_bytes}) / shape.block_bytes();
    return std::min(most, kMostBlocks) / 2 * 2;  // an equal number each way
  };
  std::vector<std::uint64_t> counts = {1, 64, fit(kGiB) > kLoopBlocks ? fit(kGiB) : fit(4 * kGiB)};
  if (is_full(shape)) counts = {1, 4, 16, 64, 256, 1024, fit(4 * kGiB)};
  for (std::uint64_t& count : counts) count = std::min(count, std::max<std::uint64_t>(1, fit(4 * kGiB)));
  std::ranges::sort(counts);
  counts.erase(std::ranges::unique(counts).begin(), counts.end());
  return counts;
}

double run_seconds(const GridCell& cell, GridWay way) {
  const double rate = cell.direction == GridDirection::kBoth ? 90e9 : 50e9;
  double seconds = static_cast<double>(cell.bytes()) / rate;
  auto pieces = static_cast<double>(cell.blocks * cell.shape.block_pieces());
  const bool list = way == GridWay::kBatch || way == GridWay::kLoop || way == GridWay::kMerged;
  if (way == GridWay::kMerged && cell.shape.order == PageOrder::kTokens) pieces *= cell.shape.heads;
  if (list) seconds = std::max(seconds, pieces * kPieceSeconds);
  return seconds + kRunSeconds;
}

}  // namespace

std::vector<GridCell> grid_cells(const GridLimits& limits) {
  std::vector<GridCell> cells;
  const auto add = [&](const PoolShape& shape) {
    const auto counts = block_counts(shape, limits);
    std::uint64_t largest = 0;  // that is measured beside models whatever the tokens
    for (const std::uint64_t blocks : counts) {
      if (blocks * shape.block_bytes() <= kGiB / 4 * 5) largest = blocks;
    }
    for (const std::uint64_t blocks : counts) {
      for (const GridDirection direction : kGridDirections) {
        if (direction == GridDirection::kBoth && blocks < 2) continue;
        GridCell cell{.shape = shape, .blocks = blocks, .direction = direction};
        cell.beside_models = cell.bytes() >= kLargeBytes &&
                             (shape.tokens == 16 || (blocks == largest && direction != GridDirection::kBoth));
        cell.foreign = is_full(shape) && blocks >= kForeignBlocks;
        cells.push_back(cell);
      }
    }
  };
  for (const PoolShape& shape : shapes()) add(shape);
  for (const std::uint32_t tokens : {32U, 64U}) {
    for (PoolShape shape : shapes()) {
      shape.tokens = tokens;
      add(shape);
    }
  }
  return cells;
}

std::vector<GridWay> grid_ways(const GridCell& cell) {
  std::vector<GridWay> ways = {GridWay::kContiguous, GridWay::kAuto, GridWay::kStaged};
  if (cell.shape.order != PageOrder::kTokens || cell.blocks <= kTransposedBlocks) ways.push_back(GridWay::kMerged);
  ways.push_back(GridWay::kBatch);
  ways.push_back(GridWay::kMapped);
  if (cell.blocks <= kLoopBlocks) ways.push_back(GridWay::kLoop);
  return ways;
}

bool is_beside(GridWay way) noexcept {
  return way == GridWay::kContiguous || way == GridWay::kAuto || way == GridWay::kBatch || way == GridWay::kMapped;
}

Repetitions repetitions_of(std::uint64_t bytes) noexcept {
  if (bytes > kGiB) return {.bursts = 3, .runs = 1};
  if (bytes > (64U << 20U)) return {.bursts = 3, .runs = 2};
  if (bytes > (4U << 20U)) return {.bursts = 3, .runs = 5, .warm = 1};
  return {.bursts = 3, .runs = 20, .warm = 2};
}

GridSeconds estimate(const GridCell& cell) {
  GridSeconds seconds{.copies = kCellSeconds};
  const Repetitions repetitions = repetitions_of(cell.bytes());
  const double runs = repetitions.bursts * (repetitions.runs + repetitions.warm) + 1;
  double beside = 0;
  for (const GridWay way : grid_ways(cell)) {
    const double one = run_seconds(cell, way);
    seconds.copies += std::max(std::min(runs * one, kWaySeconds + one), 2 * one);
    if (!is_beside(way) || one > kWaySeconds) continue;
    // One run before, one that has begun at the end, and at least two meanwhile.
    if (cell.beside_models) beside += 1.5 * one + std::max(kReplaySeconds, 2.6 * one);
    if (cell.foreign) seconds.foreign += 2 * kForeignSeconds + 3 * one;
  }
  if (cell.beside_models) seconds.models = 2 * (kSettleSeconds + kReplaySeconds + beside);
  return seconds;
}

}  // namespace tiercel::gpu
