// Goal: what was committed goes down to disk and comes back, after eviction and after a restart, as the same bytes or
// as a miss. Method: a small cache turned by hand over files in memory.
#include "cache/testing/disk_world.h"

#include <gtest/gtest.h>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using testing::DiskWorld;

constexpr std::size_t kHostSlots = 4_MiB / testing::kDiskBlockBytes;

class Disk : public ::testing::Test {
 protected:
  DiskWorld world_;
};

TEST_F(Disk, what_is_committed_goes_down) {
  world_.settle();
  EXPECT_EQ(world_.stats().disk_directories[1], 1U);  // on
  EXPECT_EQ(world_.store(world_.chain(8)), 8U);
  world_.settle();
  EXPECT_EQ(world_.disk().blocks, 8U);
  EXPECT_EQ(world_.disk().stored_bytes, 8 * testing::kDiskBlockBytes);
  const Match match = world_.session().match(world_.chain(8));
  ASSERT_EQ(match.blocks(), 8U);
  EXPECT_TRUE(match.tiers(7).has(TierId::kHost));
  EXPECT_TRUE(match.tiers(7).has(TierId::kDisk));
}

TEST(DiskOrder, a_chain_that_is_committed_from_its_end_goes_down_in_about_as_many_steps_as_from_its_beginning) {
  constexpr std::size_t kBlocks = 160;
  std::array<std::size_t, 2> tasks{};
  for (const bool backward : {false, true}) {
    DiskWorld world(DiskWorld::config(16_MiB, 32_MiB));
    world.settle();
    const BlockChain chain = world.chain(kBlocks, 1);
    Reservation room = world.session().reserve(chain, 0);
    ASSERT_EQ(room.size(), kBlocks);
    for (std::size_t n = 0; n < kBlocks; ++n) {
      const std::size_t i = backward ? kBlocks - 1 - n : n;
      std::ranges::fill(room.writer(i).bytes(), DiskWorld::pattern(i, 1));
      ASSERT_TRUE(room.writer(i).commit());
    }
    room = {};
    for (int i = 0; i < 5000; ++i) {
      tasks.at(backward ? 1 : 0) += world.run_tasks();
      (void)world.step();
    }
    EXPECT_EQ(world.disk().stored_blocks, kBlocks);
    world.restart();
    EXPECT_EQ(world.load(chain, 1), kBlocks);
  }
  EXPECT_LT(tasks[1], 2 * tasks[0] + 10);
}

TEST_F(Disk, what_the_arena_evicts_is_loaded_from_disk) {
  world_.settle();
  for (TokenId seed = 0; seed < 4; ++seed) {
    EXPECT_EQ(world_.store(world_.chain(kHostSlots / 2, seed), seed), kHostSlots / 2);
    world_.settle();
  }
  EXPECT_EQ(world_.disk().blocks, 2 * kHostSlots);
  EXPECT_FALSE(world_.session().match(world_.chain(1, 0)).tiers(0).has(TierId::kHost));
  EXPECT_EQ(world_.session().match(world_.chain(kHostSlots / 2, 0)).blocks(), kHostSlots / 2);
  EXPECT_EQ(world_.load(world_.chain(kHostSlots / 2, 0), 0), kHostSlots / 2);
  EXPECT_EQ(world_.disk().hit_blocks, kHostSlots / 2);
  EXPECT_EQ(world_.stats().promoted_blocks, kHostSlots / 2);
  EXPECT_EQ(world_.load(world_.chain(kHostSlots / 2, 0), 0), kHostSlots / 2);  // now from the arena
  EXPECT_EQ(world_.disk().hit_blocks, kHostSlots / 2);
  world_.settle();
  EXPECT_EQ(world_.stats().copy_pins, 0U);
}

TEST_F(Disk, a_restart_finds_all_that_was_acknowledged) {
  world_.settle();
  EXPECT_EQ(world_.store(world_.chain(20, 1), 1), 20U);
  EXPECT_EQ(world_.store(world_.chain(9, 2), 2), 9U);
  world_.settle();
  world_.restart();
  EXPECT_EQ(world_.stats().disk_recovered_blocks, 29U);
  EXPECT_EQ(world_.session().match(world_.chain(20, 1)).blocks(), 20U);
  EXPECT_EQ(world_.load(world_.chain(20, 1), 1), 20U);
  EXPECT_EQ(world_.load(world_.chain(9, 2), 2), 9U);
  const auto reports = world_.core().disk_reports();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].found_blocks, 29U);
  EXPECT_EQ(reports[0].state, DiskDirectoryState::kOn);
}

