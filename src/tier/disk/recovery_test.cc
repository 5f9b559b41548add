// Goal: recovery finds exactly the headers that count: of this cut, of a known namespace, not buried, undamaged; the
// rest is cleared, counted by cause and never comes back. Deletes survive the log's restart.
#include "tier/disk/recovery.h"

#include "tier/disk/testing/disk_file.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace tiercel::disk {
namespace {

using namespace testing_support;

class RecoveryTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(disk_.open(test_request(4))); }
  /// Opens again, as after a kill; the blocks that are found, by name.
  std::map<BlockHash, DiskBlock> restart() {
    disk_.close();
    EXPECT_TRUE(disk_.open(test_request(4)));
    found_ = {};
    const Status status = disk_.recover(found_);
    EXPECT_TRUE(status) << status.error().message;
    return found_.by_name();
  }
  void bury(const Tombstone& tombstone) {
    disk_.write_page(disk_.metadata().append(tombstone));
    disk_.sync();
  }
  [[nodiscard]] Tombstone tombstone_of(const DiskBlock& block) {
    return {.fingerprint = block.fingerprint, .hash = block.hash, .group = block.group, .generation = block.generation};
  }
  [[nodiscard]] Bytes& bytes() { return files_.bytes("/kv/tiercel.kv"); }
  [[nodiscard]] std::byte* header_bytes(std::uint32_t slot) {
    const Layout& layout = disk_.metadata().layout();
    return bytes().data() + layout.meta_begin() + layout.header_offset(slot);
  }
  void write_repaired() {
    for (const std::uint32_t page : disk_.metadata().repaired_pages()) disk_.write_page(page);
    disk_.sync();
  }

  JournalFileSystem files_;
  DiskFile disk_{files_};
  Found found_;
};

TEST_F(RecoveryTest, FindsWhatWasStored) {
  std::map<BlockHash, DiskBlock> stored;
  for (std::uint32_t i = 0; i < 8; ++i) stored[name_of(i)] = disk_.store(i, i, kTestSlotBytes, i % 3);
  stored[name_of(20)] = disk_.store(20, 16, 2 * kTestSlotBytes);  // slots 16..19 of extent 2
  stored[name_of(21)] = disk_.store(21, 19, 2 * kTestSlotBytes);
  EXPECT_EQ(restart(), stored);
  EXPECT_EQ(disk_.report().headers, 10U);
  for (const auto& [name, block] : stored) {
    const std::uint64_t number = block.checksum / 7;
    EXPECT_TRUE(disk_.holds_content_of(number, block)) << number;
  }
  EXPECT_TRUE(disk_.metadata().repaired_pages().empty());
  EXPECT_EQ(disk_.metadata().slot_sizes(), (std::vector<std::uint64_t>{kTestSlotBytes, 0, 2 * kTestSlotBytes, 0}));
}

TEST_F(RecoveryTest, EveryFlippedBitOfAHeaderIsCountedAndCleared) {
  disk_.store(1, 3, kTestSlotBytes);
  disk_.store(2, 4, kTestSlotBytes);
  const Layout layout = disk_.metadata().layout();
  for (std::size_t bit = 0; bit < kHeaderBytes * 8; ++bit) {
    header_bytes(3)[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    ASSERT_EQ(restart().size(), 1U) << bit;
    EXPECT_EQ(found_.blocks[0].hash, name_of(2));
    EXPECT_EQ(disk_.report().corrupt_headers, 1U);
    EXPECT_EQ(disk_.metadata().repaired_pages(), std::vector<std::uint32_t>{layout.header_page(3)});
    DiskBlock block;
    EXPECT_EQ(disk_.metadata().header(3, block), Fault::kEmpty);
    header_bytes(3)[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));  // in the file it is as it was
  }
  EXPECT_EQ(restart().size(), 2U);
}

TEST_F(RecoveryTest, AHeaderInAnotherPlaceDoesNotCount) {
  disk_.store(1, 3, kTestSlotBytes);
  disk_.store(2, 8, kTestSlotBytes);
  std::memcpy(header_bytes(5), header_bytes(3), kHeaderBytes);
  std::memcpy(header_bytes(8), header_bytes(3), kHeaderBytes);
  EXPECT_EQ(restart().size(), 1U);
  EXPECT_EQ(found_.faults[Fault::kPlace], 2U);
}

