// Goal: what a disk tier acknowledges is found after a restart, what it answers is what was asked for, and it says so
// when it cannot.
#include "tier/disk/testing/disk_rig.h"

namespace tiercel::disk::testing {
namespace {

TEST(DiskTier, OpensACreatedFileAndSaysHowLargeItIs) {
  DiskRig rig;
  rig.start();
  EXPECT_EQ(rig.opens, 1);
  EXPECT_EQ(rig.extents, 4U);
  EXPECT_EQ(rig.epoch, 1U);
  ASSERT_TRUE(rig.recovery.has_value());
  EXPECT_EQ(rig.recovery->headers, 0U);
}

TEST(DiskTier, AnAcknowledgedBlockIsReadBackAndFoundAfterACrash) {
  DiskRig rig;
  rig.start();
  std::vector<DiskBlock> blocks;
  std::vector<Answer> answers;
  for (std::uint32_t i = 0; i < 20; ++i) {  // over an extent's end
    blocks.push_back(rig.block(100 + i, i));
    answers.push_back(rig.write(blocks.back()));
  }
  rig.run();
  for (const Answer& answer : answers) EXPECT_TRUE(ok(answer));
  for (const DiskBlock& block : blocks) EXPECT_TRUE(rig.reads_back(block));
  const DiskCounters counters = rig.tier->counters();
  EXPECT_EQ(counters.written_blocks, 20U);
  EXPECT_LT(counters.write_operations, 20U) << "neighbours go as one";
  EXPECT_EQ(counters.read_blocks, 20U);
  EXPECT_TRUE(rig.tier->idle());
  rig.crash();

  rig.start();
  EXPECT_EQ(rig.epoch, 2U);
  EXPECT_EQ(rig.found.size(), 20U);
  for (const DiskBlock& block : blocks) {
    EXPECT_TRUE(rig.has_found(block));
    EXPECT_TRUE(rig.reads_back(block));
  }
}

TEST(DiskTier, AWriteIsAcknowledgedOnlyWhenItsHeaderIsInTheFile) {
  DiskRig rig;
  rig.start();
  ASSERT_TRUE(ok([&] {
    const Answer first = rig.write(rig.block(1, 0));
    rig.run();
    return first;
  }()));
  rig.gate->hold(IoKind::kWrite);
  const DiskBlock block = rig.block(2, 1);
  const Answer answer = rig.write(block);
  rig.run();
  EXPECT_EQ(rig.gate->held(), 1U) << "the data";
  rig.gate->release(1);
  rig.run();
  EXPECT_EQ(rig.gate->held(), 1U) << "the header page";
  EXPECT_FALSE(answer->has_value());
  rig.gate->release_all();
  rig.run();
  EXPECT_TRUE(ok(answer));
}

TEST(DiskTier, ManyHeadersOfOnePageShareItsWrites) {
  DiskRig rig;
  rig.start();
  const Answer first = rig.write(rig.block(1, 0));
  rig.run();
  ASSERT_TRUE(ok(first));
  const std::uint64_t before = rig.tier->counters().header_pages;
  std::vector<Answer> answers;
  for (std::uint32_t i = 1; i < kSlotsPerExtent; ++i) answers.push_back(rig.write(rig.block(i, i)));
  rig.run();
  for (const Answer& answer : answers) EXPECT_TRUE(ok(answer));
  EXPECT_LE(rig.tier->counters().header_pages - before, 4U);
}

TEST(DiskTier, AReadOfAnotherGenerationIsRefusedWithoutIo) {
  DiskRig rig;
  rig.start();
  DiskBlock block = rig.block(1, 3);
  (void)rig.write(block);
  rig.run();
  const std::uint64_t operations = rig.tier->counters().read_operations;
  block.generation += 1;
  const DiskRig::Read read = rig.read(block);
  rig.run();
  EXPECT_TRUE(read.failed(ErrorCode::kCorrupt));
  EXPECT_EQ(rig.tier->counters().read_operations, operations);
}

TEST(DiskTier, ASlotThatIsGivenAwayDuringTheReadIsNotServed) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 3);
  (void)rig.write(block);
  rig.run();
  rig.gate->hold(IoKind::kRead);
  const DiskRig::Read read = rig.read(block);
  rig.run();
  rig.tier->clear(block.slot);
  rig.run();
  rig.gate->release_all();
  rig.run();
  EXPECT_TRUE(read.failed(ErrorCode::kCorrupt));
}

TEST(DiskTier, ASlotThatIsClearedDuringItsWriteNeverGetsTheHeader) {
  DiskRig rig;
  rig.start();
  rig.gate->hold(IoKind::kWrite);
  const DiskBlock block = rig.block(1, 3);
  const Answer answer = rig.write(block);
  rig.run();
  rig.tier->clear(block.slot);
  rig.run();
  rig.gate->release_all();
  rig.run();
  EXPECT_TRUE(failed(answer, ErrorCode::kDropped));
  EXPECT_FALSE(rig.reads_back(block));
  rig.crash();
  rig.start();
  EXPECT_TRUE(rig.found.empty());
}