TEST_F(Disk, a_crash_keeps_what_was_acknowledged) {
  world_.settle();
  EXPECT_EQ(world_.store(world_.chain(20, 1), 1), 20U);
  world_.settle();
  world_.crash();
  world_.start();
  world_.settle();
  EXPECT_EQ(world_.load(world_.chain(20, 1), 1), 20U);
}

TEST_F(Disk, two_loads_share_one_read) {
  world_.settle();
  (void)world_.store(world_.chain(4, 1), 1);
  world_.settle();
  world_.restart();
  const std::uint64_t before = world_.stats().disk_read_operations;
  Load first = world_.session().load(world_.chain(4, 1), 4, 10s);
  Load second = world_.session().load(world_.chain(4, 1), 4, 10s);
  world_.settle();
  EXPECT_TRUE(first.done());
  EXPECT_TRUE(second.done());
  EXPECT_EQ(first.wait().size(), 4U);
  EXPECT_EQ(second.wait().size(), 4U);
  EXPECT_EQ(first.wait()[3].bytes().data(), second.wait()[3].bytes().data());
  EXPECT_EQ(world_.stats().promoted_blocks, 4U);
  EXPECT_LE(world_.stats().disk_read_operations - before, 4U);
}

TEST_F(Disk, a_block_on_disk_is_not_stored_again) {
  world_.settle();
  (void)world_.store(world_.chain(4, 1), 1);
  world_.settle();
  world_.restart();
  Reservation room = world_.session().reserve(world_.chain(6, 1), 0);
  EXPECT_EQ(room.outcome(0), Reserved::kExists);
  EXPECT_EQ(room.outcome(3), Reserved::kExists);
  EXPECT_EQ(room.outcome(4), Reserved::kYes);  // its parent is on disk alone
}

TEST_F(Disk, a_full_disk_lets_the_coldest_leaves_go) {
  world_.settle();
  const std::size_t disk_slots = 16_MiB / testing::kDiskBlockBytes;
  for (TokenId seed = 0; seed < 12; ++seed) {
    world_.advance(1s);
    (void)world_.store(world_.chain(kHostSlots / 2, seed), seed);
    world_.settle();
  }
  EXPECT_LE(world_.disk().blocks, disk_slots);
  EXPECT_GE(world_.disk().evicted_blocks, 12 * kHostSlots / 2 - disk_slots);
  EXPECT_EQ(world_.load(world_.chain(kHostSlots / 2, 11), 11), kHostSlots / 2);
  world_.restart();
  EXPECT_EQ(world_.stats().disk_orphaned_blocks, 0U);
  for (TokenId seed = 0; seed < 12; ++seed) {  // whatever is there is a run from the root
    const std::size_t found = world_.session().match(world_.chain(kHostSlots / 2, seed)).blocks();
    EXPECT_EQ(world_.load(world_.chain(kHostSlots / 2, seed), seed), found);
  }
}

TEST_F(Disk, the_deleted_does_not_come_back) {
  world_.settle();
  (void)world_.store(world_.chain(8, 1), 1);
  (void)world_.store(world_.chain(8, 2), 2);
  world_.settle();
  const auto dropped = world_.session().drop(world_.chain(8, 1), 3);
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->blocks, 5U);
  EXPECT_EQ(dropped->pending, 0U);
  world_.crash();
  world_.start();
  world_.settle();
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 3U);
  EXPECT_EQ(world_.load(world_.chain(8, 2), 2), 8U);
}

TEST_F(Disk, deletes_of_a_namespace_reach_what_is_on_disk_alone) {
  world_.settle();
  for (TokenId seed = 0; seed < 4; ++seed) {
    (void)world_.store(world_.chain(kHostSlots / 2, seed), seed);
    world_.settle();
  }
  const auto dropped = world_.session().drop(world_.session().space());
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->blocks, 2 * kHostSlots);
  EXPECT_EQ(dropped->pending, 0U);
  EXPECT_EQ(world_.disk().blocks, 0U);
  (void)world_.store(world_.chain(4, 9), 9);  // after the delete: stays
  world_.settle();
  world_.crash();
  world_.start();
  world_.settle();
  EXPECT_EQ(world_.stats().disk_recovered_blocks, 4U);
  EXPECT_EQ(world_.session().match(world_.chain(kHostSlots / 2, 0)).blocks(), 0U);
  EXPECT_EQ(world_.load(world_.chain(4, 9), 9), 4U);
}

