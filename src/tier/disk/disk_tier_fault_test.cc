// Goal: a device that stalls, fails, fills up or is cut off costs answers, never hangs, and comes back by itself.
#include "tier/disk/testing/disk_rig.h"

#include <cerrno>

namespace tiercel::disk::testing {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

TEST(DiskTierFaults, AStalledReadIsAnsweredAtItsDeadlineAndItsMemoryKept) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  (void)rig.write(block);
  rig.run();
  rig.gate->hold(IoKind::kRead);
  DiskRig::Read read = rig.read(block, rig.clock.now_ns() + 10 * kMs);
  const std::weak_ptr<std::byte> memory = read.memory;
  rig.run();
  EXPECT_FALSE(read.answer->has_value());
  rig.clock.advance(10 * kMs);
  rig.run();
  EXPECT_TRUE(read.failed(ErrorCode::kTimeout));
  EXPECT_EQ(rig.tier->counters().deadlines, 1U);
  EXPECT_EQ(rig.tier->counters().quarantined_bytes, kSlotBytes);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn) << "one short deadline says nothing about the device";
  read.memory.reset();
  EXPECT_FALSE(memory.expired()) << "the device may still write into it";
  rig.gate->release_all();
  rig.run();
  EXPECT_TRUE(memory.expired());
  EXPECT_EQ(rig.tier->counters().quarantined_bytes, 0U);
}

TEST(DiskTierFaults, AReadThatWaitsBehindAStallIsAnsweredAtItsDeadlineToo) {
  DiskOptions options = small_options();
  options.depth = 1;
  DiskRig rig(options);
  rig.start();
  const DiskBlock first = rig.block(1, 0);
  const DiskBlock second = rig.block(2, 5);
  (void)rig.write(first);
  (void)rig.write(second);
  rig.run();
  rig.gate->hold(IoKind::kRead);
  const DiskRig::Read flying = rig.read(first);
  rig.run();
  const DiskRig::Read waiting = rig.read(second, rig.clock.now_ns() + 5 * kMs);
  rig.run();
  rig.clock.advance(5 * kMs);
  rig.run();
  EXPECT_TRUE(waiting.failed(ErrorCode::kTimeout));
  EXPECT_FALSE(flying.answer->has_value());
  EXPECT_EQ(rig.tier->counters().quarantined_bytes, 0U) << "what was not started is nobody's";
  rig.gate->release_all();
  rig.run();
  EXPECT_TRUE(flying.ok());
}

TEST(DiskTierFaults, ADeviceThatHangsIsSwitchedOffAndOnAgain) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  const DiskBlock other = rig.block(2, 5);
  (void)rig.write(block);
  (void)rig.write(other);
  rig.run();
  rig.gate->hold_all();
  const DiskRig::Read read = rig.read(block);
  rig.run();
  rig.pass(1100 * kMs);  // the IO deadline
  EXPECT_TRUE(read.failed(ErrorCode::kTimeout));
  EXPECT_EQ(rig.tier->state(), DiskState::kOff);
  EXPECT_EQ(rig.tier->counters().breaker_trips, 1U);
  (void)rig.read(other);
  EXPECT_EQ(rig.submitted, DiskSubmit::kOff);
  (void)rig.write(rig.block(3, 6));
  EXPECT_EQ(rig.submitted, DiskSubmit::kOff);
  rig.pass(500 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOff);
  rig.gate->release_all();
  rig.pass(1500 * kMs);
  EXPECT_GE(rig.tier->counters().probes, 1U);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
  EXPECT_TRUE(rig.reads_back(block));
  EXPECT_TRUE(rig.reads_back(other));
}

