// Goal: what waits for a parent is given out when that comes, once, whatever came and went meanwhile; memory is as
// small as promised and given back. Method: beside a plain multimap, driven at random; figures of a million blocks.
#include "cache/waiting_blocks.h"

#include "base/random.h"
#include "model/testing/numbered_hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

namespace tiercel {
namespace {

using testing_support::numbered_hash;

std::vector<std::uint32_t> slots(const std::vector<WaitingPlace>& places) {
  std::vector<std::uint32_t> slots;
  for (const WaitingPlace& place : places) slots.push_back(place.slot);
  std::ranges::sort(slots);
  return slots;
}

class WaitingBlocksTest : public ::testing::Test {
 protected:
  void add(std::uint64_t parent, std::uint32_t slot, std::uint32_t directory = 0) {
    waiting_.add(numbered_hash(parent), {.directory = directory, .slot = slot});
    expected_.emplace(parent, slot);
  }
  void take(std::uint64_t parent) {
    std::vector<WaitingPlace> taken;
    waiting_.take(numbered_hash(parent), taken);
    std::vector<std::uint32_t> right;
    for (auto [at, end] = expected_.equal_range(parent); at != end; ++at) right.push_back(at->second);
    std::ranges::sort(right);
    ASSERT_EQ(slots(taken), right) << "parent " << parent;
    expected_.erase(parent);
    ASSERT_EQ(waiting_.size(), expected_.size());
  }
  /// Takes out every slot of which `one_in` divides the number.
  void sweep(std::uint32_t one_in) {
    std::vector<WaitingPlace> shown;
    waiting_.sweep([&](std::span<const WaitingPlace> places, std::span<bool> gone) {
      ASSERT_LE(places.size(), WaitingBlocks::kBatch);
      shown.insert(shown.end(), places.begin(), places.end());
      for (std::size_t i = 0; i < places.size(); ++i) gone[i] = places[i].slot % one_in == 0;
    });
    std::vector<std::uint32_t> all;
    for (const auto& [_, slot] : expected_) all.push_back(slot);
    std::ranges::sort(all);
    ASSERT_EQ(slots(shown), all);
    std::erase_if(expected_, [&](const auto& one) { return one.second % one_in == 0; });
    ASSERT_EQ(waiting_.size(), expected_.size());
  }

  WaitingBlocks waiting_{7};
  std::multimap<std::uint64_t, std::uint32_t> expected_;
};

TEST_F(WaitingBlocksTest, siblings_come_together_and_once) {
  for (std::uint32_t slot = 0; slot < 100; ++slot) add(slot % 3, slot);
  take(1);
  take(1);
  take(0);
  take(5);
  take(2);
  EXPECT_TRUE(waiting_.empty());
}

TEST_F(WaitingBlocksTest, as_a_multimap_through_additions_takings_and_sweeps) {
  Random random(11);
  std::uint32_t slot = 0;
  for (int round = 0; round < 40; ++round) {
    const std::uint64_t parents = 1 + random.below(3000);
    for (std::uint64_t left = random.below(2000); left > 0; --left) add(random.below(parents), slot++);
    for (std::uint64_t left = random.below(500); left > 0; --left) ASSERT_NO_FATAL_FAILURE(take(random.below(parents)));
    if (round % 4 != 0) continue;
    ASSERT_NO_FATAL_FAILURE(sweep(static_cast<std::uint32_t>(1 + random.below(5))));
  }
  sweep(1);
  EXPECT_LT(waiting_.bytes(), 10'000U);  // given back
  add(3, 4);
  take(3);
}

TEST_F(WaitingBlocksTest, a_block_takes_25_bytes_however_many_wait) {
  constexpr std::uint32_t kBlocks = 1'000'000;
  constexpr double kChunkBytes = 12 * 32'768 + 10'000;  // the last chunk of places, and the parts themselves
  for (std::uint32_t slot = 0; slot < kBlocks; ++slot) {
    waiting_.add(numbered_hash(slot), {.slot = slot});
    if (slot + 1 < kBlocks / 8 || slot % 9973 != 0) continue;
    ASSERT_LE(waiting_.bytes(), 25.5 * (slot + 1) + kChunkBytes) << slot;
  }
  std::vector<WaitingPlace> taken;
  for (std::uint32_t slot = 0; slot < kBlocks; ++slot) waiting_.take(numbered_hash(slot), taken);
  ASSERT_EQ(taken.size(), kBlocks);
  EXPECT_TRUE(waiting_.empty());
}

}  // namespace
}  // namespace tiercel
