// Goal: every counter and gauge that Stats has for the disk tier moves when its thing happens; stats_test.cc leaves
// these words to this file. Method: make each thing happen on small caches turned by hand, with faults; at the end
// every word of the range must have been above zero at some time.
#include "cache/testing/raw_file.h"
#include "cache/testing/troubled_disk.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using testing::DiskWorld;
using testing::RawFile;

constexpr std::size_t kWords = sizeof(Stats) / 8;
using Words = std::array<std::uint64_t, kWords>;

class EveryDiskStat : public ::testing::Test {
 protected:
  static Config config(std::uint64_t disk = 16_MiB) { return testing::impatient(DiskWorld::config(4_MiB, disk)); }
  /// Puts faults and the gate before the world's files.
  void put_faults(DiskWorld& world) {
    gate_ = std::make_shared<DelayGate>(world.clock());
    faults_ = std::make_shared<FaultPlan>();
    world.stop();
    world.wrap([this](const std::string&, std::unique_ptr<IoBackend> file) {
      return std::make_unique<DelayedBackend>(std::make_unique<FaultyBackend>(std::move(file), faults_), gate_);
    });
    world.start();
    note(world);  // starting
    world.settle();
    note(world);  // on, capacity
  }
  void pass(DiskWorld& world, int turns = 20) {
    for (int i = 0; i < turns; ++i) {
      world.advance(100ms);
      world.settle(20);
      note(world);
    }
  }
  void note(DiskWorld& world) { note(world.stats()); }
  void note(const Stats& stats) {
    Words now;
    std::memcpy(now.data(), &stats, sizeof stats);
    for (std::size_t i = 0; i < kWords; ++i) most_[i] = std::max(most_[i], now[i]);
  }

  void what_goes_well() {
    DiskWorld world(config());
    put_faults(world);
    gate_->delay(IoKind::kWrite, 1'000'000);
    (void)world.store(world.chain(8, 1), 1);
    note(world);  // queued to go down
    for (int i = 0; i < 20; ++i) {
      world.settle(5);
      note(world);
      world.advance(1ms);  // writes take time
    }
    gate_->delay(IoKind::kWrite, 0);
    world.settle();
    world.restart();
    gate_->hold(IoKind::kRead);
    Load load = world.session().load(world.chain(8, 1), 8, 10s);
    world.settle(3);
    ASSERT_TRUE(world.session().drop(world.chain(8, 1), 6));  // what is being read waits in quarantine
    note(world);                                              // in flight, queued
    gate_->release_all();
    world.settle();
    load = {};
    note(world);  // promoted, hits, tombstones
    for (TokenId seed = 2; seed < 14; ++seed) {
      world.advance(1s);
      (void)world.store(world.chain(32, seed), seed);
      world.settle();
    }
    note(world);  // evicted
  }

  void what_a_start_finds() {
    DiskWorld world(config());
    world.settle();
    (void)world.store(world.chain(8, 1), 1);
    (void)world.store(world.chain(8, 2), 2);
    world.settle();
    RawFile file(world.memory());
    const auto before = file.header_pages();
    ASSERT_TRUE(world.session().drop(world.chain(8, 2), 0));
    world.crash();
    for (const auto& [offset, page] : before) file.write(offset, page);  // out of date now
    world.start();
    const auto header = file.header_of(world.chain(8, 1)[2]);
    ASSERT_TRUE(header);
    file.flip(*header + 20, 3);
    world.settle();
    note(world);  // corrupt, stale, recovered, orphans
    EXPECT_EQ(world.stats().disk_corrupt_headers, 1U);
    EXPECT_EQ(world.stats().disk_stale_headers, 1U);  // the block that the delete names
    EXPECT_EQ(world.stats().disk_recovered_blocks, 2U);
    EXPECT_EQ(world.stats().disk_orphaned_blocks, 5U);  // what continues the deleted block is covered with it
    const auto page = file.page_of(DiskWorld::pattern(1, 1));
    ASSERT_TRUE(page);
    file.flip(*page, 0);
    EXPECT_EQ(world.load(world.chain(2, 1), 1), 1U);
    note(world);  // checksum, lost
    EXPECT_EQ(world.stats().disk_checksum_failures, 1U);
    EXPECT_EQ(world.stats().disk_lost_blocks, 1U);
  }