TEST(DiskTierFaults, WhatWaitsIsAnsweredWhenTheBreakerOpens) {
  DiskOptions options = small_options();
  options.depth = 1;
  DiskRig rig(options);
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  const DiskBlock other = rig.block(2, 5);
  (void)rig.write(block);
  (void)rig.write(other);
  rig.run();
  rig.gate->hold_all();
  const DiskRig::Read flying = rig.read(block);
  rig.run();
  const DiskRig::Read waiting = rig.read(other);
  const Answer write = rig.write(rig.block(3, 6));
  const Answer burial = rig.bury({other});
  rig.pass(1100 * kMs);
  EXPECT_TRUE(flying.failed(ErrorCode::kTimeout));
  EXPECT_TRUE(waiting.failed(ErrorCode::kClosed));  // nothing is known of its block
  EXPECT_TRUE(failed(write, ErrorCode::kIo));
  EXPECT_TRUE(burial->has_value());
  EXPECT_FALSE(ok(burial));
  rig.gate->release_all();
  rig.pass(1500 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
  EXPECT_TRUE(rig.tier->idle());
}

TEST(DiskTierFaults, BytesInQuarantineOverTheBudgetSwitchTheDeviceOff) {
  DiskOptions options = small_options();
  options.quarantine_bytes = 3 * kSlotBytes;
  DiskRig rig(options);
  rig.start();
  std::vector<DiskBlock> blocks;
  for (std::uint32_t i = 0; i < 4; ++i) {
    blocks.push_back(rig.block(i, 2 * i));  // no neighbours
    (void)rig.write(blocks.back());
  }
  rig.run();
  rig.gate->hold(IoKind::kRead);
  for (const DiskBlock& block : blocks) (void)rig.read(block, rig.clock.now_ns() + kMs);
  rig.run();
  rig.clock.advance(kMs);
  rig.run();
  EXPECT_EQ(rig.tier->state(), DiskState::kOff);
  EXPECT_EQ(rig.tier->counters().quarantined_bytes, 4 * kSlotBytes);
  rig.gate->release_all();
  rig.pass(300 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
}

TEST(DiskTierFaults, ALateWriteNeverLandsOnWhatCameAfterIt) {
  DiskRig rig;
  rig.start();
  rig.gate->hold(IoKind::kWrite);
  const Answer late = rig.write(rig.block(1, 3));
  rig.pass(1100 * kMs);
  EXPECT_TRUE(failed(late, ErrorCode::kTimeout));
  EXPECT_EQ(rig.tier->state(), DiskState::kOff);
  rig.pass(300 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn) << "reads go";
  // The slot is given to another block while the first write is still in the device.
  const DiskBlock block = rig.block(2, 3);
  const Answer answer = rig.write(block);
  rig.run();
  EXPECT_FALSE(answer->has_value());
  rig.gate->release_all();
  rig.run();
  EXPECT_TRUE(ok(answer));
  EXPECT_TRUE(rig.reads_back(block));
}

TEST(DiskTierFaults, ReadErrorsInARowSwitchTheDeviceOff) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  (void)rig.write(block);
  rig.run();
  rig.plan->set_for_all(IoKind::kRead, IoFault{.kind = IoFault::Kind::kFail, .error = EIO});
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(rig.tier->state(), DiskState::kOn);
    const DiskRig::Read read = rig.read(block);
    rig.run();
    EXPECT_TRUE(read.failed(ErrorCode::kIo));
  }
  EXPECT_EQ(rig.tier->state(), DiskState::kOff);
  rig.pass(500 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOff);
  EXPECT_EQ(rig.tier->counters().breaker_trips, 1U);
  rig.plan->set_for_all(IoKind::kRead, std::nullopt);
  rig.pass(200 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
  EXPECT_TRUE(rig.reads_back(block));
  EXPECT_EQ(rig.losses, 0);
}

class WriteErrors : public ::testing::TestWithParam<int> {};

TEST_P(WriteErrors, StopWritesLetReadsGoOnAndEndByThemselves) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  (void)rig.write(block);
  rig.run();
  rig.plan->set_for_all(IoKind::kWrite, IoFault{.kind = IoFault::Kind::kFail, .error = GetParam()});
  const DiskBlock lost = rig.block(2, 1);
  const Answer answer = rig.write(lost);
  rig.run();
  EXPECT_TRUE(failed(answer, ErrorCode::kIo));
  EXPECT_EQ(rig.tier->state(), DiskState::kReadOnly);
  EXPECT_EQ(rig.tier->counters().write_errors, 1U);
  EXPECT_TRUE(rig.reads_back(block));
  EXPECT_FALSE(rig.reads_back(lost));
  (void)rig.write(rig.block(3, 2));
  EXPECT_EQ(rig.submitted, DiskSubmit::kOff);
  rig.pass(500 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kReadOnly);
  rig.plan->set_for_all(IoKind::kWrite, std::nullopt);
  rig.pass(200 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
  const DiskBlock again = rig.block(4, 1);
  const Answer retried = rig.write(again);
  rig.run();
  EXPECT_TRUE(ok(retried));
  EXPECT_TRUE(rig.reads_back(again));
}

INSTANTIATE_TEST_SUITE_P(Errors, WriteErrors, ::testing::Values(ENOSPC, EIO, EROFS, EDQUOT, EACCES));

TEST(DiskTierFaults, AHeaderPageThatFailsIsAnErrorAndItsBlockIsNotThere) {
  DiskRig rig;
  rig.start();
  const DiskBlock first = rig.block(1, 0);
  (void)rig.write(first);
  rig.run();
  rig.plan->add(rig.plan->started() + 1, IoFault{.kind = IoFault::Kind::kFail, .error = EIO});  // data, then the page
  const DiskBlock block = rig.block(2, 1);
  const Answer answer = rig.write(block);
  rig.run();
  EXPECT_TRUE(failed(answer, ErrorCode::kIo));
  rig.pass(300 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
  EXPECT_FALSE(rig.reads_back(block));
  EXPECT_TRUE(rig.reads_back(first));
  const DiskBlock next = rig.block(3, 2);
  EXPECT_TRUE(ok([&] {
    const Answer written = rig.write(next);
    rig.run();
    return written;
  }()));
  rig.crash();
  rig.start();
  EXPECT_EQ(rig.found.size(), 2U);
}

TEST(DiskTierFaults, AFileThatIsCutOffIsLostAndMadeAnew) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  (void)rig.write(block);
  rig.run();
  const std::uint64_t epoch = rig.epoch;
  rig.truncate(0);
  const DiskRig::Read read = rig.read(block);
  rig.run();
  EXPECT_TRUE(read.answer->has_value());
  EXPECT_FALSE(read.ok());
  EXPECT_EQ(rig.losses, 1);
  EXPECT_EQ(rig.opens, 2);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
  EXPECT_GT(rig.epoch, epoch) << "generations are never used twice";
  EXPECT_TRUE(rig.found.empty());
  const DiskBlock next = rig.block(2, 0);
  (void)rig.write(next);
  rig.run();
  EXPECT_TRUE(rig.reads_back(next));
}

TEST(DiskTierFaults, ATruncationIsNoticedWithoutAnyRead) {
  DiskRig rig;
  rig.start();
  rig.truncate(1U << 20U);
  rig.pass(200 * kMs);
  EXPECT_EQ(rig.losses, 1);
}

TEST(DiskTierFaults, JobsOnALostFileAreAnswered) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  (void)rig.write(block);
  rig.run();
  const DiskBlock other = rig.block(2, 1);
  (void)rig.write(other);
  rig.run();
  rig.gate->hold(IoKind::kWrite);
  const Answer write = rig.write(rig.block(3, 2));
  const Answer burial = rig.bury({block});
  rig.run();
  rig.truncate(0);
  const DiskRig::Read read = rig.read(other);  // comes back short
  rig.run();
  EXPECT_EQ(rig.losses, 1);
  EXPECT_TRUE(read.answer->has_value());
  EXPECT_TRUE(failed(write, ErrorCode::kIo));
  EXPECT_TRUE(failed(burial, ErrorCode::kIo));
  EXPECT_EQ(rig.opens, 1) << "what still runs on the old file is waited for";
  rig.gate->release_all();
  rig.run();
  EXPECT_EQ(rig.opens, 2) << "what they left behind the cut is not taken for a foreign file";
}

