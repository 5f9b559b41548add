// Goal: keys that share lines stay apart, and readers beside a writer at full rate never miss what is there.
#include "index/directory.h"
#include "model/testing/numbered_hash.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace tiercel {
namespace {

using testing_support::numbered_hash;

constexpr TierSet kHostOnly{.bits = 1};

TEST(Directory, holds_its_whole_capacity_and_forgets_what_is_erased) {
  constexpr std::uint32_t kCount = 20'000;
  auto directory = Directory::create({.capacity = kCount, .seed = 1});
  ASSERT_TRUE(directory);
  for (BlockId id = 0; id < kCount; ++id) {
    directory->insert(directory->place(numbered_hash(id), 0), id);
    directory->set_tiers(directory->place(numbered_hash(id), 0), id, kHostOnly);
  }
  const auto is = [](BlockId wanted) { return [wanted](BlockId id) { return id == wanted; }; };
  std::uint64_t lines = 0;
  for (BlockId id = 0; id < kCount; ++id) {
    EXPECT_EQ(directory->find(directory->place(numbered_hash(id), 0), is(id)), id);
    lines += directory->lines_touched(directory->place(numbered_hash(id), 0), id);
  }
  EXPECT_LT(static_cast<double>(lines) / kCount, 1.15) << "lines a lookup at full load";
  for (BlockId id = 0; id < kCount; id += 2) directory->erase(directory->place(numbered_hash(id), 0), id);
  for (BlockId id = 0; id < kCount; ++id) {
    EXPECT_EQ(directory->find(directory->place(numbered_hash(id), 0), is(id)), id % 2 == 0 ? kNoBlock : id);
  }
}

TEST(Directory, one_name_in_two_groups_is_two_keys) {
  auto directory = Directory::create({.capacity = 8, .seed = 1});
  ASSERT_TRUE(directory);
  directory->insert(directory->place(numbered_hash(1), 3), 5);
  directory->set_tiers(directory->place(numbered_hash(1), 3), 5, {.bits = 2});
  std::vector<TierSet> tiers(1);
  const std::vector<BlockHash> names{numbered_hash(1)};
  EXPECT_EQ(directory->match_leading(names, 0, tiers), 0U);
  EXPECT_EQ(directory->match_leading(names, 3, tiers), 1U);
  EXPECT_TRUE(tiers[0].has(TierId::kDisk));
  EXPECT_FALSE(tiers[0].has(TierId::kHost));
}

TEST(Directory, match_ends_at_the_first_block_that_is_not_ready) {
  auto directory = Directory::create({.capacity = 100, .seed = 1});
  ASSERT_TRUE(directory);
  std::vector<BlockHash> names;
  for (BlockId id = 0; id < 60; ++id) {
    names.push_back(numbered_hash(id));
    directory->insert(directory->place(names.back(), 0), id);
    if (id != 41) directory->set_tiers(directory->place(names.back(), 0), id, kHostOnly);
  }
  std::vector<TierSet> tiers(60);
  EXPECT_EQ(directory->match_leading(names, 0, tiers), 41U);
  directory->set_tiers(directory->place(names[41], 0), 41, kHostOnly);
  EXPECT_EQ(directory->match_leading(names, 0, tiers), 60U);
  EXPECT_EQ(directory->match_leading({}, 0, tiers), 0U);
}

TEST(Directory, refuses_a_capacity_that_its_cells_cannot_name) {
  EXPECT_FALSE(Directory::create({.capacity = 0}));
  const auto large = Directory::create({.capacity = Directory::kMaxEntries + 1});
  ASSERT_FALSE(large);
  EXPECT_NE(large.error().message.find("index.blocks"), std::string::npos);
}

// Method: 1,000 keys stay; a writer inserts and erases others in the same few lines; readers ask for the 1,000.
TEST(Directory, readers_beside_a_writer_never_miss) {
  constexpr std::uint32_t kStay = 1'000;
  constexpr std::uint32_t kChurn = 500;
  auto directory = Directory::create({.capacity = kStay + kChurn, .seed = 3});
  ASSERT_TRUE(directory);
  std::vector<BlockHash> names;
  for (BlockId id = 0; id < kStay; ++id) {
    names.push_back(numbered_hash(id));
    directory->insert(directory->place(names.back(), 0), id);
    directory->set_tiers(directory->place(names.back(), 0), id, kHostOnly);
  }
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> misses{0};
  std::atomic<std::uint64_t> rounds{0};
  std::vector<std::thread> readers;
  for (int r = 0; r < 2; ++r) {
    readers.emplace_back([&] {
      std::vector<TierSet> tiers(kStay);
      while (!stop.load(std::memory_order_acquire)) {
        misses.fetch_add(directory->match_leading(names, 0, tiers) != kStay, std::memory_order_relaxed);
        rounds.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (std::uint64_t round = 0; round < 40 || rounds.load() < 20; ++round) {
    for (BlockId id = 0; id < kChurn; ++id)
      directory->insert(directory->place(numbered_hash(kStay + id + round * 7), 0), kStay + id);
    for (BlockId id = 0; id < kChurn; ++id)
      directory->erase(directory->place(numbered_hash(kStay + id + round * 7), 0), kStay + id);
  }
  stop.store(true, std::memory_order_release);
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(misses.load(), 0U);
}

}  // namespace
}  // namespace tiercel
