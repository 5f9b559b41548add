// Goal: a file that grows or shrinks keeps every block that still has room, whenever the power goes: it opens in the
// old size or in the new one, and each block that it finds has its own bytes.
#include "tier/disk/resize.h"

#include "tier/disk/testing/disk_file.h"

#include <gtest/gtest.h>

namespace tiercel::disk {
namespace {

using namespace testing_support;

class ResizeTest : public ::testing::Test {
 protected:
  static constexpr const char* kPath = "/kv/tiercel.kv";

  /// A file of `extents` with blocks in the extents given, some of two slot sizes.
  void make(std::uint32_t extents, const std::vector<std::uint32_t>& used) {
    ASSERT_TRUE(disk_.open(test_request(extents)));
    for (const std::uint32_t extent : used) {
      const std::uint64_t slot_bytes = kTestSlotBytes * (1 + extent % 2);
      const auto slots = static_cast<std::uint32_t>(kTestExtentBytes / slot_bytes);
      for (std::uint32_t position = 0; position < slots - extent % 3; ++position) {
        const std::uint64_t number = next_++;
        stored_[name_of(number)] = {number, disk_.store(number, extent * 8 + position, slot_bytes, extent % 3)};
      }
    }
    const DiskBlock gone = disk_.store(5000, used.front() * 8, disk_.metadata().extent(used.front()).slot_bytes);
    std::erase_if(stored_, [&](const auto& entry) { return entry.second.block.slot == gone.slot; });
    disk_.write_page(disk_.metadata().append(
        {.fingerprint = gone.fingerprint, .hash = gone.hash, .group = gone.group, .generation = gone.generation}));
    disk_.sync();
    disk_.close();
    files_.begin_journal();
  }

  struct Stored {
    std::uint64_t number = 0;
    DiskBlock block;
  };

  /// Opens with a capacity and looks at all that is found; returns how much that is.
  std::size_t look(JournalFileSystem& files, std::uint32_t extents, std::uint64_t* lost = nullptr) {
    DiskFile disk(files);
    const Status status = disk.open(test_request(extents));
    EXPECT_TRUE(status) << status.error().message;
    if (!status) return 0;
    EXPECT_EQ(files.bytes(kPath).size(), disk.metadata().layout().file_bytes());
    if (lost != nullptr) *lost = disk.opened().lost_slots;
    Found found;
    EXPECT_TRUE(disk.recover(found));
    EXPECT_TRUE(found.faults.empty());
    EXPECT_EQ(found.by_name().size(), found.blocks.size());
    for (const DiskBlock& block : found.blocks) {
      const auto stored = stored_.find(block.hash);
      if (stored == stored_.end()) {
        ADD_FAILURE() << "a block that was deleted or never stored";
        continue;
      }
      DiskBlock expected = stored->second.block;
      expected.slot = block.slot;  // it may have moved
      EXPECT_EQ(block, expected);
      EXPECT_TRUE(disk.holds_content_of(stored->second.number, block)) << stored->second.number;
    }
    return found.blocks.size();
  }

  /// After the change to `extents`, a crash after each event (any prefix, then random subsets of what was not synced)
  /// leaves a file that opens in the new size with `kept` blocks, and in the old size with at least as many.
  void expect_crash_safe(std::uint32_t old_extents, std::uint32_t extents, std::size_t kept) {
    ASSERT_EQ(look(files_, extents), kept);
    const std::size_t events = files_.events();
    ASSERT_GT(events, 15U);
    Random random(events);
    for (std::size_t n = 0; n <= events; ++n) {
      for (int subset = 0; subset < 3; ++subset) {
        SCOPED_TRACE(testing::Message() << "after " << n << " of " << events << " events, subset " << subset);
        const auto keep = [&] { return subset == 0 || random.below(static_cast<std::uint64_t>(subset) + 1) == 0; };
        ASSERT_EQ(look(*files_.crash_after(n, keep), extents), kept);
        if (HasFailure()) return;
      }
      ASSERT_GE(look(*files_.crash_after(n), old_extents), kept);
      if (HasFailure()) return;
    }
  }

