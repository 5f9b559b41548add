// Goal: several directories, admission, paranoid mode, the share of loads and a changed capacity: each does what its
// setting says. Method: a small cache turned by hand over files in memory.
#include "cache/testing/raw_file.h"
#include "cache/testing/troubled_disk.h"

#include <gtest/gtest.h>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using testing::DiskWorld;
using testing::RawFile;

constexpr std::uint64_t kBlock = testing::kDiskBlockBytes;

class DiskDirectories : public testing::TroubledDisk {
 protected:
  DiskDirectories() : TroubledDisk(config()) {}
  static Config config() {
    Config config = testing::impatient();
    config.disk.directories = {"/a", "/b", "/c"};
    config.disk.capacity = 24_MiB;
    return config;
  }
  std::size_t blocks_in(const std::string& directory) {
    std::size_t headers = 0;
    RawFile file(world_.memory(), directory + "/tiercel.kv");
    for (const auto& [_, page] : file.header_pages()) {
      for (std::size_t at = 0; at < testing::kRawPage; at += testing::kRawHeader) {
        headers += std::memcmp(&page[at], "TKVH", 4) == 0 ? 1U : 0U;
      }
    }
    return headers;
  }
};

TEST_F(DiskDirectories, blocks_are_spread_and_chains_go_over_all) {
  world_.settle();
  EXPECT_EQ(directories(kOn), 3U);
  EXPECT_EQ(world_.store(world_.chain(30, 1), 1), 30U);
  world_.settle();
  for (const char* directory : {"/a", "/b", "/c"}) {
    EXPECT_GE(blocks_in(directory), 8U) << directory;
    EXPECT_LE(blocks_in(directory), 12U) << directory;
  }
  world_.restart();
  EXPECT_EQ(world_.stats().disk_recovered_blocks, 30U);
  EXPECT_EQ(world_.stats().disk_orphaned_blocks, 0U);
  EXPECT_EQ(world_.load(world_.chain(30, 1), 1), 30U);  // parents are in other directories
}

TEST_F(DiskDirectories, one_that_was_away_when_the_capacity_changed_has_the_new_one_when_it_comes) {
  (void)world_.store(world_.chain(30, 1), 1);
  world_.settle();
  std::string late = "/b";
  for (const std::uint64_t capacity : {12_MiB, 36_MiB}) {
    world_.stop();
    const std::string before = std::exchange(late, late + "-late");
    world_.configuration().disk.directories[1] = late;
    world_.configuration().disk.capacity = capacity;
    world_.start();
    pass(3);
    EXPECT_EQ(directories(kOn), 2U);
    EXPECT_LT(world_.load(world_.chain(30, 1), 1), 30U);
    world_.memory().make_directory(late);
    ASSERT_TRUE(world_.memory().rename(before + "/tiercel.kv", late + "/tiercel.kv"));
    pass();
    EXPECT_EQ(directories(kOn), 3U);
    EXPECT_EQ(world_.disk().capacity_bytes, capacity);
    EXPECT_EQ(world_.load(world_.chain(30, 1), 1), 30U);
  }
}

TEST_F(DiskDirectories, one_fails_and_comes_back) {
  put_faults("/b/");
  (void)world_.store(world_.chain(30, 1), 1);
  world_.settle();
  world_.restart();
  gate_->hold_all();
  pass();
  EXPECT_EQ(directories(kOff), 1U);
  EXPECT_LT(world_.load(world_.chain(30, 1), 1), 30U);
  const std::size_t in_b = blocks_in("/b");
  EXPECT_EQ(world_.store(world_.chain(12, 2), 2), 12U);  // the others take it
  pass(5);
  EXPECT_EQ(blocks_in("/b"), in_b);
  EXPECT_EQ(world_.disk().stored_blocks, 12U);
  gate_->release_all();
  pass();
  EXPECT_EQ(directories(kOn), 3U);
  EXPECT_EQ(world_.load(world_.chain(30, 1), 1), 30U);
  world_.restart();
  EXPECT_EQ(world_.load(world_.chain(30, 1), 1), 30U);
  EXPECT_EQ(world_.load(world_.chain(12, 2), 2), 12U);
}

