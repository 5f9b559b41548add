// Goal: tables, budgets and plot say what the rows say, and fit where they are read.
#include "cuda/bench/grid_report.h"

#include "cuda/bench/grid_budgets.h"
#include "cuda/bench/grid_file.h"
#include "cuda/bench/grid_plot.h"
#include "cuda/testing/made_up_grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace tiercel::gpu {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class Grid : public ::testing::Test {
 protected:
  void measure(const GridCell& cell) {
    for (GridRow& row : made_up_rows(cell)) {
      row.identity = {"NVIDIA H200", "580.1", "0.1.0-1"};
      rows_.push_back(std::move(row));
    }
  }
  void measure_all() {
    for (const GridCell& cell : grid_cells({})) measure(cell);
  }
  /// A cell of Qwen3-8B of 16 tokens a block.
  void measure(std::uint64_t blocks, GridDirection direction) {
    const auto cells = grid_cells({});
    const auto found = std::ranges::find_if(cells, [&](const GridCell& cell) {
      return cell.shape == PoolShape{} && cell.blocks == blocks && cell.direction == direction;
    });
    ASSERT_NE(found, cells.end());
    measure(*found);
  }
  GridRow& last(GridWay way) {
    return *std::find_if(rows_.rbegin(), rows_.rend(), [=](const GridRow& row) { return row.way == way; });
  }
  /// The last cell's figures as if the way had so many percent of contiguous.
  void share(GridWay way, double percent) {
    last(way)[Figure::kShare] = percent;
    last(way)[Figure::kGbPerS] = percent / 2;
  }
  [[nodiscard]] BudgetOutcome budget(const std::string& what) const {
    for (const BudgetOutcome& outcome : grid_budgets(measured_cells(rows_))) {
      if (outcome.what.find(what) != std::string::npos) return outcome;
    }
    ADD_FAILURE() << "no budget " << what;
    return {};
  }
  [[nodiscard]] std::string line_of(const std::string& begin) const {
    std::istringstream text(grid_report(rows_));
    for (std::string line; std::getline(text, line);) {
      if (line.starts_with(begin)) return line;
    }
    return "";
  }

  std::vector<GridRow> rows_;
};

TEST_F(Grid, ALineHasAutoAndTheBestOtherWay) {
  measure(64, GridDirection::kStore);
  share(GridWay::kAuto, 93.5);
  share(GridWay::kMapped, 95.25);
  measure(64, GridDirection::kLoad);
  share(GridWay::kAuto, 90);
  share(GridWay::kBatch, 97);
  EXPECT_THAT(line_of("16 x   64"),
              AllOf(HasSubstr("151.0 MB"), HasSubstr("| 93.5/95.2k  |"), HasSubstr("| 90.0/97.0b* |")));
}

TEST_F(Grid, SmallCellsAreNotMarked) {
  measure(4, GridDirection::kLoad);
  share(GridWay::kAuto, 50);
  EXPECT_THAT(line_of("16 x    4"), AllOf(HasSubstr("50.0/90.0s"), Not(HasSubstr("*"))));
}

TEST_F(Grid, AllOfItFitsWhereItIsRead) {
  measure_all();
  const std::string report = grid_report(rows_);
  EXPECT_LE(report.size(), kReportCharacters);
  std::istringstream text(report);
  for (std::string line; std::getline(text, line);) EXPECT_LE(line.size(), 200U) << line;
  EXPECT_THAT(report, Not(HasSubstr("left out")));
  for (GridRow& row : rows_) {  // nothing of it may be unbounded
    for (auto& figure : row.figures) {
      if (figure) *figure *= 1e5;
    }
  }
  EXPECT_LE(grid_report(rows_).size(), kReportCharacters);
}

TEST_F(Grid, NothingMeasured) {
  EXPECT_EQ(grid_report({}), "no cell was measured\n");
  EXPECT_THAT(grid_plot({}), HasSubstr("</svg>"));
}

TEST_F(Grid, BudgetsOfLongPlans) {
  EXPECT_EQ(budget("loads >= 98 %").verdict(), "-");
  measure(256, GridDirection::kLoad);
  share(GridWay::kAuto, 98.2);
  EXPECT_EQ(budget("loads >= 98 %").verdict(), "holds");
  EXPECT_EQ(budget("stores >= 98 %").verdict(), "-");
  measure(1024, GridDirection::kLoad);
  share(GridWay::kAuto, 97.9);
  const BudgetOutcome missed = budget("loads >= 98 %");
  EXPECT_EQ(missed.verdict(), "missed");
  EXPECT_EQ(missed.cells, 2U);
  EXPECT_EQ(missed.missed, 1U);
  EXPECT_EQ(missed.worst, "97.9 % (qwen3-8b hnd 16 x 1024 load)");
  measure(256, GridDirection::kBoth);
  share(GridWay::kAuto, 95);
  EXPECT_EQ(budget("both ways >= 95 %").verdict(), "holds");
  share(GridWay::kAuto, 94.9);
  EXPECT_EQ(budget("both ways >= 95 %").verdict(), "missed");
}