TEST(DiskTier, ASlotIsWrittenAgainAndAgain) {
  DiskRig rig;
  rig.start();
  std::vector<DiskBlock> blocks;
  std::vector<Answer> answers;
  for (std::uint64_t i = 0; i < 5; ++i) {
    blocks.push_back(rig.block(10 + i, 2));
    answers.push_back(rig.write(blocks.back()));
  }
  rig.run();
  for (const Answer& answer : answers) EXPECT_TRUE(ok(answer));
  EXPECT_TRUE(rig.reads_back(blocks.back()));
  EXPECT_FALSE(rig.reads_back(blocks.front()));
  rig.crash();
  rig.start();
  ASSERT_EQ(rig.found.size(), 1U);
  EXPECT_EQ(rig.found[0], blocks.back());
}

TEST(DiskTier, AnExtentIsCutAnewWhenItIsEmpty) {
  DiskRig rig;
  rig.start();
  const DiskBlock small = rig.block(1, 3);
  (void)rig.write(small);
  rig.run();
  rig.tier->clear(small.slot);
  const DiskBlock large = rig.block(2, 0, 4 * kSlotBytes);
  const Answer answer = rig.write(large);
  rig.run();
  EXPECT_TRUE(ok(answer));
  EXPECT_TRUE(rig.reads_back(large));
  rig.crash();
  rig.start();
  ASSERT_EQ(rig.found.size(), 1U);
  EXPECT_EQ(rig.found[0], large);
  EXPECT_TRUE(rig.reads_back(large));
}

TEST(DiskTier, ABuriedBlockIsNotFoundAgainAndItsBytesAreGone) {
  DiskRig rig;
  rig.start();
  const std::uint64_t secret = 0x5EC2E7'5EC2E7'01U;
  const DiskBlock block = rig.block(secret, 3);
  const DiskBlock other = rig.block(77, 4);
  (void)rig.write(block);
  (void)rig.write(other);
  rig.run();
  EXPECT_TRUE(rig.file_contains(block.checksum));
  const Answer answer = rig.bury({block});
  rig.run();
  EXPECT_TRUE(ok(answer));
  EXPECT_FALSE(rig.reads_back(block));
  EXPECT_FALSE(rig.file_contains(block.checksum));
  EXPECT_EQ(rig.tier->counters().tombstones, 1U);
  rig.crash();
  rig.start();
  EXPECT_FALSE(rig.has_found(block));
  EXPECT_TRUE(rig.has_found(other));
}

TEST(DiskTier, ABurialAndAWriteOnOneSlotKeepTheirOrder) {
  DiskRig rig;
  rig.start();
  const DiskBlock first = rig.block(1, 3);
  const DiskBlock second = rig.block(2, 3);
  const Answer wrote_first = rig.write(first);
  const Answer buried = rig.bury({first});
  const Answer wrote_second = rig.write(second);
  rig.run();
  EXPECT_TRUE(failed(wrote_first, ErrorCode::kDropped));
  EXPECT_TRUE(ok(buried));
  EXPECT_TRUE(ok(wrote_second));
  EXPECT_TRUE(rig.reads_back(second));
  rig.crash();
  rig.start();
  ASSERT_EQ(rig.found.size(), 1U);
  EXPECT_EQ(rig.found[0], second);
}

TEST(DiskTier, TheTombstoneLogBeginsAnewAndNothingComesBack) {
  DiskRig rig;
  rig.start();
  const DiskBlock evicted = rig.block(1, 3);
  (void)rig.write(evicted);
  rig.run();
  rig.tier->clear(evicted.slot);  // its header is still in the file
  DiskBlock name_only = evicted;
  for (int round = 0; round < 5; ++round) {
    std::vector<Tombstone> tombstones(
        3000,
        Tombstone{.fingerprint = name_only.fingerprint, .hash = name_only.hash, .generation = name_only.generation});
    const Answer answer = std::make_shared<std::optional<Status>>();
    ASSERT_EQ(rig.tier->bury(tombstones, {}, [answer](const Status& status) { *answer = status; }), DiskSubmit::kTaken);
    rig.run();
    EXPECT_TRUE(ok(answer));
  }
  const DiskBlock kept = rig.block(9, 5);
  (void)rig.write(kept);
  rig.run();
  rig.crash();
  rig.start();
  ASSERT_EQ(rig.found.size(), 1U);
  EXPECT_EQ(rig.found[0], kept);
}

TEST(DiskTier, ABurialOfTheWholeTableLeavesNoClearedHeaderInTheFile) {
  DiskRig rig;
  rig.start();
  const DiskBlock cleared = rig.block(1, 3);
  (void)rig.write(cleared);
  rig.run();
  rig.tier->clear(cleared.slot);  // its header is still in the file
  const Tombstone other{.fingerprint = name_of(1'000'000), .hash = name_of(2), .generation = 1};
  const Answer answer = std::make_shared<std::optional<Status>>();
  rig.gate->hold(IoKind::kWrite);
  ASSERT_EQ(rig.tier->bury(
                std::span(&other, 1), {}, [answer](const Status& status) { *answer = status; }, BuryScope::kTable),
            DiskSubmit::kTaken);
  rig.run();
  EXPECT_FALSE(answer->has_value());
  rig.gate->release_all();
  rig.run();
  EXPECT_TRUE(ok(answer));
  rig.crash();
  rig.start();
  EXPECT_TRUE(rig.found.empty());
}