TEST_F(DiskDirectories, match_counts_only_what_can_be_loaded_while_one_is_off) {
  put_faults("/b/");
  (void)world_.store(world_.chain(30, 1), 1);
  world_.settle();
  world_.restart();  // on disk alone, over three directories
  ASSERT_EQ(matched(30, 1), 30U);
  gate_->hold_all();
  pass();
  ASSERT_EQ(directories(kOff), 1U);
  const std::size_t now = matched(30, 1);
  EXPECT_LT(now, 30U);
  EXPECT_EQ(world_.load(world_.chain(30, 1), 1), now);
  EXPECT_EQ(matched(30, 1), now);  // in the arena by now, up to the same block
  EXPECT_EQ(world_.store(world_.chain(4, 2), 2), 4U);
  EXPECT_EQ(matched(4, 2), 4U);
  gate_->release_all();
  pass();
  ASSERT_EQ(directories(kOn), 3U);
  EXPECT_EQ(matched(30, 1), 30U);
  EXPECT_EQ(world_.load(world_.chain(30, 1), 1), 30U);
}

TEST_F(DiskDirectories, a_chain_over_a_lost_directory_is_stored_again) {
  world_.settle();
  (void)world_.store(world_.chain(30, 1), 1);
  world_.settle();
  world_.restart();
  RawFile(world_.memory(), "/b/tiercel.kv").truncate(0);
  pass(40);
  EXPECT_EQ(directories(kOn), 3U);
  const std::size_t found = world_.load(world_.chain(30, 1), 1);
  EXPECT_LT(found, 30U);
  EXPECT_GT(world_.stats().disk_lost_blocks, 0U);
  EXPECT_EQ(world_.store(world_.chain(30, 1), 1), world_.stats().disk_lost_blocks);
  pass();
  world_.restart();
  EXPECT_EQ(world_.load(world_.chain(30, 1), 1), 30U);
}

class DiskMountedLate : public DiskDirectories {
 protected:
  /// The next start finds the files of these directories only when they are mounted.
  void unmount(const std::vector<std::string>& missing) {
    world_.configuration().disk.directories = {"/a", "/b", "/c"};
    for (std::string& directory : world_.configuration().disk.directories) {
      if (std::ranges::find(missing, directory) == missing.end()) continue;
      directory.insert(0, "/late");
    }
    world_.start();
    pass(3);
    ASSERT_EQ(directories(kOff), missing.size());
    ASSERT_TRUE(world_.core().disks_settled());
  }
  void make_boots_of_a_go_ahead() {
    world_.stop();
    world_.configuration().disk.directories = {"/a"};
    for (int boot = 0; boot < 10; ++boot) {
      world_.start();
      world_.settle();
      world_.stop();
    }
  }
  /// The delete carries the boot number of /a, which the other directories have not reached.
  void delete_with_a_far_ahead() {
    make_boots_of_a_go_ahead();
    unmount({});
    (void)world_.store(world_.chain(6, 1), 1);
    world_.settle();
    const auto dropped = world_.session().drop(world_.session().space());
    ASSERT_TRUE(dropped);
    ASSERT_EQ(dropped->pending, 0U);
    world_.stop();
  }
  /// Of a cache that runs without /a.
  void stores_outlive_the_return_of_a() {
    EXPECT_EQ(world_.store(world_.chain(6, 1), 1), 6U);
    world_.settle();
    ASSERT_EQ(world_.disk().blocks, 6U);
    world_.stop();
    unmount({});
    ASSERT_EQ(directories(kOn), 3U);
    EXPECT_EQ(matched(6, 1), 6U);
    EXPECT_EQ(world_.load(world_.chain(6, 1), 1), 6U);
  }
  void mount(const std::string& directory) {
    world_.memory().make_directory("/late");
    world_.memory().make_directory("/late" + directory);
    ASSERT_TRUE(world_.memory().rename(directory + "/tiercel.kv", "/late" + directory + "/tiercel.kv"));
    pass(40);
  }
  /// As if it had been mounted where it belongs all the time.
  void put_back(const std::string& directory) {
    ASSERT_TRUE(world_.memory().rename("/late" + directory + "/tiercel.kv", directory + "/tiercel.kv"));
  }
};