TEST_F(RecoveryTest, HeadersOfAnEarlierCutDoNotCount) {
  for (std::uint32_t i = 0; i < 8; ++i) disk_.store(i, i, kTestSlotBytes);
  const Bytes page(header_bytes(0), header_bytes(0) + kPageBytes);
  disk_.write_page(disk_.metadata().cut(0, 2 * kTestSlotBytes));
  EXPECT_TRUE(restart().empty());
  EXPECT_EQ(disk_.report().stale_headers, 4U);  // the slots that there are now
  // Cut back to the old size: the old headers are still in the file, and still do not count.
  disk_.write_page(disk_.metadata().cut(0, kTestSlotBytes));
  std::memcpy(header_bytes(0), page.data(), kPageBytes);
  EXPECT_TRUE(restart().empty());
  EXPECT_EQ(disk_.report().stale_headers, 8U);
}

TEST_F(RecoveryTest, ACutThatACrashTookAwayIsNotRepeated) {
  disk_.store(1, 3, kTestSlotBytes);
  const Layout layout = disk_.metadata().layout();
  const Bytes head(bytes().begin() + static_cast<std::ptrdiff_t>(layout.meta_begin()),
                   bytes().begin() + static_cast<std::ptrdiff_t>(layout.meta_begin()) + 4096);
  disk_.store(2, 2, 2 * kTestSlotBytes);  // cuts extent 0 anew
  // The head was lost, the header was not.
  std::ranges::copy(head, bytes().begin() + static_cast<std::ptrdiff_t>(layout.meta_begin()));
  EXPECT_TRUE(restart().empty());
  const Bytes lost_header(header_bytes(2), header_bytes(2) + kHeaderBytes);
  disk_.write_page(disk_.metadata().cut(0, 2 * kTestSlotBytes));
  EXPECT_TRUE(restart().empty()) << "a header of the lost cut came back";
}

TEST_F(RecoveryTest, UnknownNamespacesAndBootsThatHaveNotBeen) {
  disk_.store(1, 1, kTestSlotBytes, 0);
  disk_.store(2, 2, kTestSlotBytes, 1);
  disk_.store(3, 3, kTestSlotBytes, 0);
  const std::span<std::byte, kHeaderBytes> future(header_bytes(3), kHeaderBytes);
  Header header;
  ASSERT_EQ(decode(std::span<const std::byte, kHeaderBytes>(future), header), Fault::kNone);
  header.generation = 99ULL << kEpochShift;
  encode(header, future);
  const Layout layout = disk_.metadata().layout();
  bytes()[layout.page_offset(layout.namespace_page(2)) + kNamespaceBytes + 9] ^= std::byte{1};
  const auto found = restart();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_TRUE(found.contains(name_of(1)));
  EXPECT_EQ(found_.faults, (std::map<Fault, std::uint64_t>{{Fault::kNamespace, 1}, {Fault::kGeneration, 1}}));
  EXPECT_EQ(disk_.report().unknown_namespace, 1U);
  EXPECT_EQ(disk_.report().corrupt_headers, 1U);
}

TEST_F(RecoveryTest, WhatIsBuriedStaysAway) {
  const DiskBlock gone = disk_.store(1, 1, kTestSlotBytes, 0);
  disk_.store(2, 2, kTestSlotBytes, 1);
  disk_.store(3, 3, kTestSlotBytes, 1);
  const DiskBlock stays = disk_.store(4, 4, kTestSlotBytes, 0);
  bury(tombstone_of(gone));
  bury({.kind = Tombstone::Kind::kNamespace,
        .fingerprint = name_of(1'000'001),
        .generation = disk_.metadata().epoch() << kEpochShift | 3U});
  Tombstone older = tombstone_of(stays);
  --older.generation;
  bury(older);
  Tombstone other_group = tombstone_of(stays);
  other_group.group = static_cast<GroupId>(stays.group + 1);
  bury(other_group);
  auto found = restart();
  EXPECT_EQ(found.size(), 1U);
  EXPECT_TRUE(found.contains(name_of(4)));
  EXPECT_EQ(disk_.report().buried_headers, 3U);
  EXPECT_EQ(disk_.metadata().free_tombstones(), 32U - 4U);
  // Once what was repaired has been written, the log may begin anew.
  write_repaired();
  disk_.update(disk_.metadata().restart_log());
  EXPECT_EQ(disk_.metadata().free_tombstones(), 32U);
  EXPECT_EQ(restart().size(), 1U);
  EXPECT_EQ(disk_.metadata().free_tombstones(), 32U);
}

