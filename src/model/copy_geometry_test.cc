// Goal: the engines' known layouts give the few copies that they should, and a tensor that does not fit the run table
// is refused with tensor, axis and the right value named.
#include "model/copy_geometry.h"

#include "model/testing/paged_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel {
namespace {

using testing::HasSubstr;
using testing_support::EngineShape;
using testing_support::layout_of;
using testing_support::Packing;
using testing_support::PagedEngine;

RunTable table_of(const EngineShape& shape, std::uint32_t block_tokens) {
  return RunTable::make(layout_of(shape, block_tokens).groups[0], block_tokens).value();
}

CopyGeometry geometry_of(PagedEngine& engine, std::uint32_t block_tokens, const RankPart& part = {}) {
  auto geometry = CopyGeometry::make(table_of(engine.shape(), block_tokens), engine.tensors(), part);
  EXPECT_TRUE(geometry) << geometry.error().message;
  return geometry.value();
}

/// 8 heads of 128 values of 2 bytes: an 8B model's layer.
EngineShape big_layer() { return {.inner_bytes = 256, .heads = 8, .layers = 2, .end_head = 8}; }

TEST(CopyGeometry, packed_head_major_pages_are_one_copy_a_layer) {
  EngineShape shape = big_layer();
  shape.packing = Packing::kPacked;
  shape.inner_bytes = 512;
  shape.order = {Axis::kPage, Axis::kHead, Axis::kToken};
  PagedEngine engine(shape);
  const CopyGeometry geometry = geometry_of(engine, 16);
  ASSERT_EQ(geometry.pieces().size(), 2U);
  for (const RunPiece& piece : geometry.pieces()) {
    EXPECT_TRUE(piece.straight());
    EXPECT_EQ(piece.row_bytes, 65'536U);
  }
  EXPECT_EQ(geometry.part_bytes(), geometry.block_bytes());
  EXPECT_EQ(geometry.pages_per_block(), 1U);
  EXPECT_EQ(geometry.page_count(), 8U);
}

TEST(CopyGeometry, block_first_joins_k_and_v_and_one_tensor_over_all_layers_joins_all) {
  EngineShape shape = big_layer();
  shape.order = {Axis::kPage, Axis::kKv, Axis::kHead, Axis::kToken};
  PagedEngine by_layer(shape);
  ASSERT_EQ(geometry_of(by_layer, 16).pieces().size(), 2U);
  EXPECT_EQ(geometry_of(by_layer, 16).pieces()[1].row_bytes, 65'536U);
  shape.order = {Axis::kPage, Axis::kLayer, Axis::kKv, Axis::kHead, Axis::kToken};
  PagedEngine all_layers(shape);
  const CopyGeometry geometry = geometry_of(all_layers, 16);
  ASSERT_EQ(geometry.pieces().size(), 1U);
  EXPECT_EQ(geometry.pieces()[0].row_bytes, geometry.block_bytes());
}

TEST(CopyGeometry, kv_first_stays_one_copy_for_k_and_one_for_v) {
  EngineShape shape = big_layer();
  shape.order = {Axis::kKv, Axis::kPage, Axis::kHead, Axis::kToken};
  PagedEngine engine(shape);
  const CopyGeometry geometry = geometry_of(engine, 16);
  ASSERT_EQ(geometry.pieces().size(), 4U);
  EXPECT_EQ(geometry.pieces()[0].row_bytes, 32'768U);
}

TEST(CopyGeometry, token_major_pages_are_a_transpose_of_rows) {
  EngineShape shape = big_layer();
  shape.order = {Axis::kKv, Axis::kPage, Axis::kToken, Axis::kHead};
  PagedEngine engine(shape);
  const CopyGeometry geometry = geometry_of(engine, 16);
  const RunPiece& piece = geometry.pieces().at(1);
  EXPECT_EQ(piece.row_bytes, 256U);
  EXPECT_EQ(piece.outer, (CopyLevel{8, 256, 16 * 256}));
  EXPECT_EQ(piece.inner, (CopyLevel{16, 8 * 256, 256}));
  EXPECT_EQ(piece.first_byte, 32'768U);
}

TEST(CopyGeometry, several_pages_a_block_are_a_range_of_tokens_in_each_head) {
  EngineShape shape = big_layer();
  shape.order = {Axis::kKv, Axis::kPage, Axis::kHead, Axis::kToken};
  PagedEngine engine(shape);
  const CopyGeometry geometry = geometry_of(engine, 64);
  EXPECT_EQ(geometry.pages_per_block(), 4U);
  const RunPiece& piece = geometry.pieces().at(0);
  EXPECT_EQ(piece.row_bytes, 16U * 256);
  EXPECT_EQ(piece.inner, (CopyLevel{8, 16 * 256, 64 * 256}));
  EXPECT_EQ(piece.outer, CopyLevel{});
  EXPECT_EQ(piece.block_page_stride_bytes, 16U * 256);
  EXPECT_EQ(geometry.part_bytes(), geometry.block_bytes());
}

TEST(CopyGeometry, a_ranks_heads_are_one_contiguous_range) {
  EngineShape shape = big_layer();
  shape.order = {Axis::kKv, Axis::kPage, Axis::kHead, Axis::kToken};
  shape.first_head = 6;
  PagedEngine engine(shape);
  const CopyGeometry geometry = geometry_of(engine, 16);
  ASSERT_EQ(geometry.pieces().size(), 4U);
  EXPECT_EQ(geometry.pieces()[0].row_bytes, 2U * 16 * 256);
  EXPECT_EQ(geometry.pieces()[0].block_offset_bytes, 6U * 16 * 256);
  EXPECT_EQ(geometry.part_bytes() * 4, geometry.block_bytes());
}

TEST(CopyGeometry, padded_latent_pages_are_one_copy_each) {
  EngineShape shape{.packing = Packing::kLatent, .order = {Axis::kPage, Axis::kToken}, .inner_bytes = 1152};
  shape.padding_bytes[Axis::kToken] = 512;  // after the page's last token
  PagedEngine engine(shape);
  const CopyGeometry geometry = geometry_of(engine, 64);
  ASSERT_EQ(geometry.pieces().size(), 2U);
  EXPECT_EQ(geometry.pieces()[0].row_bytes, 16U * 1152);
  EXPECT_EQ(geometry.pieces()[0].engine_page_stride_bytes, 16U * 1152 + 512);
  EXPECT_EQ(geometry.pieces()[0].block_page_stride_bytes, 16U * 1152);
}

TEST(CopyGeometry, an_opaque_page_without_tokens_is_one_copy) {
  std::vector<std::byte> memory(4 * 1000);
  const RunTable table = RunTable::make({.runs = {{.kind = StateKind::kRecurrent, .opaque_bytes = 900}}}, 64).value();
  const EngineTensor tensor{.name = "ssm",
                            .base = memory.data(),
                            .storage_bytes = memory.size(),
                            .axes = {{Axis::kPage, 4, 1000}, {Axis::kInner, 900, 1}},
                            .kind = StateKind::kRecurrent};
  const auto geometry = CopyGeometry::make(table, std::vector{tensor});
  ASSERT_TRUE(geometry) << geometry.error().message;
  ASSERT_EQ(geometry->pieces().size(), 1U);
  EXPECT_EQ(geometry->pieces()[0].row_bytes, 900U);
  EXPECT_EQ(geometry->pages_per_block(), 1U);
}

class GeometryErrors : public testing::Test {
 protected:
  GeometryErrors() {
    shape_.order = {Axis::kPage, Axis::kKv, Axis::kHead, Axis::kToken};
    engine_.emplace(shape_);
    tensors_ = engine_->tensors();
  }
  [[nodiscard]] std::string error(const RankPart& part = {}, std::uint32_t block_tokens = 16) const {
    const auto geometry = CopyGeometry::make(table_of(shape_, block_tokens), tensors_, part);
    return geometry ? "" : geometry.error().message;
  }
  TensorAxis& axis(std::size_t tensor, Axis which) {
    return *std::ranges::find(tensors_[tensor].axes, which, &TensorAxis::axis);
  }
  EngineShape shape_;
  std::optional<PagedEngine> engine_;
  std::vector<EngineTensor> tensors_;
};

TEST_F(GeometryErrors, a_run_without_tensor) {
  tensors_.pop_back();
  EXPECT_EQ(error(), "no tensor holds the key run of layer 1");
  EXPECT_EQ(error({.end_layer = 1}), "");
  tensors_.clear();
  EXPECT_THAT(error(), HasSubstr("no tensor holds the key run of layer 0"));
  EXPECT_THAT(error({.first_layer = 7}), HasSubstr("no tensor is given"));
  EXPECT_THAT(error({.first_layer = 2, .end_layer = 2}), HasSubstr("first_layer 2 must be below end_layer 2"));
}

TEST_F(GeometryErrors, a_run_held_twice_or_of_another_rank) {
  tensors_.push_back(tensors_[0]);
  EXPECT_EQ(error(), "tensor t0: the key run of layer 0 is held by tensor t0 already");
  tensors_.pop_back();
  EXPECT_EQ(error({.end_layer = 1}), "tensor t1: axis layer reaches layer 1, but this rank has layers 0 to 0");
}

TEST_F(GeometryErrors, another_packing) {
  tensors_[1].axes.erase(std::ranges::find(tensors_[1].axes, Axis::kKv, &TensorAxis::axis));
  EXPECT_EQ(error(),
            "tensor t1: the layout has no key_value run for layer 1; a tensor's packing must be that of the layout");
}

TEST_F(GeometryErrors, inner_bytes_heads_or_tokens_that_do_not_fit) {
  axis(1, Axis::kInner).size = 16;
  EXPECT_EQ(error(), "tensor t1: axis inner has 16 bytes, but the key run of layer 1 has 32 bytes a head and token");
  axis(1, Axis::kInner).size = 32;
  tensors_[1].first_head = 1;
  EXPECT_THAT(error(), HasSubstr("tensor t1: axis head has heads 1 to 4, but the key run of layer 1 has 4 heads"));
  tensors_[1].first_head = 0;
  EXPECT_EQ(error({}, 24),
            "tensor t0: axis token has 16 tokens a page, which does not divide the 24 tokens of a block");
  axis(1, Axis::kToken).size = 8;
  EXPECT_EQ(error(), "tensor t1: a block takes 2 of its pages, but 1 of tensor t0; one plan has one page list");
}

TEST(CopyGeometry, opaque_runs_may_be_left_to_another_rank) {
  EngineShape shape{.packing = Packing::kLatent, .order = {Axis::kPage, Axis::kToken}, .layers = 1, .end_layer = 1};
  PagedEngine engine(shape);
  const RunTable table = table_of(shape, 16);
  const auto made = CopyGeometry::make(table, engine.tensors(), {.opaque = OpaqueRuns::kLeft});
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message, HasSubstr("opaque and left to another rank"));

  // One layer with heads and scales: the rank that leaves the scales needs no tensor for them.
  Group group{.runs = {{.kind = StateKind::kKeyValue, .heads = 4, .bytes_per_head_token = 32},
                       {.kind = StateKind::kScales, .opaque_bytes = 64}}};
  const RunTable mixed = RunTable::make(group, 16).value();
  shape = {.packing = Packing::kPacked, .order = {Axis::kPage, Axis::kHead, Axis::kToken}, .layers = 1, .end_layer = 1};
  PagedEngine heads(shape);
  EXPECT_TRUE(CopyGeometry::make(mixed, heads.tensors(), {.opaque = OpaqueRuns::kLeft}));
  EXPECT_FALSE(CopyGeometry::make(mixed, heads.tensors(), {}));
}

TEST(CopyGeometry, opaque_sizes_that_do_not_fit) {
  EngineShape shape{.packing = Packing::kLatent, .order = {Axis::kPage, Axis::kToken}, .layers = 1, .end_layer = 1};
  PagedEngine engine(shape);
  const auto error = [&](std::uint64_t opaque_bytes, std::uint32_t block_tokens) {
    const Group group{.runs = {{.kind = StateKind::kLatent, .opaque_bytes = opaque_bytes}}};
    const auto made = CopyGeometry::make(RunTable::make(group, block_tokens).value(), engine.tensors());
    return made ? "" : made.error().message;
  };
  EXPECT_EQ(error(512, 16), "");
  EXPECT_THAT(error(500, 16), HasSubstr("pages of 512 bytes, which do not divide the 500 bytes of the latent run"));
  EXPECT_THAT(error(512, 32), HasSubstr("1 pages of 16 tokens (axis token) fill the latent run of layer 0, but a block "
                                        "has 32 tokens"));
}

}  // namespace
}  // namespace tiercel