TEST(DiskTierFaults, TwoTiersOnOneDirectoryTheSecondIsRefusedUntilTheFirstGoes) {
  DiskRig rig;
  rig.start();
  DiskRig second;  // its events and clock; the files are the first one's
  second.tier = std::make_unique<DiskTier>(rig.options, rig.files, second.clock, second);
  second.run();
  EXPECT_EQ(second.tier->state(), DiskState::kRefused);
  EXPECT_EQ(second.opens, 0);
  const DiskBlock block = rig.block(1, 0);
  (void)rig.write(block);
  rig.run();
  EXPECT_TRUE(rig.reads_back(block));
  rig.close();
  second.pass(1000 * kMs);
  EXPECT_EQ(second.tier->state(), DiskState::kOn);
  EXPECT_TRUE(second.has_found(block));
}

TEST(DiskTierFaults, ADirectoryThatIsMissingIsLookedForAgain) {
  DiskOptions options = small_options();
  DiskRig rig(options);
  rig.options.directory = "/later";
  rig.make_tier();
  rig.run();
  EXPECT_EQ(rig.tier->state(), DiskState::kOff);
  EXPECT_NE(rig.causes.back().find("/later"), std::string::npos);
  rig.pass(2000 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOff);
  rig.memory_files.make_directory("/later");
  rig.pass(2000 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
}

TEST(DiskTierFaults, ADiskThatIsFullAtCreationIsTriedAgain) {
  DiskRig rig;
  rig.memory_files.set_capacity(1U << 20U);
  rig.make_tier();
  rig.run();
  EXPECT_EQ(rig.tier->state(), DiskState::kOff);
  rig.memory_files.set_capacity(1U << 30U);
  rig.pass(2000 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
}

TEST(DiskTierFaults, AStallDuringOpeningHangsNobody) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  (void)rig.write(block);
  rig.run();
  rig.crash();
  rig.gate->hold_all();
  rig.make_tier();
  rig.run();
  EXPECT_EQ(rig.tier->state(), DiskState::kStarting);
  rig.pass(1100 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOff);
  rig.pass(1000 * kMs);
  rig.gate->release_all();
  rig.pass(1000 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
  EXPECT_TRUE(rig.has_found(block));
}

TEST(DiskTierFaults, CloseDuringAStallAnswersEverythingWithinTheIoDeadline) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  (void)rig.write(block);
  rig.run();
  rig.gate->hold_all();
  const DiskRig::Read read = rig.read(block);
  const Answer write = rig.write(rig.block(2, 1));
  rig.run();
  rig.tier->close();
  rig.pass(1100 * kMs);
  EXPECT_TRUE(read.answer->has_value());
  EXPECT_TRUE(write->has_value());
  EXPECT_EQ(rig.tier->state(), DiskState::kClosed);
  EXPECT_FALSE(rig.tier->idle()) << "operations still run";
  EXPECT_TRUE(rig.tier->step(0));
  rig.gate->release_all();
  rig.run();
  EXPECT_TRUE(rig.tier->idle());
  EXPECT_FALSE(rig.tier->step(0));
}

TEST(DiskTierFaults, ATierThatIsDestroyedDuringAStallKeepsTheMemoryOfItsIo) {
  std::weak_ptr<std::byte> memory;
  std::shared_ptr<DelayGate> gate;
  {
    DiskRig rig;
    gate = rig.gate;
    rig.start();
    const DiskBlock block = rig.block(1, 0);
    (void)rig.write(block);
    rig.run();
    rig.gate->hold(IoKind::kRead);
    DiskRig::Read read = rig.read(block);
    memory = read.memory;
    rig.run();
    read.memory.reset();
    rig.crash();
    EXPECT_TRUE(read.failed(ErrorCode::kClosed)) << "everything is answered";
    EXPECT_FALSE(memory.expired());
  }
  EXPECT_FALSE(memory.expired());
}

}  // namespace
}  // namespace tiercel::disk::testing