/// A disk whose operations are held back, fail or lie, as the test says.
class FailingDisk : public ::testing::Test {
 protected:
  FailingDisk() : world_(slow_config()) {}
  static Config slow_config() {
    Config config = DiskWorld::config();
    config.disk.io_deadline = 1000ms;
    config.disk.probe_interval = 100ms;
    return config;
  }
  /// Flips a byte of block `i`'s data in the file, wherever it lies.
  void damage(std::size_t i, TokenId seed) {
    auto file = world_.memory().open("/disk/tiercel.kv", {.direct = false});
    ASSERT_TRUE(file);
    const std::uint64_t size = *(*file)->size();
    std::vector<std::byte> page(4096);
    const std::byte wanted = DiskWorld::pattern(i, seed);
    for (std::uint64_t offset = 2_MiB; offset < size; offset += page.size()) {
      transfer(**file, IoKind::kRead, offset, page);
      if (std::ranges::all_of(page, [&](std::byte b) { return b == wanted; })) {
        page[17] ^= std::byte{4};
        transfer(**file, IoKind::kWrite, offset, page);
        return;
      }
    }
    FAIL() << "block not found in the file";
  }
  static void transfer(IoBackend& file, IoKind kind, std::uint64_t offset, std::vector<std::byte>& page) {
    const struct iovec buffer{page.data(), page.size()};
    ASSERT_TRUE(file.start({.id = 0, .kind = kind, .offset = offset, .buffers = std::span(&buffer, 1)}));
    IoReaped reaped;
    while (file.reap(std::span(&reaped, 1), 0) == 0) {
    }
    ASSERT_EQ(reaped.result, 4096);
  }

  DiskWorld world_;
};

TEST_F(FailingDisk, a_flipped_bit_is_a_miss_and_the_copy_goes) {
  world_.settle();
  (void)world_.store(world_.chain(8, 1), 1);
  world_.settle();
  world_.stop();
  damage(5, 1);
  world_.start();
  world_.settle();
  EXPECT_EQ(world_.session().match(world_.chain(8, 1)).blocks(), 8U);
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 5U);
  EXPECT_EQ(world_.outcome, LoadOutcome::kCorrupt);
  EXPECT_EQ(world_.stats().disk_checksum_failures, 1U);
  EXPECT_EQ(world_.session().match(world_.chain(8, 1)).blocks(), 5U);
  // Stored again, it is served again, and what follows it was never lost.
  EXPECT_EQ(world_.store(world_.chain(8, 1), 1), 1U);
  world_.settle();
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 8U);
}

TEST_F(FailingDisk, a_stalled_device_costs_hits_and_comes_back) {
  const auto gate = std::make_shared<DelayGate>(world_.clock());
  world_.stop();
  world_.wrap([&](const std::string&, std::unique_ptr<IoBackend> file) {
    return std::make_unique<DelayedBackend>(std::move(file), gate);
  });
  world_.start();
  world_.settle();
  (void)world_.store(world_.chain(8, 1), 1);
  world_.settle();
  world_.restart();
  gate->hold_all();
  Load load = world_.session().load(world_.chain(8, 1), 8, 50ms);
  world_.settle();
  EXPECT_FALSE(load.done());
  world_.advance(60ms);
  EXPECT_TRUE(load.done());
  EXPECT_EQ(load.outcome(), LoadOutcome::kDeadline);
  EXPECT_EQ(load.wait().size(), 0U);
  load = {};
  EXPECT_GT(world_.stats().copy_pins, 0U);  // the slots stay with the device
  world_.advance(2s);
  world_.settle();
  EXPECT_EQ(world_.stats().disk_directories[3], 1U);  // off
  EXPECT_EQ(world_.session().match(world_.chain(8, 1)).blocks(), 0U);
  gate->release_all();
  for (int i = 0; i < 20; ++i) {
    world_.advance(100ms);
    world_.settle();
  }
  EXPECT_EQ(world_.stats().disk_directories[1], 1U);  // on again
  EXPECT_EQ(world_.stats().copy_pins, 0U);
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 8U);
}

}  // namespace
}  // namespace tiercel
