// Goal: the parts of the file neither overlap nor leave the file, whatever the sizes; a superblock that contradicts
// itself makes no layout; a slot's header is where the format says.
#include "tier/disk/layout.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

namespace tiercel::disk {
namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;

TEST(LayoutTest, DefaultSizesByHand) {
  // 200 GiB: 3200 extents of 256 slots at most.
  const auto layout = Layout::plan({.extents = 3200});
  ASSERT_TRUE(layout) << layout.error().message;
  EXPECT_EQ(layout->data_begin(), 2 * kMiB);
  EXPECT_EQ(layout->data_end(), 2 * kMiB + 200 * 1024 * kMiB);
  EXPECT_EQ(layout->meta_begin(), layout->data_end());
  EXPECT_EQ(layout->head_pages(), 25U);       // 3200 / 128
  EXPECT_EQ(layout->log_begin(), 25U + 64U);  // 4096 namespaces, 64 a page
  EXPECT_EQ(layout->checkpoint_begin(), 89U + 256U);
  EXPECT_EQ(layout->checkpoint_half_pages(), 805U);  // 819,200 slots, 1018 a page
  EXPECT_EQ(layout->header_begin(), 345U + 1610U);
  EXPECT_EQ(layout->header_pages(), 3200U * 8U);
  EXPECT_EQ(layout->slots(), 819'200U);
  EXPECT_EQ(layout->header_page(256), 1955U + 8U);
  EXPECT_EQ(layout->header_offset(257), (1955U + 8U) * 4096U + 128U);
  EXPECT_EQ(layout->data_offset(257, kMiB), 2 * kMiB + 64 * kMiB + kMiB);
  EXPECT_EQ(layout->namespace_page(64), 25U);
  EXPECT_EQ(layout->namespace_page(65), 26U);
}

TEST(LayoutTest, SlotsThatDoNotFillAPageArePadded) {
  const auto layout = Layout::plan({.extents = 3, .extent_bytes = 5 * kMiB, .min_slot_bytes = kMiB});
  ASSERT_TRUE(layout);
  EXPECT_EQ(layout->slots_per_extent(), 5U);
  EXPECT_EQ(layout->padded_slots(), 32U);
  EXPECT_EQ(layout->header_page(5), layout->header_begin() + 1);
  EXPECT_EQ(layout->header_offset(11), (layout->header_begin() + 2ULL) * 4096 + 128);
}

TEST(LayoutTest, SizesThatMakeNoFile) {
  const Shape good{.extents = 2, .extent_bytes = kMiB, .min_slot_bytes = 64 * kKiB};
  ASSERT_TRUE(Layout::plan(good));
  const auto refused = [&](auto change) {
    Shape shape = good;
    change(shape);
    const auto layout = Layout::plan(shape);
    return !layout && layout.error().code == ErrorCode::kInvalidArgument && !layout.error().message.empty();
  };
  EXPECT_TRUE(refused([](Shape& s) { s.extents = 0; }));
  EXPECT_TRUE(refused([](Shape& s) {
    s.extents = UINT32_MAX;
    s.extent_bytes = std::uint64_t{1} << 40U;
  }));
  EXPECT_TRUE(refused([](Shape& s) {
    s.extents = UINT32_MAX;
    s.min_slot_bytes = 4096;
  }));
  EXPECT_TRUE(refused([](Shape& s) { s.extent_bytes = 0; }));
  EXPECT_TRUE(refused([](Shape& s) { s.extent_bytes = UINT64_MAX - 4095; }));
  EXPECT_TRUE(refused([](Shape& s) { s.extent_bytes = kMiB + 1; }));
  EXPECT_TRUE(refused([](Shape& s) { s.min_slot_bytes = 0; }));
  EXPECT_TRUE(refused([](Shape& s) { s.min_slot_bytes = 100; }));
  EXPECT_TRUE(refused([](Shape& s) { s.min_slot_bytes = 2 * kMiB; }));
  EXPECT_TRUE(refused([](Shape& s) { s.max_namespaces = 0; }));
  EXPECT_TRUE(refused([](Shape& s) { s.max_namespaces = UINT32_MAX; }));
  EXPECT_TRUE(refused([](Shape& s) { s.log_pages = 0; }));
}

TEST(LayoutTest, SlotSizes) {
  const auto layout = Layout::plan({.extents = 1, .extent_bytes = kMiB, .min_slot_bytes = 64 * kKiB});
  ASSERT_TRUE(layout);
  EXPECT_TRUE(layout->valid_slot_bytes(64 * kKiB));
  EXPECT_TRUE(layout->valid_slot_bytes(kMiB));
  EXPECT_FALSE(layout->valid_slot_bytes(0));
  EXPECT_FALSE(layout->valid_slot_bytes(60 * kKiB));
  EXPECT_FALSE(layout->valid_slot_bytes(64 * kKiB + 512));
  EXPECT_FALSE(layout->valid_slot_bytes(kMiB + 4096));
  EXPECT_EQ(layout->slots_of(0), 0U);
  EXPECT_EQ(layout->slots_of(100 * kKiB), 10U);
}

TEST(LayoutTest, ASuperblockThatContradictsItself) {
  const auto layout = Layout::plan({.extents = 4, .extent_bytes = kMiB, .min_slot_bytes = 64 * kKiB});
  ASSERT_TRUE(layout);
  Superblock good;
  layout->describe(good);
  const auto read = Layout::of(good);
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, *layout);
  const auto refused = [&](auto change) {
    Superblock superblock = good;
    change(superblock);
    const auto of = Layout::of(superblock);
    return !of && of.error().code == ErrorCode::kCorrupt;
  };
  EXPECT_TRUE(refused([](Superblock& s) { ++s.extents; }));
  EXPECT_TRUE(refused([](Superblock& s) { s.extents = 0; }));
  EXPECT_TRUE(refused([](Superblock& s) { s.extent_bytes += 4096; }));
  EXPECT_TRUE(refused([](Superblock& s) { s.min_slot_bytes = 0; }));
  EXPECT_TRUE(refused([](Superblock& s) { s.meta_begin -= 4096; }));
  EXPECT_TRUE(refused([](Superblock& s) { s.meta_begin += 512; }));
  EXPECT_TRUE(refused([](Superblock& s) { s.meta_begin = UINT64_MAX & ~4095ULL; }));
  EXPECT_TRUE(refused([](Superblock& s) { s.meta_bytes += 4096; }));
  EXPECT_TRUE(refused([](Superblock& s) { s.data_begin = 4096; }));
  EXPECT_TRUE(refused([](Superblock& s) { s.data_begin = UINT64_MAX & ~4095ULL; }));
  EXPECT_TRUE(refused([](Superblock& s) {
    s.checkpoint_pages += 2;
    s.meta_bytes += 8192;
  }));
  EXPECT_TRUE(refused([](Superblock& s) { s.log_pages = 0; }));
  EXPECT_FALSE(refused([](Superblock& s) { s.meta_begin += 40960; }));
}

RC_GTEST_PROP(LayoutProperty, PartsDoNotOverlap, ()) {
  const auto min_slot = *rc::gen::inRange<std::uint64_t>(1, 9) * 4096;
  const Shape shape{.extents = *rc::gen::inRange<std::uint32_t>(1, 400),
                    .extent_bytes = min_slot * *rc::gen::inRange<std::uint64_t>(1, 80) +
                                    4096 * *rc::gen::inRange<std::uint64_t>(0, 3),
                    .min_slot_bytes = min_slot,
                    .max_namespaces = *rc::gen::inRange<std::uint32_t>(1, 300),
                    .log_pages = *rc::gen::inRange<std::uint32_t>(1, 9)};
  const auto layout = Layout::plan(shape);
  RC_ASSERT(static_cast<bool>(layout));
  RC_ASSERT(layout->head_page(shape.extents - 1) < layout->namespace_begin());
  RC_ASSERT(layout->namespace_page(shape.max_namespaces) < layout->log_begin());
  RC_ASSERT(layout->log_begin() + layout->log_pages() == layout->checkpoint_begin());
  RC_ASSERT(layout->checkpoint_half_pages() * kCheckpointSlotsPerPage >= layout->slots());
  std::uint64_t last = 0;
  std::uint32_t extent = 0;
  for (std::uint32_t slot = 0; slot < layout->slots(); ++slot) {
    const std::uint64_t offset = layout->header_offset(slot);
    RC_ASSERT(offset / kPageBytes == layout->header_page(slot));
    RC_ASSERT(slot == 0 || offset > last);
    if (layout->extent_of(slot) != extent) {  // no page is shared by two extents
      RC_ASSERT(offset / kPageBytes > last / kPageBytes);
      extent = layout->extent_of(slot);
    }
    last = offset;
    RC_ASSERT(layout->slot_at(layout->extent_of(slot), layout->position_of(slot)) == slot);
    RC_ASSERT(layout->data_offset(slot, min_slot) + min_slot <= layout->data_end());
  }
  RC_ASSERT(last + kHeaderBytes <= layout->meta_bytes());
  RC_ASSERT(layout->meta_begin() >= layout->data_end());
  Superblock superblock;
  layout->describe(superblock);
  const auto again = Layout::of(superblock);
  RC_ASSERT(static_cast<bool>(again) && *again == *layout);
}

}  // namespace
}  // namespace tiercel::disk
