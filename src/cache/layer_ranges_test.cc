// Goal: the geometries of ranges of layers are together what the whole one is, also of a tensor over several layers;
// ranges without a layer are refused; each is made once.
#include "cache/layer_ranges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

constexpr std::uint32_t kLayers = 6;
constexpr std::uint64_t kPages = 8;
constexpr std::uint64_t kPageBytes = 4 * 32;  // tokens, bytes

Layout layout_of_rank() {
  Group group;
  for (std::uint32_t layer = 0; layer < kLayers + 2; ++layer) {
    group.runs.push_back({.layer = layer, .heads = 1, .bytes_per_head_token = 32});
  }
  Layout layout;
  layout.groups.push_back(std::move(group));
  return layout;
}

/// Layers 1 to 4 in one tensor, 5 and 6 in one each.
std::vector<EngineTensor> tensors_of(std::vector<std::byte>& memory) {
  std::vector<EngineTensor> tensors;
  const auto pages_at = [](std::uint64_t stride) {
    return std::vector<TensorAxis>{
        {Axis::kPage, kPages, static_cast<std::int64_t>(stride)}, {Axis::kToken, 4, 32}, {Axis::kInner, 32, 1}};
  };
  EngineTensor many{.name = "many",
                    .base = memory.data(),
                    .storage_bytes = 4 * kPages * kPageBytes,
                    .axes = pages_at(4 * kPageBytes),
                    .first_layer = 1};
  many.axes.push_back({Axis::kLayer, 4, kPageBytes});
  tensors.push_back(std::move(many));
  for (std::uint32_t layer : {5U, 6U}) {
    tensors.push_back({.name = "one",
                       .base = memory.data() + (layer - 1) * kPages * kPageBytes,
                       .storage_bytes = kPages * kPageBytes,
                       .axes = pages_at(kPageBytes),
                       .first_layer = layer});
  }
  return tensors;
}

class LayerRangesTest : public testing::Test {
 protected:
  std::vector<std::byte> memory_ = std::vector<std::byte>(kLayers * kPages * kPageBytes);
  LayerRanges ranges_ = LayerRanges::make(make_run_tables(layout_of_rank(), 4).value().front(), tensors_of(memory_),
                                          {.first_layer = 1, .end_layer = 7})
                            .value();
};

/// Where each byte of a page of the rank's part of a block lies: (place in the block, address).
std::vector<std::pair<std::uint64_t, std::byte*>> places(const CopyGeometry& geometry) {
  std::vector<std::pair<std::uint64_t, std::byte*>> all;
  for (const RunPiece& piece : geometry.pieces()) {
    EXPECT_TRUE(piece.straight());
    for (std::uint64_t i = 0; i < piece.row_bytes; ++i)
      all.emplace_back(piece.block_offset_bytes + i, piece.engine + i);
  }
  std::ranges::sort(all);
  return all;
}

TEST_F(LayerRangesTest, ranges_are_together_the_whole) {
  std::vector<std::pair<std::uint64_t, std::byte*>> together;
  std::uint64_t bytes = 0;
  for (const auto& [first, end] : {std::pair{0U, 3U}, {3U, 4U}, {4U, 6U}, {6U, UINT32_MAX}}) {
    const auto part = ranges_.of(first, end);
    ASSERT_TRUE(part) << part.error().message;
    EXPECT_EQ((*part)->block_bytes(), ranges_.whole()->block_bytes());
    EXPECT_EQ((*part)->page_count(), kPages);
    bytes += (*part)->part_bytes();
    const auto of_part = places(**part);
    together.insert(together.end(), of_part.begin(), of_part.end());
  }
  std::ranges::sort(together);
  EXPECT_EQ(together, places(*ranges_.whole()));
  EXPECT_EQ(bytes, ranges_.whole()->part_bytes());
}

TEST_F(LayerRangesTest, each_is_made_once_and_all_layers_are_the_whole) {
  EXPECT_EQ(ranges_.of(0, UINT32_MAX).value(), ranges_.whole());
  EXPECT_EQ(ranges_.of(1, 7).value(), ranges_.whole());
  EXPECT_EQ(ranges_.of(2, 5).value(), ranges_.of(2, 5).value());
  EXPECT_NE(ranges_.of(2, 5).value(), ranges_.of(2, 4).value());
}

TEST_F(LayerRangesTest, ranges_without_a_layer_are_refused) {
  for (const auto& [first, end] : {std::pair{0U, 1U}, {7U, 9U}, {3U, 3U}, {4U, 3U}}) {
    const auto part = ranges_.of(first, end);
    ASSERT_FALSE(part) << first << " to " << end;
    EXPECT_EQ(part.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace tiercel