TEST_F(RecoveryTest, TheLogFillsAndBeginsAnew) {
  const DiskBlock kept = disk_.store(1, 1, kTestSlotBytes);
  for (int lap = 0; lap < 3; ++lap) {
    while (disk_.metadata().free_tombstones() > 0) {
      Tombstone tombstone = tombstone_of(kept);
      tombstone.generation = 0;
      bury(tombstone);
    }
    restart();
    EXPECT_EQ(disk_.metadata().free_tombstones(), 0U);
    disk_.update(disk_.metadata().restart_log());
    const DiskBlock gone = disk_.store(2, 2, kTestSlotBytes);
    bury(tombstone_of(gone));
    EXPECT_EQ(restart().size(), 1U);
    EXPECT_EQ(disk_.metadata().free_tombstones(), 31U) << "records of the lap before count again";
    write_repaired();
  }
}

TEST_F(RecoveryTest, TombstonesGivenMeanwhileCountToo) {
  const DiskBlock gone = disk_.store(1, 1, kTestSlotBytes);
  disk_.close();
  ASSERT_TRUE(disk_.open(test_request(4)));
  Recovery recovery(disk_.opened().metadata, disk_.file(), disk_.clock(), {}, found_);
  while (!recovery.reader().log_taken()) {
    ASSERT_FALSE(recovery.step());
    disk_.file().poll(0);
  }
  recovery.reader().bury(tombstone_of(gone));
  while (!recovery.step()) disk_.file().poll(0);
  EXPECT_TRUE(found_.blocks.empty());
}

TEST_F(RecoveryTest, NamespacesWithoutBlocksBecomeFree) {
  for (std::uint32_t space = 0; space < 8; ++space) disk_.store(space, space, kTestSlotBytes, space);
  EXPECT_EQ(disk_.metadata().add_namespace(name_of(77)).error().code, ErrorCode::kLimit);
  disk_.write_page(disk_.metadata().clear(3));
  restart();
  EXPECT_FALSE(disk_.metadata().namespace_id(name_of(1'000'003)));
  const auto id = disk_.metadata().add_namespace(name_of(77));
  ASSERT_TRUE(id);
  EXPECT_EQ(*id, 4U);
  EXPECT_FALSE(disk_.metadata().add_namespace(name_of(78)));
  EXPECT_EQ(disk_.metadata().namespace_id(name_of(77)), 4U);
}

TEST_F(RecoveryTest, TheCheckpointComesBackAndANewerOneReplacesIt) {
  const auto save = [&](const std::vector<std::uint32_t>& slots) {
    const PageRange range = disk_.metadata().put_checkpoint(slots);
    for (std::uint32_t i = 0; i < range.count; ++i) disk_.write_page(range.first + i);
  };
  restart();
  EXPECT_TRUE(disk_.report().coldest_first.empty());
  save({3, 1, 2});
  restart();
  EXPECT_EQ(disk_.report().coldest_first, (std::vector<std::uint32_t>{3, 1, 2}));
  save({7, 8});
  save({9, 10, 4'000'000});
  restart();
  EXPECT_EQ(disk_.report().coldest_first, (std::vector<std::uint32_t>{9, 10}));
  // The newest one is damaged: the one before it serves.
  const Layout layout = disk_.metadata().layout();
  bytes()[layout.page_offset(layout.checkpoint_begin() + layout.checkpoint_half_pages()) + 24] ^= std::byte{1};
  restart();
  EXPECT_EQ(disk_.report().coldest_first, (std::vector<std::uint32_t>{7, 8}));
}