TEST_F(Grid, BudgetsOfShortPlans) {
  measure(1, GridDirection::kStore);
  last(GridWay::kAuto)[Figure::kOverUs] = 60;
  last(GridWay::kAuto)[Figure::kSubmitUs] = 10.04;
  share(GridWay::kAuto, 77);
  EXPECT_EQ(budget("stores <= contiguous + 60 us").verdict(), "holds");
  EXPECT_EQ(budget("submit <= 10 us").verdict(), "holds");
  EXPECT_EQ(budget("one block of 2.25 MiB").verdict(), "holds");
  last(GridWay::kAuto)[Figure::kOverUs] = 60.5;
  last(GridWay::kAuto)[Figure::kSubmitUs] = 10.06;
  share(GridWay::kAuto, 76.9);
  EXPECT_EQ(budget("stores <= contiguous + 60 us").verdict(), "missed");
  EXPECT_EQ(budget("submit <= 10 us").verdict(), "missed");
  EXPECT_EQ(budget("one block of 2.25 MiB").verdict(), "missed");
}

TEST_F(Grid, WhatDecodeLosesIsAlsoHeldAgainstOneContiguousCopy) {
  measure(1024, GridDirection::kLoad);
  const auto beside_decode = [&](GridWay way, double gb_per_s, double slower, double memory) {
    last(way)[Figure::kDecodeGbPerS] = gb_per_s;
    last(way)[Figure::kDecodeSlowerP50] = slower;
    last(way)[Figure::kDecodeMemory] = memory;
  };
  beside_decode(GridWay::kContiguous, 55, 3.8, 1.1);
  beside_decode(GridWay::kAuto, 50, 7.2, 3.0);  // 2.0 of it the stage's
  EXPECT_EQ(budget("decode slowed").verdict(), "missed");
  EXPECT_EQ(budget("beyond one contiguous copy").verdict(), "holds");
  beside_decode(GridWay::kAuto, 50, 7.4, 3.0);
  EXPECT_EQ(budget("beyond one contiguous copy").verdict(), "missed");
  EXPECT_THAT(budget("beyond one contiguous copy").worst, HasSubstr("3.6 %, allowed 3.5"));
}

TEST_F(Grid, BudgetsBesideOthers) {
  measure(1024, GridDirection::kStore);
  EXPECT_EQ(budget("at most 3 % behind").verdict(), "holds");
  EXPECT_EQ(budget("decode slowed").verdict(), "holds");
  EXPECT_EQ(budget("replays lost").verdict(), "holds");
  EXPECT_EQ(budget("a foreign").verdict(), "holds");
  share(GridWay::kMerged, 100.1);  // auto has 97
  last(GridWay::kAuto)[Figure::kDecodeSlowerP50] = 4.6;
  last(GridWay::kAuto)[Figure::kPrefillLost] = 4.0;
  last(GridWay::kAuto)[Figure::kForeignInP99Us] = 151;
  EXPECT_EQ(budget("at most 3 % behind").verdict(), "missed");
  EXPECT_EQ(budget("decode slowed").worst, "4.6 %, allowed 4.5 (qwen3-8b hnd 16 x 1024 store)");
  EXPECT_EQ(budget("replays lost").verdict(), "missed");
  EXPECT_EQ(budget("a foreign").verdict(), "missed");
}

TEST_F(Grid, ThePlotHasALineForEachWay) {
  measure_all();
  const std::string svg = grid_plot(rows_);
  EXPECT_THAT(svg,
              AllOf(StartsWith("<svg "), HasSubstr("qwen3-8b hnd, 16 tokens a block: store"),
                    HasSubstr("deepseek-v3 mla, 16 tokens a block: both"), HasSubstr("4 GiB"), HasSubstr("1 MiB")));
  const auto count = [&](const std::string& what) {
    std::size_t found = 0;
    for (std::size_t at = svg.find(what); at != std::string::npos; at = svg.find(what, at + 1)) ++found;
    return found;
  };
  EXPECT_EQ(count("stroke-dasharray"), 6U);  // the roof of each panel
  EXPECT_EQ(count("stroke-width=\"1.5\""), 2U * 3U * 5U);
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST_F(Grid, AFinishedFileGivesTablesAndPlot) {
  std::string path = "grid-XXXXXX";
  const std::filesystem::path folder = std::filesystem::absolute(mkdtemp(path.data()));
  const std::string csv = (folder / "grid.csv").string();
  const std::string svg = (folder / "grid.svg").string();
  EXPECT_THAT(report_grid_file(csv, svg).error().message, HasSubstr(csv));
  {
    auto file = GridFile::open(csv);
    ASSERT_TRUE(file);
    for (const std::uint64_t blocks : {1U, 64U}) {
      rows_.clear();
      measure(blocks, GridDirection::kLoad);
      ASSERT_TRUE(file->append({"NVIDIA H200", "580.1", "0.1.0-1"}, rows_));
    }
  }
  ::testing::internal::CaptureStdout();
  const Status status = report_grid_file(csv, svg);
  const std::string text = ::testing::internal::GetCapturedStdout();
  EXPECT_TRUE(status);
  EXPECT_THAT(text,
              AllOf(HasSubstr("NVIDIA H200, driver 580.1"), HasSubstr("16 x   64"), HasSubstr("budgets, of auto")));
  std::ifstream file(svg);
  const std::string plot{std::istreambuf_iterator<char>(file), {}};
  EXPECT_THAT(plot, HasSubstr("</svg>"));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tiercel::gpu