  JournalFileSystem files_;
  DiskFile disk_{files_};
  std::map<BlockHash, Stored> stored_;
  std::uint64_t next_ = 1;
};

TEST_F(ResizeTest, GrowsAndKeepsAll) {
  make(4, {0, 1, 2, 3});
  expect_crash_safe(4, 9, stored_.size());
}

TEST_F(ResizeTest, GrowsByLessThanItsMetadata) {
  make(4, {0, 3});
  expect_crash_safe(4, 5, stored_.size());
}

TEST_F(ResizeTest, ShrinksIntoFreeExtents) {
  make(8, {0, 2, 6, 7});
  expect_crash_safe(8, 5, stored_.size());
}

TEST_F(ResizeTest, ShrinksAndLosesTheEmptierExtent) {
  make(6, {0, 1, 3, 4, 5});
  // Two extents below the end are taken, one (2) is free: of 3, 4 and 5 the one with the most bytes stays.
  const auto bytes_in = [&](std::uint32_t extent) {
    std::uint64_t sum = 0;
    for (const auto& [name, stored] : stored_) sum += stored.block.slot / 8 == extent ? stored.block.length : 0;
    return sum;
  };
  const auto blocks_in = [&](std::uint32_t extent) {
    return static_cast<std::size_t>(
        std::ranges::count_if(stored_, [&](const auto& entry) { return entry.second.block.slot / 8 == extent; }));
  };
  std::uint32_t fullest = 3;
  for (const std::uint32_t extent : {4U, 5U}) {
    if (bytes_in(extent) > bytes_in(fullest)) fullest = extent;
  }
  const std::size_t kept = blocks_in(0) + blocks_in(1) + blocks_in(fullest);
  std::uint64_t lost = 0;
  const auto copy = files_.crash_after(0);
  EXPECT_EQ(look(*copy, 3, &lost), kept);
  EXPECT_EQ(lost, stored_.size() - kept);
  expect_crash_safe(6, 3, kept);
}

TEST_F(ResizeTest, BackAndForth) {
  make(4, {0, 1});
  for (const std::uint32_t extents : {9U, 2U, 3U, 30U, 4U, 2U, 64U, 2U}) {
    SCOPED_TRACE(extents);
    ASSERT_EQ(look(files_, extents), stored_.size());
  }
}

TEST_F(ResizeTest, NoRoomToGrowKeepsTheOldSize) {
  make(4, {0, 1, 2, 3});
  files_.world().capacity = files_.bytes(kPath).size() + 4096;
  EXPECT_EQ(look(files_, 400), stored_.size());
  files_.world().capacity = std::uint64_t{1} << 40U;
  EXPECT_EQ(look(files_, 400), stored_.size());
}

TEST_F(ResizeTest, ShrinksOnAFullDisk) {
  make(12, {0, 2, 8, 9});
  files_.world().capacity = files_.bytes(kPath).size();
  const auto kept_by_old = static_cast<std::size_t>(
      std::ranges::count_if(stored_, [](const auto& entry) { return entry.second.block.slot / 8 < 8; }));
  const auto before = files_.crash_after(0);
  before->world().capacity = files_.bytes(kPath).size();
  ASSERT_EQ(look(*before, 8), stored_.size());
  ASSERT_LT(before->bytes(kPath).size(), files_.bytes(kPath).size());
  ASSERT_EQ(look(files_, 8), stored_.size());
  for (std::size_t n = 0; n <= files_.events(); ++n) {
    SCOPED_TRACE(n);
    Random random(n);
    const auto files = files_.crash_after(n, [&] { return random.below(2) == 0; });
    files->world().capacity = files->bytes(kPath).size();
    ASSERT_GE(look(*files, 8), kept_by_old);
    ASSERT_GE(look(*files_.crash_after(n), 12), kept_by_old);
    if (HasFailure()) return;
  }
}

TEST_F(ResizeTest, AnErrorOfAnyOperationLosesNothing) {
  make(8, {0, 2, 6, 7});
  for (int failing = 0; failing < 400; ++failing) {
    SCOPED_TRACE(failing);
    const auto files = files_.crash_after(0);
    int seen = 0;
    files->world().operation_error = [&](const IoOperation& operation) {
      return operation.kind != IoKind::kRead && seen++ == failing ? EIO : 0;
    };
    DiskFile disk(*files);
    const Status status = disk.open(test_request(5));
    if (status && seen <= failing) return;  // it ran to its end without the error: all were tried
    disk.close();
    files->world().operation_error = [](const IoOperation&) { return 0; };
    ASSERT_EQ(look(*files, 5), stored_.size());
  }
  FAIL() << "more operations than expected";
}

}  // namespace
}  // namespace tiercel::disk