TEST_F(RecoveryTest, APageThatCannotBeReadLosesItsBlocksAlone) {
  disk_.store(1, 1, kTestSlotBytes);
  disk_.store(2, 9, kTestSlotBytes);
  const std::uint64_t bad = disk_.metadata().layout().page_offset(disk_.metadata().layout().header_page(1));
  files_.world().operation_error = [bad](const IoOperation& operation) {
    std::uint64_t bytes = 0;
    for (const struct iovec& buffer : operation.buffers) bytes += buffer.iov_len;
    const bool hit = operation.kind == IoKind::kRead && operation.offset <= bad && bad < operation.offset + bytes;
    return hit ? EIO : 0;
  };
  const auto found = restart();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_TRUE(found.contains(name_of(2)));
  EXPECT_EQ(disk_.metadata().repaired_pages().size(), 1U);
}

TEST_F(RecoveryTest, AFileThatEndsMeanwhileIsAnError) {
  disk_.store(1, 1, kTestSlotBytes);
  disk_.close();
  ASSERT_TRUE(disk_.open(test_request(4)));
  bytes().resize(kDataBegin);
  const Status status = disk_.recover(found_);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
}

/// Any mix of stores, clears, cuts, deletes and restarts of the log, against a map of what must be there.
RC_GTEST_PROP(RecoveryProperty, FindsTheModel, (std::uint64_t seed)) {
  Random random(seed);
  JournalFileSystem files;
  DiskFile disk(files);
  RC_ASSERT(static_cast<bool>(disk.open(test_request(4))));
  std::map<std::uint32_t, DiskBlock> model;  // by slot
  std::uint64_t number = 1;
  const auto drop_extent = [&](std::uint32_t extent) {
    std::erase_if(model, [&](const auto& entry) { return entry.first / 8 == extent; });
  };
  for (int i = 0; i < 60; ++i) {
    const auto extent = static_cast<std::uint32_t>(random.below(4));
    Metadata& meta = disk.metadata();
    switch (random.below(8)) {
      case 0:
      case 1:
      case 2:
      case 3: {
        std::uint64_t slot_bytes = meta.extent(extent).slot_bytes;
        if (slot_bytes == 0 || random.below(10) == 0) slot_bytes = kTestSlotBytes * (1 + random.below(3));
        if (slot_bytes != meta.extent(extent).slot_bytes) drop_extent(extent);
        const auto slot = static_cast<std::uint32_t>(extent * 8 + random.below(kTestExtentBytes / slot_bytes));
        model[slot] = disk.store(number++, slot, slot_bytes, random.below(6));
        break;
      }
      case 4:
        if (!model.empty()) {
          disk.write_page(meta.clear(model.begin()->first));
          model.erase(model.begin());
        }
        break;
      case 5:
        if (!model.empty() && meta.free_tombstones() > 0) {  // the header stays in the file: the log alone buries it
          const auto victim = std::next(model.begin(), static_cast<std::ptrdiff_t>(random.below(model.size())));
          const DiskBlock& block = victim->second;
          disk.write_page(meta.append({.fingerprint = block.fingerprint,
                                       .hash = block.hash,
                                       .group = block.group,
                                       .generation = block.generation}));
          model.erase(victim);
        }
        break;
      case 6:
        disk.close();
        break;
      default: {  // the log begins anew after all that it buries has been cleared
        disk.close();
        RC_ASSERT(static_cast<bool>(disk.open(test_request(4))));
        Found found;
        RC_ASSERT(static_cast<bool>(disk.recover(found)));
        for (const std::uint32_t page : disk.metadata().repaired_pages()) disk.write_page(page);
        disk.update(disk.metadata().restart_log());
        break;
      }
    }
    if (!disk.opened().file) {
      RC_ASSERT(static_cast<bool>(disk.open(test_request(4))));
      Found found;
      RC_ASSERT(static_cast<bool>(disk.recover(found)));
      std::map<std::uint32_t, DiskBlock> by_slot;
      for (const DiskBlock& block : found.blocks) by_slot[block.slot] = block;
      RC_ASSERT(by_slot == model);
    }
  }
}

}  // namespace
}  // namespace tiercel::disk
