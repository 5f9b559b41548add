// Goal: the arithmetic of the kernel: division is exact, every byte of a stage is found, each access is aligned.
#include "cuda/stage_move.h"
#include "cuda/divisor.h"
#include "cuda/dma_walker.h"
#include "cuda/piece_table.h"
#include "cuda/stage_cutter.h"
#include "cuda/testing/plan_world.h"
#include "transfer/testing/copy_engine_contract.h"

#include <gtest/gtest.h>

namespace tiercel::gpu {
namespace {

using transfer_contract::HostMemory;

TEST(Divisor, is_exact_at_every_edge) {
  Random random(3);
  std::vector<std::uint32_t> values = {
      1, 2, 3, 5, 7, 16, 641, 65'535, 65'536, 65'537, (1U << 30U) + 1, (1U << 31U) - 1};
  for (int i = 0; i < 500; ++i)
    values.push_back(static_cast<std::uint32_t>(1 + random.below(kMaxDividend >> random.below(31))));
  for (const std::uint32_t value : values) {
    const Divisor divisor = Divisor::of(value);
    const auto check = [&](std::uint64_t n) {
      if (n > kMaxDividend) return;
      ASSERT_EQ(divisor.divide(static_cast<std::uint32_t>(n)), n / value) << n << " / " << value;
    };
    for (std::uint64_t n : {std::uint64_t{0}, std::uint64_t{1}, kMaxDividend, kMaxDividend - 1}) check(n);
    for (int i = 0; i < 200; ++i) {
      const std::uint64_t multiple = random.below(kMaxDividend / value + 1) * value;
      check(multiple);
      check(multiple + value - 1);
      check(multiple + value);
      check(random.below(kMaxDividend));
    }
  }
}

/// Stages of a plan by hand, in order, each emptied before the next.
void run_by_hand(const CopyPlan& plan, const PieceTable& table, CopyDirection direction, std::uint64_t stage_bytes,
                 std::uint64_t limit_bytes, std::uint64_t boundary_bytes) {
  std::vector<std::byte> memory(stage_bytes + kVectorBytes);
  std::byte* stage =
      memory.data() + (kVectorBytes - std::bit_cast<std::uintptr_t>(memory.data()) % kVectorBytes) % kVectorBytes;
  StageCutter cutter(table, plan.blocks(), stage_bytes);
  while (!cutter.ended()) {
    const StageRange range = cutter.next();
    ASSERT_LE(range.bytes(), stage_bytes);
    std::ranges::fill(memory, std::byte{0xA5});
    StageParams params;
    fill_params(table, plan, range, std::bit_cast<std::uintptr_t>(stage), table.pieces().data(), params);
    const auto kernel = [&]<bool kGather>() {
      for (std::uint32_t v = 0; v < params.bytes / kVectorBytes; ++v) {
        move_in_parts<kGather>(params, place_of(params, v), params.stage + std::uint64_t{v} * kVectorBytes);
      }
    };
    if (direction == CopyDirection::kStore) kernel.template operator()<true>();
    DmaWalker walker(boundary_bytes);
    walker.of_stage(plan, table, range, stage);
    for (Dma dma; walker.next(dma, limit_bytes);) {
      ASSERT_LE(dma.total_bytes(), limit_bytes);
      ASSERT_GT(dma.bytes, 0U);
      const auto first = std::bit_cast<std::uintptr_t>(dma.host);
      const std::uint64_t extent = (dma.rows - 1) * dma.host_pitch_bytes + dma.bytes;
      if (boundary_bytes != 0) {
        ASSERT_EQ(first / boundary_bytes, (first + extent - 1) / boundary_bytes);
      }
      for (std::uint64_t row = 0; row < dma.rows; ++row) {
        std::byte* host = dma.host + row * dma.host_pitch_bytes;
        std::byte* device = dma.device + row * dma.device_pitch_bytes;
        ASSERT_GE(device, stage);
        ASSERT_LE(device + dma.bytes, stage + range.bytes());
        std::memcpy(direction == CopyDirection::kStore ? host : device,
                    direction == CopyDirection::kStore ? device : host, dma.bytes);
      }
    }
    ASSERT_TRUE(walker.ended());
    if (direction == CopyDirection::kLoad) kernel.template operator()<false>();
  }
}

TEST(StageMove, stages_of_any_size_store_and_load_what_the_host_engine_does) {
  std::vector<std::byte> arena(1U << 20U);
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    PlanWorld<HostMemory> world(seed, arena.data(), arena.size());
    const std::size_t blocks = world.blocks();
    const std::size_t middle = world.random().below(blocks + 1);
    const CopyPlan stores = world.plan(0, middle);
    const CopyPlan loads = world.plan(middle, blocks);
    const auto table = PieceTable::make(stores.geometry());
    ASSERT_TRUE(table) << table.error().message;
    const std::uint64_t stage_bytes = kVectorBytes * (1 + world.random().below(seed % 2 == 0 ? 40 : 4000));
    const std::uint64_t limit_bytes = 1 + world.random().below(seed % 3 == 0 ? 100 : 9000);
    const std::uint64_t boundary = seed % 5 == 0 ? 0 : std::uint64_t{1} << (6 + world.random().below(8));
    const auto arena_before = world.arena_bytes();
    const auto storage_before = world.storage();
    run_by_hand(stores, *table, CopyDirection::kStore, stage_bytes, limit_bytes, boundary);
    run_by_hand(loads, *table, CopyDirection::kLoad, stage_bytes, limit_bytes, boundary);
    if (testing::Test::HasFatalFailure()) FAIL() << "seed " << seed;
    const auto arena_after = world.arena_bytes();
    const auto storage_after = world.storage();
    world.restore(arena_before, storage_before);
    world.run_on_host(0, middle, CopyDirection::kStore);
    world.run_on_host(middle, blocks, CopyDirection::kLoad);
    ASSERT_TRUE(arena_after == world.arena_bytes()) << "seed " << seed;
    ASSERT_TRUE(storage_after == world.storage()) << "seed " << seed;
  }
}

class Geometries : public testing::Test {
 protected:
  /// 8 heads of 128 values of 2 bytes, K and V side by side, 36 layers: an 8B model, its arena's slots together.
  static EngineShape qwen(std::vector<Axis> order) {
    return {.packing = Packing::kPacked,
            .order = std::move(order),
            .pages = 8,
            .page_tokens = 16,
            .inner_bytes = 512,
            .heads = 8,
            .layers = 4,
            .end_head = 8,
            .end_layer = 4};
  }
  static PieceTable table(const EngineShape& shape, std::uint32_t block_tokens) {
    PagedEngine engine(shape);
    const RunTable runs = RunTable::make(layout_of(shape, block_tokens).groups[0], block_tokens).value();
    return PieceTable::make(CopyGeometry::make(runs, engine.tensors(),
                                               {.first_layer = shape.first_layer, .end_layer = shape.end_layer})
                                .value())
        .value();
  }
};

TEST_F(Geometries, known_layouts_move_by_whole_vectors_and_one_span) {
  for (const auto& order :
       {std::vector{Axis::kPage, Axis::kHead, Axis::kToken}, std::vector{Axis::kPage, Axis::kToken, Axis::kHead}}) {
    const PieceTable t = table(qwen(order), 64);
    for (const PieceEntry& piece : t.pieces()) EXPECT_EQ(piece.access_bytes, 16U);
    EXPECT_EQ(t.piece_bytes(), 4U * 65'536);
    ASSERT_EQ(t.spans().size(), 1U);
    EXPECT_EQ(t.spans()[0].bytes, 4U * 4 * 65'536);
    EXPECT_EQ(t.block_bytes(), t.part_bytes());
  }
}

TEST_F(Geometries, a_ranks_heads_are_rows_at_one_pitch) {
  EngineShape shape = qwen({Axis::kPage, Axis::kHead, Axis::kToken});
  shape.first_head = 2;
  shape.end_head = 4;
  const PieceTable t = table(shape, 16);
  ASSERT_EQ(t.spans().size(), 4U);
  EXPECT_EQ(t.spans()[0].rows, 4U);
  EXPECT_EQ(t.spans()[0].bytes, 2U * 16 * 512);
  EXPECT_EQ(t.spans()[0].pitch_bytes, 8U * 16 * 512);
  EXPECT_EQ(t.spans()[0].slot_offset, 2U * 16 * 512);
}

TEST_F(Geometries, an_odd_address_narrows_the_accesses) {
  EngineShape shape = qwen({Axis::kPage, Axis::kHead, Axis::kToken});
  shape.inner_bytes = 500;
  EXPECT_EQ(table(shape, 16).pieces()[0].access_bytes, 16U) << "merged into rows of 64,000 bytes";
  shape.order = {Axis::kPage, Axis::kToken, Axis::kHead};
  EXPECT_EQ(table(shape, 16).pieces()[0].access_bytes, 4U);
  shape.inner_bytes = 33;
  EXPECT_EQ(table(shape, 16).pieces()[0].access_bytes, 1U);
}

TEST(StageCutter, fills_stages_as_far_as_a_launch_takes_pages) {
  PagedEngine engine(
      {.packing = Packing::kPacked, .order = {Axis::kPage, Axis::kHead, Axis::kToken}, .inner_bytes = 64});
  const RunTable runs = RunTable::make(layout_of(engine.shape(), 16).groups[0], 16).value();
  const PieceTable table = PieceTable::make(CopyGeometry::make(runs, engine.tensors()).value()).value();
  ASSERT_EQ(table.block_bytes(), 8192U);
  StageCutter several(table, 5, 20'001);
  EXPECT_EQ(several.next().end, 20'000U) << "whole vectors";
  EXPECT_EQ(several.next().end, 40'000U);
  EXPECT_EQ(several.next().end, 40'960U);
  EXPECT_TRUE(several.ended());
  StageCutter part(table, 1, 5'000);
  EXPECT_EQ(part.next().end, 4'992U);
  EXPECT_EQ(part.next().end, 8'192U);
  EXPECT_TRUE(part.ended());
  StageCutter many(table, 2 * kMaxStagePages, 32U << 20U);
  EXPECT_EQ(many.next().end, std::uint64_t{kMaxStagePages} * 8192) << "as many pages as a launch takes";
}

}  // namespace
}  // namespace tiercel::gpu
