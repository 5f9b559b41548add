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

/// The first `count` names whose home is line `line` and that `also` accepts.
template <class Also>
std::vector<BlockHash> names_at_home(const Directory& directory, std::uint64_t line, std::size_t count, Also&& also) {
  std::vector<BlockHash> names;
  for (std::uint64_t n = 0; names.size() < count; ++n) {
    BlockHash hash = numbered_hash(n);
    if (directory.place(hash, 0).line == line && also(hash)) names.push_back(hash);
  }
  return names;
}

TEST(Directory, finds_keys_beyond_a_full_line_while_there_are_any) {
  auto directory = Directory::create({.capacity = 200, .seed = 1});
  ASSERT_TRUE(directory);
  const auto names = names_at_home(*directory, 5, 28, [](const BlockHash&) { return true; });
  const auto place = [&](std::size_t i) { return directory->place(names[i], 0); };
  const auto add = [&](BlockId id) {
    directory->insert(place(id), id);
    directory->set_tiers(place(id), id, {.bits = static_cast<std::uint8_t>(1 + id % 7)});
  };
  const auto expect = [&](std::size_t from) {
    std::vector<TierSet> tiers(names.size());
    directory->lookup(names, 0, tiers);
    for (std::size_t i = 0; i < names.size(); ++i) EXPECT_EQ(tiers[i].bits, i < from ? 0 : 1 + i % 7) << i;
  };
  for (BlockId id = 0; id < names.size(); ++id) add(id);  // four lines
  expect(0);
  EXPECT_EQ(directory->lines_touched(place(27), 27), 4U);
  for (BlockId id = 0; id < 16; ++id) directory->erase(place(id), id);  // two lines empty, passed by those behind them
  expect(16);
  for (BlockId id = 16; id-- > 0;) add(id);  // into cells of lines that are passed
  expect(0);
  for (BlockId id = 0; id < 28; ++id) directory->erase(place(id), id);
  expect(28);
}

TEST(Directory, a_tag_of_zero_is_no_empty_cell) {
  auto directory = Directory::create({.capacity = 8, .seed = 1});
  ASSERT_TRUE(directory);
  auto names = names_at_home(*directory, 1, 2, [](const BlockHash&) { return true; });
  std::memset(names[1].bytes.data() + 16, 0, 4);  // the tag; the home is of other bytes
  ASSERT_EQ(directory->place(names[1], 0).tag, 0U);
  std::vector<TierSet> tiers(1);
  EXPECT_EQ(directory->match_leading(std::span(names).last(1), 0, tiers), 0U) << "nothing is there yet";
  for (BlockId id = 0; id < 2; ++id) {
    directory->insert(directory->place(names[id], 0), id);
    directory->set_tiers(directory->place(names[id], 0), id, kHostOnly);
  }
  directory->erase(directory->place(names[0], 0), 0);  // leaves an empty cell before the other
  EXPECT_EQ(directory->match_leading(std::span(names).last(1), 0, tiers), 1U);
}

TEST(Directory, a_line_that_more_keys_passed_than_its_count_holds_still_answers) {
  constexpr std::uint32_t kCount = 300;
  auto directory = Directory::create({.capacity = kCount, .seed = 1});
  ASSERT_TRUE(directory);
  const auto names = names_at_home(*directory, 3, kCount, [](const BlockHash&) { return true; });
  std::vector<TierSet> tiers(kCount);
  for (int round = 0; round < 2; ++round) {
    for (BlockId id = 0; id < kCount; ++id) {
      directory->insert(directory->place(names[id], 0), id);
      directory->set_tiers(directory->place(names[id], 0), id, kHostOnly);
    }
    EXPECT_EQ(directory->match_leading(names, 0, tiers), kCount);
    for (BlockId id = 0; id < kCount - 1; ++id) {
      directory->erase(directory->place(names[id], 0), id);
      ASSERT_EQ(directory->match_leading(std::span(names).last(1), 0, tiers), 1U) << "many lines away from home";
    }
    directory->erase(directory->place(names[kCount - 1], 0), kCount - 1);
    EXPECT_EQ(directory->match_leading(names, 0, tiers), 0U);
  }
}

// Method: matches of every length around the pipeline's steps, in a directory at full load; a gap at each place.
TEST(Directory, a_match_of_any_length_ends_at_its_gap) {
  constexpr std::uint32_t kCount = 200;
  auto directory = Directory::create({.capacity = kCount, .seed = 5});
  ASSERT_TRUE(directory);
  std::vector<BlockHash> names;
  for (BlockId id = 0; id < kCount; ++id) {
    names.push_back(numbered_hash(id));
    directory->insert(directory->place(names.back(), 0), id);
    directory->set_tiers(directory->place(names.back(), 0), id, kHostOnly);
  }
  std::vector<TierSet> tiers(kCount);
  const std::span<const BlockHash> all(names);
  for (std::size_t length = 0; length <= kCount; ++length) {
    EXPECT_EQ(directory->match_leading(all.first(length), 0, tiers), length);
  }
  for (BlockId gap = 0; gap < kCount; ++gap) {
    directory->set_tiers(directory->place(names[gap], 0), gap, {});
    EXPECT_EQ(directory->match_leading(names, 0, tiers), gap);
    directory->lookup(names, 0, tiers);
    for (BlockId id = 0; id < kCount; ++id) EXPECT_EQ(tiers[id].bits, id == gap ? 0 : 1);
    directory->set_tiers(directory->place(names[gap], 0), gap, kHostOnly);
  }
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