TEST(DiskTier, WhatAnEarlierBootsTombstoneCoversIsPublishedWhenTheLogHasBegunAnew) {
  DiskRig rig;
  rig.start();
  const DiskBlock deleted = rig.block(1, 3);
  (void)rig.write(deleted);
  (void)rig.write(rig.block(9, 9));  // its namespace stays
  rig.run();
  (void)rig.bury({deleted});
  rig.run();
  rig.crash();
  rig.start();
  DiskBlock again = rig.block(1, 4);
  again.generation = 7;  // stored before this boot's generations were known
  const DiskBlock other = rig.block(2, 5);
  rig.gate->hold(IoKind::kSync);  // the log cannot begin anew
  const Answer wrote_again = rig.write(again);
  const Answer wrote_other = rig.write(other);
  rig.run();
  EXPECT_FALSE(wrote_again->has_value());
  EXPECT_TRUE(ok(wrote_other));
  rig.gate->release_all();
  rig.run();
  EXPECT_TRUE(ok(wrote_again));
  EXPECT_TRUE(rig.reads_back(again));
  rig.crash();
  rig.start();
  EXPECT_TRUE(rig.has_found(again));
  EXPECT_TRUE(rig.has_found(other));
  EXPECT_FALSE(rig.has_found(deleted));
}

TEST(DiskTier, TheCheckpointComesBack) {
  DiskRig rig;
  rig.start();
  for (std::uint32_t i = 0; i < 4; ++i) (void)rig.write(rig.block(i, i));
  rig.run();
  ASSERT_EQ(rig.tier->checkpoint({2, 0, 3, 1}), DiskSubmit::kTaken);
  EXPECT_EQ(rig.tier->checkpoint({1}), DiskSubmit::kBusy);
  rig.run();
  EXPECT_EQ(rig.tier->checkpoint({2, 0, 1, 3}), DiskSubmit::kTaken);
  rig.run();
  rig.crash();
  rig.start();
  EXPECT_EQ(rig.recovery->coldest_first, (std::vector<std::uint32_t>{2, 0, 1, 3}));
}

TEST(DiskTier, ClosedInOrderItFindsAllAndRefusesNewJobs) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  const Answer answer = rig.write(block);
  rig.tier->close();
  (void)rig.write(rig.block(2, 1));
  EXPECT_EQ(rig.submitted, DiskSubmit::kOff);
  rig.run();
  EXPECT_TRUE(ok(answer)) << "what was taken goes on";
  EXPECT_EQ(rig.tier->state(), DiskState::kClosed);
  EXPECT_TRUE(rig.tier->idle());
  EXPECT_FALSE(rig.tier->step(0));
  rig.crash();
  rig.start();
  EXPECT_TRUE(rig.has_found(block));
}

TEST(DiskTier, TheMailboxIsBounded) {
  DiskOptions options = small_options();
  options.queued_jobs = 3;
  DiskRig rig(options);
  rig.start();
  rig.gate->hold(IoKind::kWrite);
  for (std::uint32_t i = 0; i < 3; ++i) {
    (void)rig.write(rig.block(i, i));
    EXPECT_EQ(rig.submitted, DiskSubmit::kTaken);
    rig.run();
  }
  (void)rig.write(rig.block(3, 3));
  EXPECT_EQ(rig.submitted, DiskSubmit::kBusy) << "what is not answered counts";
  rig.gate->release_all();
  rig.run();
  (void)rig.write(rig.block(3, 3));
  EXPECT_EQ(rig.submitted, DiskSubmit::kTaken);
  rig.run();
}

TEST(DiskTier, AMalformedWriteIsAnswered) {
  DiskRig rig;
  rig.start();
  const Answer beyond = rig.write(rig.block(1, 4 * kSlotsPerExtent));
  DiskBlock odd = rig.block(2, 0);
  odd.slot_bytes = kSlotBytes + 1;
  const Answer wrong_size = rig.write(odd);
  const Answer no_place = rig.write(rig.block(3, kSlotsPerExtent - 1, 2 * kSlotBytes));
  DiskBlock early = rig.block(4, 1);
  early.generation += kEpochsAhead << kEpochShift;
  const Answer of_a_later_boot = rig.write(early);
  rig.run();
  EXPECT_TRUE(failed(of_a_later_boot, ErrorCode::kInvalidArgument));
  EXPECT_TRUE(failed(beyond, ErrorCode::kInvalidArgument));
  EXPECT_TRUE(failed(wrong_size, ErrorCode::kInvalidArgument));
  EXPECT_TRUE(failed(no_place, ErrorCode::kInvalidArgument));
}

}  // namespace
}  // namespace tiercel::disk::testing
