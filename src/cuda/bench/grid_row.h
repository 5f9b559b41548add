// GridRow: what was measured of one way in one cell of the grid, and its line of a CSV.
//
// A cell is a plan: a model's pages in a layout, tokens a block, blocks, a direction. Its rows stand one behind
// another, the first is the contiguous copy that the others are compared with; each says how many there are, so that a
// cell of which some are missing is found. Values; knows no CUDA.
#pragma once

#include <tiercel/result.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel::gpu {

enum class GridDirection : std::uint8_t { kStore, kLoad, kBoth };  ///< both: half of the blocks each way, at once
inline constexpr std::array kGridDirections = {GridDirection::kStore, GridDirection::kLoad, GridDirection::kBoth};

enum class GridWay : std::uint8_t {
  kContiguous,  ///< one copy of as many bytes a direction: the bound
  kAuto,        ///< the engine as it is, without paces
  kStaged,      ///< the engine, by a kernel and stages
  kMerged,      ///< the engine, by copies alone
  kBatch,       ///< the driver's batch copy, one call a direction
  kMapped,      ///< a kernel of 8 thread blocks on mapped host memory
  kLoop,        ///< a copy for each piece
};
inline constexpr std::array kGridWays = {GridWay::kContiguous, GridWay::kAuto,   GridWay::kStaged, GridWay::kMerged,
                                         GridWay::kBatch,      GridWay::kMapped, GridWay::kLoop};

[[nodiscard]] std::string_view direction_name(GridDirection direction) noexcept;
[[nodiscard]] std::string_view way_name(GridWay way) noexcept;

/// What a row may say; what was not measured is absent. Percent, microseconds, GB/s (of 1e9 bytes).
enum class Figure : std::uint8_t {
  kGbPerS,
  kShare,  ///< of contiguous, percent
  kOverUs,
  kSubmitUs,  ///< of the thread that asks, until its calls have returned
  kLatencyP50Us,
  kLatencyP99Us,
  kDecodeGbPerS,
  kDecodeSlowerP50,  ///< of a replay by events, percent
  kDecodeSlowerP99,
  kDecodeLost,    ///< replays a second, percent
  kDecodeMemory,  ///< percent of the card's bandwidth that the copy takes
  kPrefillGbPerS,
  kPrefillSlowerP50,
  kPrefillSlowerP99,
  kPrefillLost,
  kPrefillMemory,
  kForeignOutP50Us,
  kForeignOutP99Us,
  kForeignInP50Us,
  kForeignInP99Us,
};
inline constexpr std::size_t kFigures = 20;

/// Without what would end a field or a line.
[[nodiscard]] std::string plain_field(std::string text);

/// Where and by what a row was measured: rows of two of these are not compared. Plain fields.
struct GridIdentity {
  std::string gpu;
  std::string driver;
  std::string build;
  friend bool operator==(const GridIdentity&, const GridIdentity&) = default;
};

struct GridKey {
  std::string model;
  std::string layout;
  std::uint32_t tokens = 0;
  std::uint64_t blocks = 0;  ///< in all, both directions together
  GridDirection direction = GridDirection::kStore;
  friend bool operator==(const GridKey&, const GridKey&) = default;
};

struct GridRow {
  GridIdentity identity;
  GridKey key;
  std::uint64_t bytes = 0;
  GridWay way = GridWay::kContiguous;
  std::uint32_t cell_rows = 0;
  std::array<std::optional<double>, kFigures> figures;

  [[nodiscard]] std::optional<double>& operator[](Figure figure) { return figures[static_cast<std::size_t>(figure)]; }
  [[nodiscard]] const std::optional<double>& operator[](Figure figure) const {
    return figures[static_cast<std::size_t>(figure)];
  }
};

/// Both without the end of the line.
[[nodiscard]] std::string grid_header();
[[nodiscard]] std::string grid_line(const GridRow& row);
/// kCorrupt: it is not a line of the grid.
[[nodiscard]] Result<GridRow> parse_grid_line(std::string_view line);

}  // namespace tiercel::gpu
