// Goal: for any order of axes, padding, packing, page size and rank, the pieces move exactly the bytes that an
// element-by-element copy moves, touch nothing else, and ranks of any number make the same block.
#include "model/testing/paged_engine.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace tiercel {
namespace {

using namespace testing_support;

enum class Toward { kBlock, kEngine };

/// The plainest reading of what a geometry says.
void apply(const CopyGeometry& geometry, const std::vector<std::uint32_t>& pages, std::byte* block, Toward toward) {
  for (const RunPiece& piece : geometry.pieces()) {
    for (std::size_t i = 0; i < pages.size(); ++i) {
      for (std::uint64_t o = 0; o < piece.outer.count; ++o) {
        for (std::uint64_t n = 0; n < piece.inner.count; ++n) {
          std::byte* engine = piece.engine + pages[i] * piece.engine_page_stride_bytes +
                              o * piece.outer.engine_stride_bytes + n * piece.inner.engine_stride_bytes;
          std::byte* bytes = block + piece.block_offset_bytes + i * piece.block_page_stride_bytes +
                             o * piece.outer.block_stride_bytes + n * piece.inner.block_stride_bytes;
          if (toward == Toward::kBlock) {
            std::memcpy(bytes, engine, piece.row_bytes);
          } else {
            std::memcpy(engine, bytes, piece.row_bytes);
          }
        }
      }
    }
  }
}

std::vector<Axis> axes_of(Packing packing, bool one_tensor) {
  std::vector<Axis> axes = {Axis::kPage, Axis::kHead, Axis::kToken};
  if (packing == Packing::kKvAxis) axes.push_back(Axis::kKv);
  if (one_tensor) axes.push_back(Axis::kLayer);
  return axes;
}

RC_GTEST_PROP(CopyGeometryProperty, store_and_load_equal_an_element_by_element_copy, (std::uint64_t seed)) {
  Random random(seed);
  const EngineShape shape = random_shape(random);
  PagedEngine engine(shape);
  engine.fill(seed);
  const std::uint32_t pages_per_block = static_cast<std::uint32_t>(1 + random.below(std::min(4U, shape.pages)));
  const std::uint32_t block_tokens = pages_per_block * shape.page_tokens;
  const RunTable table = RunTable::make(layout_of(shape, block_tokens).groups[0], block_tokens).value();
  const auto geometry = CopyGeometry::make(table, engine.tensors());
  RC_ASSERT(geometry.has_value());
  RC_ASSERT(geometry->pages_per_block() == pages_per_block);
  const std::vector<std::uint32_t> pages = random_pages(random, shape.pages, pages_per_block);

  std::vector<std::byte> expected(table.block_bytes(), std::byte{0x55});
  std::vector<std::byte> block = expected;
  engine.reference_store(table, pages, expected.data());
  apply(*geometry, pages, block.data(), Toward::kBlock);
  RC_ASSERT(block == expected);

  // Into an empty engine: those pages are back, every other byte is untouched.
  PagedEngine restored(shape);
  restored.clear(std::byte{0xEE});
  PagedEngine wanted(shape);
  wanted.clear(std::byte{0xEE});
  for (const std::uint32_t page : pages) {
    wanted.for_each_in_page(page, [&](const Place& p) { std::memcpy(wanted.at(p), engine.at(p), shape.inner_bytes); });
  }
  const auto back = CopyGeometry::make(table, restored.tensors());
  RC_ASSERT(back.has_value());
  apply(*back, pages, block.data(), Toward::kEngine);
  RC_ASSERT(restored.storage() == wanted.storage());
}

RC_GTEST_PROP(CopyGeometryProperty, ranks_of_any_number_compose_to_one_block, (std::uint64_t seed)) {
  Random random(seed);
  EngineShape shape = random_shape(random);
  shape.packing = static_cast<Packing>(random.below(3));
  shape.heads = 4;
  shape.layers = 4;
  shape.padding_bytes.clear();
  const std::uint32_t block_tokens = shape.page_tokens * 2;
  const std::vector<std::uint32_t> pages = random_pages(random, shape.pages, 2);
  const RunTable table = RunTable::make(layout_of(shape, block_tokens).groups[0], block_tokens).value();

  std::uint64_t run_bytes = 0;  // less than block_bytes() where runs are padded
  for (const PlacedRun& run : table.runs()) run_bytes += run.bytes;

  std::vector<std::vector<std::byte>> blocks;
  for (const std::uint32_t tensor_parallel : {1U, 2U, 4U}) {
    for (const std::uint32_t pipeline_parallel : {1U, 2U, 4U}) {
      std::vector<std::byte>& block = blocks.emplace_back(table.block_bytes(), std::byte{0});
      for (std::uint32_t rank = 0; rank < tensor_parallel * pipeline_parallel; ++rank) {
        const std::uint32_t t = rank % tensor_parallel;
        const std::uint32_t p = rank / tensor_parallel;
        EngineShape part = shape;  // each rank may even have an order of axes of its own
        part.order = axes_of(part.packing, random.below(2) == 0);
        for (std::size_t i = part.order.size(); i > 1; --i) std::swap(part.order[i - 1], part.order[random.below(i)]);
        part.first_head = 4 / tensor_parallel * t;
        part.end_head = 4 / tensor_parallel * (t + 1);
        part.first_layer = 4 / pipeline_parallel * p;
        part.end_layer = 4 / pipeline_parallel * (p + 1);
        PagedEngine engine(part);
        engine.fill(seed);
        const auto geometry =
            CopyGeometry::make(table, engine.tensors(), {.first_layer = part.first_layer, .end_layer = part.end_layer});
        RC_ASSERT(geometry.has_value());
        RC_ASSERT(geometry->part_bytes() * tensor_parallel * pipeline_parallel == run_bytes);
        apply(*geometry, pages, block.data(), Toward::kBlock);
      }
    }
  }
  for (const auto& block : blocks) RC_ASSERT(block == blocks[0]);
}

TEST(CopyGeometryOrder, head_major_and_token_major_engines_make_the_same_block) {
  EngineShape shape{.order = {Axis::kKv, Axis::kPage, Axis::kHead, Axis::kToken}};
  PagedEngine hnd(shape);
  shape.order = {Axis::kPage, Axis::kKv, Axis::kToken, Axis::kHead};
  PagedEngine nhd(shape);
  hnd.fill(7);
  nhd.fill(7);
  ASSERT_NE(hnd.storage()[0], nhd.storage()[0]);
  const RunTable table = RunTable::make(layout_of(shape, 32).groups[0], 32).value();
  std::vector<std::byte> a(table.block_bytes());
  std::vector<std::byte> b(table.block_bytes());
  apply(CopyGeometry::make(table, hnd.tensors()).value(), {5, 2}, a.data(), Toward::kBlock);
  apply(CopyGeometry::make(table, nhd.tensors()).value(), {5, 2}, b.data(), Toward::kBlock);
  EXPECT_EQ(a, b);
}

}  // namespace
}  // namespace tiercel
