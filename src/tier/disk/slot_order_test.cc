// Goal: work on one slot never overlaps, keeps its order, and never runs in an extent that is cut otherwise.
#include "tier/disk/slot_order.h"

#include "base/random.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>

namespace tiercel::disk {
namespace {

SlotJob job(std::uint32_t id, std::uint32_t slot, std::uint64_t slot_bytes = 10) {
  return {.id = id, .extent = slot / 100, .slot = slot, .slot_bytes = slot_bytes};
}

TEST(SlotOrder, JobsOnOneSlotRunOneAfterTheOther) {
  SlotOrder order;
  EXPECT_TRUE(order.begin(job(1, 5)));
  EXPECT_FALSE(order.begin(job(2, 5)));
  EXPECT_FALSE(order.begin(job(3, 5)));
  EXPECT_TRUE(order.begin(job(4, 6)));
  EXPECT_EQ(order.end(job(1, 5)), (std::vector<std::uint32_t>{2}));
  EXPECT_TRUE(order.end(job(4, 6)).empty());
  EXPECT_EQ(order.end(job(2, 5)), (std::vector<std::uint32_t>{3}));
  EXPECT_TRUE(order.end(job(3, 5)).empty());
  EXPECT_TRUE(order.empty());
}

TEST(SlotOrder, AnotherCutWaitsUntilTheExtentIsEmptyAndHoldsBackWhatComesAfterIt) {
  SlotOrder order;
  EXPECT_TRUE(order.begin(job(1, 5)));
  EXPECT_TRUE(order.begin(job(2, 6)));
  EXPECT_FALSE(order.begin(job(3, 1, 40)));
  EXPECT_FALSE(order.begin(job(4, 7))) << "of the old cut, behind the new one";
  EXPECT_TRUE(order.begin(job(5, 105))) << "another extent";
  EXPECT_EQ(order.cut_of(0), 10U);
  EXPECT_TRUE(order.end(job(1, 5)).empty());
  EXPECT_EQ(order.end(job(2, 6)), (std::vector<std::uint32_t>{3}));
  EXPECT_EQ(order.end(job(3, 1, 40)), (std::vector<std::uint32_t>{4}));
}

TEST(SlotOrder, WhatWaitsCanBeTakenOut) {
  SlotOrder order;
  EXPECT_TRUE(order.begin(job(1, 5)));
  EXPECT_FALSE(order.begin(job(2, 5)));
  EXPECT_EQ(order.take_waiting(), (std::vector<std::uint32_t>{2}));
  EXPECT_TRUE(order.end(job(1, 5)).empty());
  EXPECT_TRUE(order.empty());
}

RC_GTEST_PROP(SlotOrderProperty, NothingConflictsNothingIsForgottenAndOrderIsKept, (std::uint64_t seed)) {
  Random random(seed);
  SlotOrder order;
  std::map<std::uint32_t, SlotJob> all;
  std::map<std::uint32_t, SlotJob> running;
  std::map<std::uint32_t, std::uint32_t> last_started;  // by slot
  std::size_t started = 0;
  const auto start = [&](std::uint32_t id) {
    const SlotJob& next = all.at(id);
    for (const auto& [other_id, other] : running) {
      if (other.extent != next.extent) continue;
      RC_ASSERT(other.slot != next.slot);
      RC_ASSERT(other.slot_bytes == next.slot_bytes);
    }
    if (last_started.contains(next.slot)) RC_ASSERT(last_started[next.slot] < id);
    last_started[next.slot] = id;
    running.emplace(id, next);
    ++started;
  };
  const auto end_one = [&] {
    auto at = running.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(random.below(running.size())));
    const SlotJob ended = at->second;
    running.erase(at);
    for (const std::uint32_t id : order.end(ended)) start(id);
  };
  for (std::uint32_t id = 0; id < 80; ++id) {
    const SlotJob next =
        job(id, static_cast<std::uint32_t>(random.below(2) * 100 + random.below(4)), random.below(5) == 0 ? 40 : 10);
    all.emplace(id, next);
    if (order.begin(next)) start(id);
    while (!running.empty() && random.below(2) == 0) end_one();
  }
  while (!running.empty()) end_one();
  RC_ASSERT(started == all.size());
  RC_ASSERT(order.empty());
}

}  // namespace
}  // namespace tiercel::disk
