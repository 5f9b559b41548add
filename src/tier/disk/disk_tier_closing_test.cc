// Goal: a tier that is closed while its file is opened, changed in size or read ends after what is in flight, loses
// nothing by it, and shows meanwhile that its device answers. Method: operations are let go one at a time.
#include "tier/disk/testing/disk_rig.h"

namespace tiercel::disk::testing {
namespace {

constexpr std::size_t kAll = 100'000;      // more operations than any of these needs
constexpr std::size_t kInFlightMost = 16;  // of opening and recovery at once

class DiskTierClosing : public ::testing::Test {
 protected:
  /// A file of 8 extents with a block in each of the last four, that the next tier is to shrink to `extents`.
  void make_file_to_shrink(std::uint32_t extents) {
    rig_.options.capacity = 8 * kExtentBytes;
    rig_.start();
    for (std::uint32_t i = 4; i < 8; ++i) blocks_.push_back(rig_.block(i, i * kSlotsPerExtent));
    for (const DiskBlock& block : blocks_) (void)rig_.write(block);
    rig_.run();
    rig_.close();
    rig_.options.capacity = extents * kExtentBytes;
  }
  /// A new tier whose operations wait to be let go.
  void begin_slowly() {
    rig_.gate->hold_all();
    rig_.make_tier();
    rig_.run(20);
  }
  /// False: none was waiting.
  bool let_one_go() {
    if (rig_.gate->held() == 0) return false;
    rig_.gate->release(1);
    rig_.run(20);
    return true;
  }
  void expect_all_found() {
    ASSERT_EQ(rig_.found.size(), blocks_.size());
    for (DiskBlock block : blocks_) {
      const auto found = std::ranges::find(rig_.found, block.hash, &DiskBlock::hash);
      ASSERT_NE(found, rig_.found.end());
      EXPECT_TRUE(rig_.reads_back(*found)) << block.slot;
    }
  }

  DiskRig rig_;
  std::vector<DiskBlock> blocks_;
};

TEST_F(DiskTierClosing, AFileThatIsOpenedOrShrunkIsLeftAsACrashLeavesIt) {
  bool ended = false;
  for (std::size_t before = 0; !ended && before < kAll; ++before) {
    SCOPED_TRACE(before);
    blocks_.clear();
    rig_.options.reset = true;
    make_file_to_shrink(4);
    rig_.options.reset = false;
    begin_slowly();
    for (std::size_t i = 0; i < before && !ended; ++i) ended = !let_one_go();
    ended = ended || rig_.tier->state() != DiskState::kStarting;
    if (ended) {
      EXPECT_GT(before, 30U) << "a change of size has many steps";
    } else {
      rig_.tier->close();
      std::size_t after = 0;
      while (rig_.tier->step(0) && after < kAll && let_one_go()) ++after;
      EXPECT_LE(after, kInFlightMost);
      EXPECT_EQ(rig_.tier->state(), DiskState::kClosed);
      EXPECT_TRUE(rig_.tier->idle());
    }
    rig_.gate->release_all();
    rig_.run();
    rig_.crash();
    rig_.start();
    expect_all_found();
    rig_.crash();
    if (HasFailure()) return;
  }
}

TEST_F(DiskTierClosing, ADeviceThatOpensAndIndexesShowsThatItAnswers) {
  make_file_to_shrink(4);
  begin_slowly();
  std::size_t count = 0;
  while (rig_.tier->state() == DiskState::kStarting && count < kAll) {
    const std::uint64_t ended = rig_.tier->counters().ended_operations;
    ASSERT_TRUE(let_one_go());
    ++count;
    ASSERT_GT(rig_.tier->counters().ended_operations, ended) << "after " << count;
  }
  EXPECT_GT(count, 30U);
  EXPECT_EQ(rig_.tier->state(), DiskState::kOn);
  rig_.gate->release_all();
  rig_.run();
  expect_all_found();
}

TEST_F(DiskTierClosing, AStalledOpeningKeepsItsFileUntilTheDeviceAnswers) {
  make_file_to_shrink(4);
  begin_slowly();
  ASSERT_GT(rig_.gate->held(), 0U);
  rig_.tier->close();
  rig_.pass(3'000'000'000);  // beyond every deadline
  EXPECT_TRUE(rig_.tier->step(0));
  EXPECT_FALSE(rig_.tier->idle());
  rig_.gate->release_all();
  rig_.run();
  EXPECT_FALSE(rig_.tier->step(0));
  EXPECT_EQ(rig_.tier->state(), DiskState::kClosed);
}

}  // namespace
}  // namespace tiercel::disk::testing
