// Goal: no wrong byte is ever served, whichever bit of the file is another: of a header, of a block's data, or where a
// slot holds another block's bytes. Method: store, restart so that the file alone has the blocks, change the file, load
// and compare every byte. Headers: every bit of one. Data: more than ten thousand bits, one in each block at a time.
#include "base/random.h"
#include "cache/testing/disk_world.h"
#include "cache/testing/raw_file.h"

#include <gtest/gtest.h>

namespace tiercel {
namespace {

using testing::DiskWorld;
using testing::RawFile;

constexpr std::uint64_t kSmallBlock = 4096;

Config small_blocks() {
  Config config = DiskWorld::config(8_MiB, 8_MiB);
  config.host.min_slot_bytes = kSmallBlock;
  return config;
}

TEST(DiskCorruption, every_bit_of_a_header_counts) {
  DiskWorld world(small_blocks(), kSmallBlock);
  world.settle();
  (void)world.store(world.chain(3, 1), 1);
  world.settle();
  world.stop();
  RawFile file(world.memory());
  world.start();
  const auto at = file.header_of(world.chain(3, 1)[1]);
  ASSERT_TRUE(at);
  world.settle();
  world.stop();
  const RawFile::Page whole = file.read(*at / testing::kRawPage * testing::kRawPage);
  for (unsigned bit = 0; bit < testing::kRawHeader * 8; ++bit) {
    file.flip(*at + bit / 8, bit % 8);
    world.start();
    world.settle(12);
    ASSERT_EQ(world.stats().disk_directories[1], 1U);
    ASSERT_EQ(world.load(world.chain(3, 1), 1), 1U) << "bit " << bit;
    ASSERT_EQ(world.stats().disk_corrupt_headers, 1U) << "bit " << bit;
    ASSERT_EQ(world.stats().disk_orphaned_blocks, 1U) << "bit " << bit;
    world.crash();
    file.write(*at / testing::kRawPage * testing::kRawPage, whole);
  }
  world.start();
  world.settle();
  EXPECT_EQ(world.load(world.chain(3, 1), 1), 3U);
}

TEST(DiskCorruption, no_flipped_bit_of_data_is_served) {
  constexpr std::size_t kBlocks = 1'800;
  constexpr std::size_t kRounds = 6;  // 10,800 bits
  DiskWorld world(small_blocks(), kSmallBlock);
  world.settle();
  Random random(11);
  for (std::size_t round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < kBlocks; ++i) (void)world.store(world.chain(1, static_cast<TokenId>(i)), 0);
    world.settle();
    world.restart();
    ASSERT_EQ(world.disk().blocks, kBlocks);
    RawFile file(world.memory());
    std::size_t flipped = 0;
    std::uint64_t from = testing::kRawData;
    while (const auto page = file.page_of(DiskWorld::pattern(0, 0), from)) {
      file.flip(*page + random.below(kSmallBlock), static_cast<unsigned>(random.below(8)));
      ++flipped;
      from = *page + kSmallBlock;
    }
    ASSERT_EQ(flipped, kBlocks);
    std::size_t served = 0;
    for (std::size_t i = 0; i < kBlocks; ++i) {
      Load load = world.session().load(world.chain(1, static_cast<TokenId>(i)), 1, std::chrono::seconds(10));
      served += load.wait().size();
      ASSERT_EQ(load.outcome(), LoadOutcome::kCorrupt);
    }
    ASSERT_EQ(served, 0U);
    EXPECT_EQ(world.stats().disk_checksum_failures, kBlocks);
    world.settle();
    EXPECT_EQ(world.disk().blocks, 0U);
  }
}

TEST(DiskCorruption, bytes_of_another_block_are_a_miss) {
  DiskWorld world(small_blocks(), kSmallBlock);
  world.settle();
  (void)world.store(world.chain(1, 1), 1);
  (void)world.store(world.chain(1, 2), 2);
  world.settle();
  world.restart();
  RawFile file(world.memory());
  const auto first = file.page_of(DiskWorld::pattern(0, 1));
  const auto second = file.page_of(DiskWorld::pattern(0, 2));
  ASSERT_TRUE(first && second);
  const RawFile::Page kept = file.read(*first);  // whole, valid, and of the same length
  file.write(*first, file.read(*second));
  file.write(*second, kept);
  for (const TokenId seed : {1, 2}) {
    EXPECT_EQ(world.load(world.chain(1, seed), seed), 0U);
    EXPECT_EQ(world.outcome, LoadOutcome::kCorrupt);
  }
}

}  // namespace
}  // namespace tiercel