TEST_F(DiskMountedLate, what_continues_its_blocks_waits_and_links) {
  world_.settle();
  (void)world_.store(world_.chain(30, 1), 1);
  world_.settle();
  world_.stop();
  unmount({"/b"});
  const std::size_t now = matched(30, 1);
  EXPECT_LT(now, 30U);
  EXPECT_EQ(world_.load(world_.chain(30, 1), 1), now);
  EXPECT_EQ(world_.stats().disk_orphaned_blocks, 0U);
  EXPECT_EQ(world_.store(world_.chain(4, 2), 2), 4U);
  world_.settle();
  EXPECT_EQ(world_.disk().stored_blocks, 4U);  // the others are written to meanwhile
  mount("/b");
  ASSERT_EQ(directories(kOn), 3U);
  EXPECT_EQ(matched(30, 1), 30U);
  EXPECT_EQ(world_.load(world_.chain(30, 1), 1), 30U);
  EXPECT_EQ(world_.stats().disk_orphaned_blocks, 0U);
  EXPECT_EQ(world_.stats().disk_recovered_blocks, 30U);
  world_.restart();
  EXPECT_EQ(world_.load(world_.chain(30, 1), 1), 30U);
  EXPECT_EQ(world_.load(world_.chain(4, 2), 2), 4U);
}

TEST_F(DiskMountedLate, no_more_waits_than_may) {
  world_.settle();
  for (TokenId seed = 1; seed <= 4; ++seed) {
    EXPECT_EQ(world_.store(world_.chain(40, seed), seed), 40U);
    world_.settle();
  }
  world_.stop();
  const std::uint64_t there = blocks_in("/a") + blocks_in("/c");
  world_.most_waiting_blocks = 40;
  unmount({"/b"});
  EXPECT_EQ(world_.stats().disk_orphaned_blocks, there - world_.disk().blocks - 40);
  mount("/b");
  ASSERT_EQ(directories(kOn), 3U);
  for (TokenId seed = 1; seed <= 4; ++seed) {
    const std::size_t length = matched(40, seed);
    EXPECT_EQ(world_.load(world_.chain(40, seed), seed), length);
    EXPECT_EQ(world_.store(world_.chain(40, seed), seed), 40 - length);
    world_.settle();
  }
}

TEST_F(DiskMountedLate, what_waits_gives_way_where_room_is_needed) {
  world_.settle();
  for (TokenId seed = 1; seed <= 5; ++seed) {
    (void)world_.store(world_.chain(60, seed), seed);
    world_.settle();
  }
  world_.stop();
  unmount({"/b"});
  const std::uint64_t served = world_.disk().blocks;
  EXPECT_LT(served, 150U);  // of about 200 that are there
  for (TokenId seed = 11; seed <= 15; ++seed) {
    world_.advance(1s);
    EXPECT_EQ(world_.store(world_.chain(50, seed), seed), 50U);
    world_.settle();
  }
  EXPECT_EQ(world_.disk().blocks, served + 250);  // there would be room for 56 without what waits
  EXPECT_EQ(world_.disk().evicted_blocks, 0U);
  EXPECT_EQ(world_.load(world_.chain(50, 15), 15), 50U);
  mount("/b");
  ASSERT_EQ(directories(kOn), 3U);
  for (const TokenId seed : {1, 2, 3, 4, 5, 15}) {
    const std::size_t length = matched(60, seed);
    EXPECT_EQ(world_.load(world_.chain(60, seed), seed), length);
  }
  EXPECT_EQ(matched(50, 15), 50U);
  world_.restart();
  EXPECT_EQ(matched(50, 15), 50U);
}

