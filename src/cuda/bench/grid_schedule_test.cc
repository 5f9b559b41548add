// Goal: every cell of the grid can be made into plans and lists, the whole ends in time, and a run keeps its budget.
#include "cuda/bench/grid_schedule.h"

#include "cuda/bench/grid_runner.h"
#include "cuda/testing/made_up_grid.h"
#include "transfer/copy_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <memory>
#include <set>

namespace tiercel::gpu {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30U;

/// Never touched: an address that a pool could have.
std::byte* nowhere() { return std::bit_cast<std::byte*>(std::uintptr_t{1} << 40U); }

TEST(GridSchedule, EveryPlanFitsArenaAndPool) {
  std::set<std::string> seen;
  for (const GridCell& cell : grid_cells({})) {
    EXPECT_LE(cell.bytes(), 4 * kGiB);
    EXPECT_GE(cell.each(), 1U);
    if (cell.direction == GridDirection::kBoth) {
      EXPECT_EQ(cell.each() * 2, cell.blocks);
    }
    const std::uint64_t pages = 10 * kGiB / cell.shape.block_bytes();
    const auto made = pool_geometry(cell.shape, nowhere(), pages);
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ(made->part_bytes(), cell.shape.block_bytes());
    EXPECT_EQ(made->block_bytes(), cell.shape.block_bytes());
    EXPECT_EQ(made->pages_per_block(), 1U);
    EXPECT_GE(made->page_count(), cell.blocks);
    EXPECT_EQ(cell.shape.page_bytes() % 16, 0U);  // what the kernel on mapped memory moves at once
    const GridKey key = cell.key();
    EXPECT_TRUE(seen.insert(grid_line({.key = key})).second) << "twice: " << grid_line({.key = key});
  }
}

TEST(GridSchedule, PagesLieWhereTheGeometrySays) {
  constexpr std::uint64_t kPages = 100;
  for (const GridCell& cell : grid_cells({})) {
    const PoolShape& shape = cell.shape;
    const CopyGeometry geometry = pool_geometry(shape, nowhere(), kPages).value();
    ASSERT_EQ(geometry.pieces().size(), shape.block_pieces());
    for (std::uint32_t layer = 0; layer < shape.block_pieces(); ++layer) {
      const RunPiece& piece = geometry.pieces()[layer];
      EXPECT_EQ(piece.engine + 7 * piece.engine_page_stride_bytes, nowhere() + page_offset(shape, kPages, layer, 7));
      EXPECT_EQ(piece.block_offset_bytes, layer * shape.page_bytes());
      EXPECT_EQ(piece.straight(), shape.order != PageOrder::kTokens);
    }
  }
}

TEST(GridSchedule, TheGridIsTheOneThatIsAsked) {
  std::set<std::string> models;
  std::set<std::uint64_t> qwen;
  std::set<std::uint32_t> tokens;
  for (const GridCell& cell : grid_cells({})) {
    models.insert(cell.shape.model + " " + cell.shape.layout());
    tokens.insert(cell.shape.tokens);
    if (cell.shape.model == "qwen3-8b" && cell.shape.layout() == "hnd" && cell.shape.tokens == 16) {
      qwen.insert(cell.blocks);
      EXPECT_EQ(cell.shape.block_bytes(), 36U * 65536U);
      EXPECT_EQ(cell.beside_models, cell.blocks >= 16);
      EXPECT_EQ(cell.foreign, cell.blocks >= 1024);
    }
    EXPECT_TRUE(cell.bytes() >= kLargeBytes || !cell.beside_models);
    const auto ways = grid_ways(cell);
    EXPECT_EQ(ways.front(), GridWay::kContiguous);
    EXPECT_EQ(std::ranges::count(ways, GridWay::kLoop), cell.blocks <= 64 ? 1 : 0);
  }
  EXPECT_THAT(models, ::testing::UnorderedElementsAre("llama-3.1-8b hnd", "llama-3.1-70b hnd", "qwen3-8b hnd",
                                                      "qwen3-8b nhd", "qwen3-8b cross-layer", "qwen3-32b hnd",
                                                      "smollm2-135m hnd", "deepseek-v3 mla", "gpt-oss-20b hnd"));
  EXPECT_THAT(qwen, ::testing::ElementsAre(1, 4, 16, 64, 256, 1024, 1820));
  EXPECT_THAT(tokens, ::testing::ElementsAre(16, 32, 64));
}

TEST(GridSchedule, ASmallArenaHasASmallerGrid) {
  for (const GridCell& cell : grid_cells({.arena_bytes = kGiB / 4, .gpu_bytes = kGiB})) {
    EXPECT_LE(cell.bytes(), kGiB / 4);
  }
}

TEST(GridSchedule, AllOfItEndsWithinSevenMinutes) {
  double seconds = 0;
  for (const GridCell& cell : grid_cells({})) seconds += estimate(cell).all();
  EXPECT_LT(seconds, 400);
  EXPECT_GT(seconds, 200);
}

/// A meter whose time passes by hand: `wrong` times the estimate.
class HandMeter final : public GridMeter {
 public:
  explicit HandMeter(double wrong) : wrong_(wrong) {}
  std::vector<GridRow> measure(const GridCell& cell) override {
    now += estimate(cell).all() * wrong_;
    ++cells;
    return made_up_rows(cell);
  }
  double now = 5;
  std::size_t cells = 0;