  void what_the_device_does() {
    DiskWorld world(config());
    put_faults(world);
    (void)world.store(world.chain(8, 1), 1);
    (void)world.store(world.chain(8, 2), 2);
    world.settle();
    world.restart();
    faults_->set_for_all(IoKind::kRead, IoFault{.kind = IoFault::Kind::kFail, .error = EIO});
    (void)world.load(world.chain(1, 1), 1);
    faults_->set_for_all(IoKind::kRead, std::nullopt);
    faults_->add(faults_->started(), {.kind = IoFault::Kind::kShort, .bytes = 0});
    (void)world.load(world.chain(1, 2), 2);
    note(world);  // read errors, short reads, unreadable
    pass(world);
    faults_->set_for_all(IoKind::kWrite, IoFault{.kind = IoFault::Kind::kFail, .error = ENOSPC});
    (void)world.store(world.chain(8, 3), 3);
    world.settle();
    note(world);  // read-only, write errors, failed
    faults_->set_for_all(IoKind::kWrite, std::nullopt);
    pass(world);
    gate_->hold_all();
    (void)world.store(world.chain(8, 4), 4);
    pass(world);                                              // off, deadlines, trips, quarantine
    EXPECT_TRUE(world.session().drop(world.chain(8, 4), 4));  // late
    gate_->release_all();
    pass(world);  // probes
  }

  void what_is_not_written() {
    {
      Config choosy = config();
      choosy.disk.admission = Admission::kSecondSight;
      DiskWorld world(choosy);
      world.settle();
      (void)world.store(world.chain(4, 1), 1);
      world.settle();
      note(world);  // not admitted
    }
    Config small = config(4_MiB);  // 64 blocks
    small.host.capacity = 8_MiB;
    DiskWorld world(small);
    put_faults(world);
    (void)world.store(world.chain(64, 1), 1);
    world.settle();
    world.restart();
    gate_->hold(IoKind::kRead);
    Load load = world.session().load(world.chain(64, 1), 64, 100ms);
    (void)world.store(world.chain(4, 2), 2);  // all there is room in is being read
    world.settle(5);
    note(world);  // refused
    gate_->release_all();
    world.settle();
  }

  void what_is_refused_and_closed() {
    DiskWorld world(config());
    world.settle();
    world.stop();
    RawFile::Page foreign{};
    foreign.fill(std::byte{0x5A});
    RawFile file(world.memory());
    file.write(0, foreign);
    file.write(testing::kRawPage, foreign);
    world.start();
    world.settle();
    note(world);  // refused
    (void)world.core().close(0ns);
    world.settle(10);
    note(world.core().stats());  // closed
  }

  Words most_{};
  std::shared_ptr<FaultPlan> faults_;
  std::shared_ptr<DelayGate> gate_;
};

TEST_F(EveryDiskStat, moves) {
  what_goes_well();
  what_a_start_finds();
  what_the_device_does();
  what_is_not_written();
  what_is_refused_and_closed();
  const auto check = [&](std::size_t from_bytes, std::size_t to_bytes) {
    for (std::size_t i = from_bytes / 8; i < to_bytes / 8; ++i) {
      EXPECT_GT(most_[i], 0U) << "word " << i - from_bytes / 8 << " of the range at byte " << from_bytes
                              << " of Stats never moved";
    }
  };
  check(sizeof(TierStats), 2 * sizeof(TierStats));
  check(offsetof(Stats, disk_directories), offsetof(Stats, match_latency));
  // Buckets of a histogram: a call falls into one; count and sum must move.
  std::uint64_t counted = 0;
  const std::size_t histogram = offsetof(Stats, demotion_latency) / 8;
  for (std::size_t b = 0; b < LatencyHistogram::kBuckets; ++b) counted += most_[histogram + b];
  EXPECT_GT(counted, 0U);
  EXPECT_GT(most_[histogram + offsetof(LatencyHistogram, sum_ns) / 8], 0U);
}

static_assert(static_cast<std::size_t>(TierId::kDisk) == 1);

}  // namespace
}  // namespace tiercel
