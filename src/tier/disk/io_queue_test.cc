// Goal: the most urgent transfer goes first, with its neighbours and with nobody else.
#include "tier/disk/io_queue.h"

#include "base/random.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

namespace tiercel::disk {
namespace {

std::vector<std::uint32_t> ids_of(const IoBatch& batch) { return {batch.ids.begin(), batch.ids.begin() + batch.count}; }

TEST(IoQueue, TheEarliestDeadlineGoesFirstAndEqualOnesInOrder) {
  IoQueue queue;
  queue.add({.id = 1, .offset = 0, .bytes = 10, .deadline_ns = 300});
  queue.add({.id = 2, .offset = 100, .bytes = 10, .deadline_ns = 200});
  queue.add({.id = 3, .offset = 200, .bytes = 10, .deadline_ns = 300});
  EXPECT_EQ(queue.next_deadline(), 200U);
  EXPECT_EQ(ids_of(*queue.take(100, 0)), (std::vector<std::uint32_t>{2}));
  EXPECT_EQ(ids_of(*queue.take(100, 0)), (std::vector<std::uint32_t>{1}));
  EXPECT_EQ(ids_of(*queue.take(100, 0)), (std::vector<std::uint32_t>{3}));
  EXPECT_FALSE(queue.take(100, 0).has_value());
}

TEST(IoQueue, NeighboursOnBothSidesComeAlongInTheFilesOrder) {
  IoQueue queue;
  queue.add({.id = 1, .offset = 30, .bytes = 10});
  queue.add({.id = 2, .offset = 20, .bytes = 10});
  queue.add({.id = 3, .offset = 40, .bytes = 10});
  queue.add({.id = 4, .offset = 60, .bytes = 10});  // not a neighbour
  const IoBatch batch = *queue.take(100, 0);
  EXPECT_EQ(batch.offset, 20U);
  EXPECT_EQ(batch.bytes, 30U);
  EXPECT_EQ(ids_of(batch), (std::vector<std::uint32_t>{2, 1, 3}));
  EXPECT_EQ(queue.size(), 1U);
}

TEST(IoQueue, BytesAndSegmentsBoundABatchButASingleTransferMayBeLarger) {
  IoQueue queue;
  for (std::uint32_t i = 0; i < 40; ++i) queue.add({.id = i, .offset = i * 10, .bytes = 10});
  EXPECT_EQ(queue.take(25, 0)->count, 2U);
  EXPECT_EQ(queue.take(1'000, 0)->count, IoBatch::kMaxParts);
  EXPECT_EQ(queue.take(5, 0)->count, 1U);
}

TEST(IoQueue, WhatIsDueSoonGoesAlone) {
  IoQueue queue(50);
  queue.add({.id = 1, .offset = 0, .bytes = 10, .deadline_ns = 1'040});
  queue.add({.id = 2, .offset = 10, .bytes = 10, .deadline_ns = 5'000});
  queue.add({.id = 3, .offset = 20, .bytes = 10, .deadline_ns = 6'000});
  EXPECT_EQ(ids_of(*queue.take(100, 1'000)), (std::vector<std::uint32_t>{1}));
  EXPECT_EQ(ids_of(*queue.take(100, 1'000)), (std::vector<std::uint32_t>{2, 3}));
}

TEST(IoQueue, ExpiredOnesLeaveInTheOrderOfTheirDeadlines) {
  IoQueue queue;
  queue.add({.id = 1, .offset = 0, .bytes = 10, .deadline_ns = 30});
  queue.add({.id = 2, .offset = 10, .bytes = 10, .deadline_ns = 20});
  queue.add({.id = 3, .offset = 20, .bytes = 10, .deadline_ns = 31});
  EXPECT_EQ(queue.take_expired(30), (std::vector<std::uint32_t>{2, 1}));
  EXPECT_EQ(queue.take_all(), (std::vector<std::uint32_t>{3}));
  EXPECT_TRUE(queue.empty());
}

RC_GTEST_PROP(IoQueueProperty, EveryTransferLeavesOnceAndTheMostUrgentIsAlwaysInTheNextBatch, (std::uint64_t seed)) {
  Random random(seed);
  IoQueue queue(random.below(2) * 10);
  std::map<std::uint32_t, QueuedIo> waiting;
  for (std::uint32_t id = 0; id < 60; ++id) {
    const QueuedIo io{.id = id,
                      .offset = random.below(20) * 10,  // some at one place
                      .bytes = 10,
                      .deadline_ns = random.below(4) == 0 ? UINT64_MAX : random.below(100)};
    queue.add(io);
    waiting.emplace(id, io);
    if (random.below(2) == 0) continue;
    const IoBatch batch = *queue.take(1 + random.below(60), 0);
    std::uint64_t at = batch.offset;
    std::uint64_t earliest = UINT64_MAX;
    std::uint64_t earliest_waiting = UINT64_MAX;
    for (const auto& [other, transfer] : waiting) earliest_waiting = std::min(earliest_waiting, transfer.deadline_ns);
    for (const std::uint32_t part : ids_of(batch)) {
      RC_ASSERT(waiting.contains(part));
      RC_ASSERT(waiting[part].offset == at);
      at += waiting[part].bytes;
      earliest = std::min(earliest, waiting[part].deadline_ns);
      waiting.erase(part);
    }
    RC_ASSERT(at == batch.offset + batch.bytes);
    RC_ASSERT(earliest == earliest_waiting);
    RC_ASSERT(queue.size() == waiting.size());
  }
}

}  // namespace
}  // namespace tiercel::disk