 private:
  double wrong_;
};

class GridRunner : public ::testing::Test {
 protected:
  GridRunner() {
    std::string path = "grid-XXXXXX";
    folder_ = std::filesystem::absolute(mkdtemp(path.data()));
  }
  ~GridRunner() override { std::filesystem::remove_all(folder_); }

  GridOutcome run(HandMeter& meter, double budget_seconds) {
    auto file = GridFile::open((folder_ / "grid.csv").string());
    EXPECT_TRUE(file);
    const GridRun run{.cells = grid_cells({}),
                      .identity = {"gpu", "driver", "build"},
                      .budget_seconds = budget_seconds,
                      .elapsed_seconds = [&] { return meter.now; },
                      .report = [](const std::string&) {}};
    text_ = schedule_text(run, *file);
    const auto outcome = run_grid(run, *file, meter);
    EXPECT_TRUE(outcome) << outcome.error().message;
    return *outcome;
  }
  std::filesystem::path folder_;
  std::string text_;
};

TEST_F(GridRunner, MeasuresAllWithinTheDefaultBudget) {
  HandMeter meter(1);
  const GridOutcome outcome = run(meter, 420);
  EXPECT_EQ(outcome.measured, grid_cells({}).size());
  EXPECT_EQ(outcome.left, 0U);
  EXPECT_LT(meter.now, 420);
}

TEST_F(GridRunner, StopsBeforeTheBudgetAndGoesOnWhereItWas) {
  const std::size_t all = grid_cells({}).size();
  std::size_t there = 0;
  for (int round = 0; there < all; ++round) {
    ASSERT_LT(round, 20);
    HandMeter meter(1);
    const GridOutcome outcome = run(meter, 100);
    EXPECT_LE(meter.now, 100);
    EXPECT_EQ(outcome.present, there);
    EXPECT_EQ(outcome.measured, meter.cells);
    EXPECT_EQ(outcome.present + outcome.measured + outcome.left, all);
    EXPECT_GT(outcome.measured, 0U);
    there += outcome.measured;
  }
  HandMeter idle(1);
  EXPECT_EQ(run(idle, 100).present, all);
  EXPECT_EQ(idle.cells, 0U);
  EXPECT_THAT(text_, HasSubstr("the others take about 0 s"));
}

TEST_F(GridRunner, LearnsThatItsEstimatesAreTooSmall) {
  for (int budget = 100; budget < 200; budget += 7) {
    std::filesystem::remove(folder_ / "grid.csv");
    HandMeter meter(3);
    const GridOutcome outcome = run(meter, budget);
    EXPECT_GT(outcome.left, 0U);
    EXPECT_LE(meter.now, budget);
  }
}

}  // namespace
}  // namespace tiercel::gpu