TEST_F(DiskMountedLate, what_was_deleted_does_not_come_back_below_a_block_that_was_stored_again) {
  world_.settle();
  (void)world_.store(world_.chain(12, 1), 1);
  world_.settle();
  const auto in_a = RawFile(world_.memory(), "/a/tiercel.kv").header_pages();
  const auto in_c = RawFile(world_.memory(), "/c/tiercel.kv").header_pages();
  const auto dropped = world_.session().drop(world_.chain(12, 1), 3);
  ASSERT_TRUE(dropped);
  ASSERT_EQ(dropped->pending, 0U);
  world_.crash();
  for (const auto& [offset, page] : in_a) RawFile(world_.memory(), "/a/tiercel.kv").write(offset, page);
  for (const auto& [offset, page] : in_c) RawFile(world_.memory(), "/c/tiercel.kv").write(offset, page);
  unmount({"/a", "/c"});
  EXPECT_EQ(world_.store(world_.chain(5, 1), 1), 5U);
  world_.settle();
  ASSERT_EQ(world_.disk().blocks, 5U);  // in /b, after the delete
  world_.stop();
  unmount({"/b"});
  EXPECT_GT(world_.stats().disk_orphaned_blocks, 0U);  // old enough to be below the deleted block
  mount("/b");
  ASSERT_EQ(directories(kOn), 3U);
  EXPECT_EQ(matched(12, 1), 5U);
  EXPECT_EQ(world_.load(world_.chain(12, 1), 1), 5U);
  world_.stop();
  put_back("/b");
  unmount({});
  EXPECT_EQ(matched(12, 1), 5U);
}

TEST_F(DiskMountedLate, what_is_deleted_while_a_part_is_missing_does_not_come_back) {
  world_.settle();
  TokenId seed = 20;
  for (const std::string directory : {"/a", "/b", "/c"}) {
    (void)world_.store(world_.chain(12, seed), seed);
    world_.settle();
    world_.stop();
    unmount({directory});
    ASSERT_TRUE(world_.session().drop(world_.chain(12, seed), 0));
    EXPECT_EQ(world_.store(world_.chain(2, seed), seed), 2U);  // a parent again for what waits
    world_.settle();
    mount(directory);
    ASSERT_EQ(directories(kOn), 3U);
    EXPECT_EQ(matched(12, seed), 2U) << directory;
    EXPECT_EQ(world_.load(world_.chain(12, seed), seed), 2U) << directory;
    world_.stop();
    put_back(directory);
    unmount({});
    EXPECT_EQ(matched(12, seed), 2U) << directory;
    ++seed;
  }
}

TEST_F(DiskMountedLate, a_delete_of_a_higher_boot_covers_nothing_that_is_stored_without_that_directory) {
  ASSERT_NO_FATAL_FAILURE(delete_with_a_far_ahead());
  unmount({"/a"});
  stores_outlive_the_return_of_a();
}

TEST_F(DiskMountedLate, a_delete_of_a_higher_boot_covers_nothing_of_a_second_boot_without_that_directory) {
  ASSERT_NO_FATAL_FAILURE(delete_with_a_far_ahead());
  unmount({"/a"});  // its log has the delete, those of the others forget it
  world_.settle();
  world_.crash();
  unmount({"/a"});
  stores_outlive_the_return_of_a();
}

TEST(DiskAdmission, second_sight_writes_what_was_used_again) {
  Config config = DiskWorld::config();
  config.disk.admission = Admission::kSecondSight;
  DiskWorld world(config);
  world.settle();
  (void)world.store(world.chain(6, 1), 1);
  world.settle();
  EXPECT_EQ(world.disk().blocks, 0U);
  EXPECT_EQ(world.stats().demotions_not_admitted, 6U);
  EXPECT_EQ(world.load(world.chain(4, 1), 1), 4U);
  world.settle();
  EXPECT_EQ(world.disk().blocks, 4U);
  world.restart();
  EXPECT_EQ(world.load(world.chain(6, 1), 1), 4U);
}

