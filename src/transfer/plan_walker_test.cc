// Goal: however a plan is cut into ranges, its tiles cover every byte exactly once; neighbours come out as one tile.
#include "transfer/plan_walker.h"

#include "model/testing/paged_engine.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace tiercel {
namespace {

using namespace testing_support;

std::shared_ptr<const CopyGeometry> geometry_of(PagedEngine& engine, const RunTable& table) {
  return std::make_shared<const CopyGeometry>(CopyGeometry::make(table, engine.tensors()).value());
}

std::vector<Tile> tiles_of(const CopyPlan& plan, const ByteRange& range) {
  std::vector<Tile> tiles;
  PlanWalker walker(plan, range);
  for (Tile tile; walker.next(tile);) tiles.push_back(tile);
  return tiles;
}

RC_GTEST_PROP(PlanWalker, ranges_cover_every_byte_once, (std::uint64_t seed)) {
  Random random(seed);
  const EngineShape shape = random_shape(random);
  PagedEngine engine(shape);
  const auto pages_per_block = static_cast<std::uint32_t>(1 + random.below(3));
  const std::uint32_t block_tokens = pages_per_block * shape.page_tokens;
  const RunTable table = RunTable::make(layout_of(shape, block_tokens).groups[0], block_tokens).value();
  const std::size_t blocks = 1 + random.below(shape.pages / pages_per_block);
  std::vector<std::byte> arena(blocks * table.block_bytes());
  std::vector<std::byte*> slots;
  for (std::size_t i = 0; i < blocks; ++i) slots.push_back(arena.data() + i * table.block_bytes());
  const CopyPlan plan =
      CopyPlan::make(geometry_of(engine, table), random_pages(random, shape.pages, blocks * pages_per_block), slots)
          .value();

  // Count visits of every byte of the blocks; each byte of a run must have exactly one.
  std::vector<int> visits(arena.size());
  std::uint64_t begin = 0;
  while (begin < plan.bytes()) {
    const std::uint64_t end = begin + 1 + random.below(plan.bytes());
    for (const Tile& tile : tiles_of(plan, {begin, end})) {
      for (std::uint64_t o = 0; o < tile.outer.count; ++o) {
        for (std::uint64_t i = 0; i < tile.inner.count; ++i) {
          const std::byte* row = tile.block + o * tile.outer.block_stride_bytes + i * tile.inner.block_stride_bytes;
          for (std::uint64_t b = 0; b < tile.row_bytes; ++b)
            ++visits.at(static_cast<std::size_t>(row + b - arena.data()));
        }
      }
    }
    begin = end;
  }
  std::vector<int> expected(arena.size());
  for (std::size_t block = 0; block < blocks; ++block) {
    for (const PlacedRun& run : table.runs()) {
      const auto first = static_cast<std::ptrdiff_t>(block * table.block_bytes() + run.offset_bytes);
      std::fill_n(expected.begin() + first, run.bytes, 1);
    }
  }
  RC_ASSERT(visits == expected);
}

class Joining : public testing::Test {
 protected:
  /// One tensor over all layers, block first: a block is one run of bytes on both sides.
  PagedEngine engine_{
      EngineShape{.order = {Axis::kPage, Axis::kLayer, Axis::kKv, Axis::kHead, Axis::kToken}, .inner_bytes = 32}};
  RunTable table_ = RunTable::make(layout_of(engine_.shape(), 16).groups[0], 16).value();
  std::vector<std::byte> arena_ = std::vector<std::byte>(4 * table_.block_bytes());
  std::vector<Tile> tiles(std::vector<std::uint32_t> pages, const std::vector<std::size_t>& slots) {
    std::vector<std::byte*> at;
    for (const std::size_t slot : slots) at.push_back(arena_.data() + slot * table_.block_bytes());
    const CopyPlan plan = CopyPlan::make(geometry_of(engine_, table_), std::move(pages), at).value();
    return tiles_of(plan, {0, plan.bytes()});
  }
};

TEST_F(Joining, adjacent_pages_in_adjacent_slots_are_one_tile) {
  const auto joined = tiles({2, 3, 4}, {0, 1, 2});
  ASSERT_EQ(joined.size(), 1U);
  EXPECT_EQ(joined[0].row_bytes, 3 * table_.block_bytes());
}

TEST_F(Joining, a_gap_on_either_side_keeps_tiles_apart) {
  EXPECT_EQ(tiles({2, 3, 5}, {0, 1, 2}).size(), 2U);
  EXPECT_EQ(tiles({2, 3, 4}, {0, 1, 3}).size(), 2U);
  EXPECT_EQ(tiles({4, 3, 2}, {0, 1, 2}).size(), 3U);
}

TEST_F(Joining, adjacent_pages_of_one_block_are_one_tile) {
  EngineShape shape{.packing = Packing::kLatent, .order = {Axis::kPage, Axis::kToken}, .layers = 1, .end_layer = 1};
  PagedEngine latent(shape);
  const RunTable table = RunTable::make(layout_of(shape, 64).groups[0], 64).value();
  const CopyPlan plan = CopyPlan::make(geometry_of(latent, table), {1, 2, 3, 6}, {arena_.data()}).value();
  const auto joined = tiles_of(plan, {0, plan.bytes()});
  ASSERT_EQ(joined.size(), 2U);
  EXPECT_EQ(joined[0].row_bytes, 3U * 16 * 32);
}

TEST_F(Joining, an_empty_range_has_no_tile) {
  const CopyPlan plan = CopyPlan::make(geometry_of(engine_, table_), {1}, {arena_.data()}).value();
  EXPECT_TRUE(tiles_of(plan, {5, 5}).empty());
  EXPECT_TRUE(tiles_of(plan, {plan.bytes(), plan.bytes() + 9}).empty());
}

}  // namespace
}  // namespace tiercel
