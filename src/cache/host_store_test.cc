// Goal: the host store's bookkeeping at the limits of its counters and across slices.
#include "cache/host_store.h"
#include "policy/lru.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

namespace tiercel {
namespace {

constexpr std::uint64_t kSlot = 4096;

BlockHash name(std::uint64_t n) {
  BlockHash hash;
  std::memcpy(hash.bytes.data(), &n, sizeof n);
  std::memcpy(hash.bytes.data() + 16, &n, sizeof n);
  return hash;
}

class Store : public testing::Test {
 protected:
  static HostStore::Parts parts(std::uint32_t namespaces) {
    return {.table = *BlockTable::create({.capacity = 256, .seed = 1, .huge_pages = HugePages::kOff}),
            .slots = {.extents = 2, .extent_bytes = 64 * kSlot, .min_slot_bytes = kSlot},
            .policy = std::make_unique<LruPolicy>(256),
            .max_namespaces = namespaces,
            .max_pinned_bytes = UINT64_MAX};
  }
  Reserved begin(std::uint64_t n, BlockId parent, Fill& fill) {
    return store_.begin_fill({.hash = name(n), .group = 0, .parent = parent, .slot_bytes = kSlot, .now_ns = 1}, fill);
  }
  BlockId put(std::uint64_t n, BlockId parent) {
    Fill fill;
    EXPECT_EQ(begin(n, parent, fill), Reserved::kYes);
    EXPECT_TRUE(store_.commit(fill, 1, false, 1));
    return fill.id;
  }
  HostStore store_{parts(1)};
};

TEST_F(Store, a_delete_in_slices_spares_the_namespace_that_took_its_roots_place) {
  const BlockId root = store_.root_of(name(1'000));
  put(1, root);
  put(2, root);
  HostStore::DropWork work;
  store_.begin_drop(root, work);
  ASSERT_FALSE(store_.drop_some(work, 1));  // one child is listed
  HostStore::DropWork other;                // meanwhile another delete takes them all
  store_.begin_drop(root, other);
  while (!store_.drop_some(other, 32)) {
  }
  const BlockId next = store_.root_of(name(2'000));  // the limit of namespaces makes the empty root go
  ASSERT_EQ(next, root) << "the entry is used again";
  put(3, next);
  while (!store_.drop_some(work, 32)) {
  }
  EXPECT_NE(store_.table().find(name(3), 0), kNoBlock) << "a block of another namespace";
  store_.check_consistency();
}

TEST_F(Store, a_parent_with_all_the_pins_that_fit_still_gets_children_and_no_pin_leaks) {
  const BlockId root = store_.root_of(name(1'000));
  const BlockId parent = put(1, root);
  const BlockId middle = put(2, parent);
  put(3, middle);
  store_.drop_corrupt({.id = middle, .generation = store_.table()[middle].generation});  // a stub now
  BlockName pin;
  for (int i = 0; i < UINT16_MAX; ++i) ASSERT_EQ(store_.pin(name(1), 0, pin), HostStore::PinOutcome::kPinned);
  EXPECT_EQ(store_.pin(name(1), 0, pin), HostStore::PinOutcome::kLimit);
  Fill fill;
  EXPECT_EQ(begin(2, parent, fill), Reserved::kYes);
  EXPECT_EQ(store_.table()[middle].logical_pins, 0U);
  EXPECT_EQ(store_.table()[parent].logical_pins, UINT16_MAX);
  EXPECT_EQ(store_.table().pinned_blocks(), 1U);
  store_.check_consistency();
}

}  // namespace
}  // namespace tiercel