TEST(DiskParanoid, blocks_are_verified_at_commit_in_memory_and_from_disk) {
  Config config = DiskWorld::config();
  config.integrity.mode = IntegrityMode::kParanoid;
  DiskWorld world(config);
  world.settle();
  EXPECT_EQ(world.store(world.chain(8, 1), 1), 8U);
  world.settle();
  EXPECT_EQ(world.disk().blocks, 8U);
  EXPECT_EQ(world.load(world.chain(8, 1), 1), 8U);
  world.restart();
  EXPECT_EQ(world.load(world.chain(8, 1), 1), 8U);
  EXPECT_EQ(world.load(world.chain(8, 1), 1), 8U);  // from memory, verified with the checksum from disk
  {
    Load load = world.session().load(world.chain(8, 1), 8, 1s);
    ASSERT_EQ(load.wait().size(), 8U);
    const_cast<std::byte&>(load.wait()[5].bytes()[3]) ^= std::byte{1};
  }
  const std::size_t found = world.load(world.chain(8, 1), 1);
  EXPECT_EQ(found, 5U);
  EXPECT_EQ(world.stats().checksum_failures, 1U);
  world.settle();
  EXPECT_EQ(world.load(world.chain(8, 1), 1), 8U);  // the copy on disk was never wrong
}

TEST(DiskParanoid, what_changed_in_memory_does_not_go_to_disk) {
  Config config = DiskWorld::config();
  config.integrity.mode = IntegrityMode::kParanoid;
  config.disk.admission = Admission::kSecondSight;  // so that there is time between commit and write
  DiskWorld world(config);
  world.settle();
  (void)world.store(world.chain(1, 1), 1);
  world.settle();
  {
    Load load = world.session().load(world.chain(1, 1), 1, 1s);
    ASSERT_EQ(load.wait().size(), 1U);
    const_cast<std::byte&>(load.wait()[0].bytes()[3]) ^= std::byte{1};
  }
  world.settle();
  EXPECT_EQ(world.disk().blocks, 0U);
  EXPECT_EQ(world.stats().checksum_failures, 1U);
  EXPECT_EQ(world.load(world.chain(1, 1), 1), 0U);
}

TEST(DiskLoadPercent, stores_that_are_being_written_leave_room_for_loads) {
  Config config = DiskWorld::config();
  config.limits.load_percent = 25;  // of 64 slots: 16
  DiskWorld world(config);
  world.settle();
  (void)world.store(world.chain(10, 1), 1);
  world.settle();
  world.restart();
  Reservation greedy = world.session().reserve(world.chain(64, 2), 0);
  std::size_t writers = 0;
  for (std::size_t i = 0; i < greedy.size(); ++i) writers += greedy.outcome(i) == Reserved::kYes ? 1U : 0U;
  EXPECT_EQ(writers, 48U);
  EXPECT_EQ(greedy.outcome(48), Reserved::kBusy);
  EXPECT_EQ(world.load(world.chain(10, 1), 1), 10U);
}

class DiskCapacity : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(DiskCapacity, a_restart_with_another_capacity_keeps_what_has_room) {
  DiskWorld world;  // 16 MiB: 8 extents
  world.settle();
  for (TokenId seed = 1; seed <= 6; ++seed) {
    world.advance(1s);
    (void)world.store(world.chain(30, seed), seed);
    world.settle();
  }
  ASSERT_EQ(world.disk().blocks, 180U);
  world.stop();
  world.configuration().disk.capacity = GetParam();
  world.start();
  world.settle();
  EXPECT_EQ(world.disk().capacity_bytes, GetParam());
  const std::uint64_t room = GetParam() / kBlock;
  if (room >= 192) {
    EXPECT_EQ(world.disk().blocks, 180U);
  }
  EXPECT_LE(world.disk().blocks, room);
  for (TokenId seed = 1; seed <= 6; ++seed) {
    const std::size_t matched = world.session().match(world.chain(30, seed)).blocks();
    EXPECT_EQ(world.load(world.chain(30, seed), seed), matched);
  }
  EXPECT_EQ(world.store(world.chain(30, 9), 9), 30U);
  world.settle();
  world.stop();
  world.configuration().disk.capacity = 16_MiB;
  world.start();
  world.settle();
  EXPECT_EQ(world.load(world.chain(30, 9), 9), 30U);
}
INSTANTIATE_TEST_SUITE_P(Bytes, DiskCapacity, ::testing::Values(32_MiB, 12_MiB, 6_MiB, 4_MiB),
                         [](const auto& bytes) { return std::to_string(bytes.param >> 20U) + "MiB"; });

}  // namespace
}  // namespace tiercel
