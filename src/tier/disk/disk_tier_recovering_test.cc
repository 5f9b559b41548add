// Goal: while the header table is read and its owner takes in what was found, the device is watched, blocks are read,
// and a device that fails then costs the time of another reading.
#include "tier/disk/testing/disk_rig.h"

#include <cerrno>

namespace tiercel::disk::testing {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

/// Reads are held from the moment at which the file is open: one of the table, and a look at the file.
void hold_table_and_look(DiskRig& rig) {
  rig.gate->hold(IoKind::kRead);
  rig.clock.advance(rig.options.probe_interval_ns);
}

TEST(DiskTierRecovering, AnOwnerThatTakesLongIsNotADeviceThatHangs) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  (void)rig.write(block);
  rig.run();
  rig.crash();
  rig.at_opened = [&] { hold_table_and_look(rig); };
  rig.at_found = [&] { rig.clock.advance(3 * rig.options.io_deadline_ns); };
  rig.make_tier();
  rig.run();
  ASSERT_EQ(rig.gate->held(), 2U);
  rig.gate->release(1);
  rig.run();
  ASSERT_TRUE(rig.has_found(block));
  ASSERT_EQ(rig.gate->held(), 1U) << "the look";
  rig.gate->release_all();
  rig.run();
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
  EXPECT_EQ(rig.tier->counters().breaker_trips, 0U);
  EXPECT_TRUE(rig.reads_back(block));
}

TEST(DiskTierRecovering, ADeviceThatHangsWhileTheTableIsReadIsLostAndReadAnew) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  (void)rig.write(block);
  rig.run();
  rig.crash();
  rig.states.clear();
  rig.at_opened = [&] { hold_table_and_look(rig); };
  rig.at_go_on = [&] { return rig.opens == 2 && rig.losses == 0; };  // its owner is still at what was found
  rig.make_tier();
  rig.run();
  rig.pass(1100 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOff);
  EXPECT_EQ(rig.losses, 1);
  EXPECT_FALSE(rig.recovery) << "the table is not read to its end";
  rig.at_opened = nullptr;
  rig.gate->release_all();
  rig.pass(1500 * kMs);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
  EXPECT_EQ(rig.opens, 3) << "read from the beginning";
  EXPECT_TRUE(rig.reads_back(block));
}

TEST(DiskTierRecovering, TheTableWaitsForItsOwnerAndReadsOfBlocksDoNot) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  (void)rig.write(block);
  rig.run();
  rig.crash();
  bool busy = false;
  rig.at_found = [&] { busy = true; };
  rig.at_go_on = [&] { return busy; };
  rig.make_tier();
  rig.run();
  ASSERT_TRUE(rig.has_found(block));
  EXPECT_FALSE(rig.recovery);
  EXPECT_EQ(rig.tier->state(), DiskState::kStarting);
  EXPECT_TRUE(rig.reads_back(block));
  busy = false;
  rig.run();
  EXPECT_TRUE(rig.recovery);
  EXPECT_EQ(rig.tier->state(), DiskState::kOn);
}

TEST(DiskTierRecovering, ABadPlaceThatIsAskedForAgainAndAgainDoesNotKeepTheTableFromBeingRead) {
  DiskRig rig;
  rig.start();
  const DiskBlock block = rig.block(1, 0);
  (void)rig.write(block);
  rig.run();
  rig.crash();
  rig.at_go_on = [&] { return !rig.found.empty() && rig.losses == 0; };  // there is time for reads of blocks
  rig.make_tier();
  rig.run();
  ASSERT_TRUE(rig.has_found(block));
  ASSERT_EQ(rig.tier->state(), DiskState::kStarting);
  rig.plan->set_for_all(IoKind::kRead, IoFault{.kind = IoFault::Kind::kFail, .error = EIO});
  for (int reads = 0; reads < 20 && rig.losses == 0; ++reads) {
    (void)rig.read(block);
    rig.run(5);
  }
  EXPECT_EQ(rig.losses, 1);
  EXPECT_EQ(rig.tier->state(), DiskState::kOff);
  rig.plan->set_for_all(IoKind::kRead, std::nullopt);
  rig.at_go_on = nullptr;
  rig.recovery.reset();
  std::size_t while_starting = 0;
  for (int turn = 0; turn < 2'000 && !rig.recovery; ++turn) {
    (void)rig.tier->step(0);
    if (rig.tier->state() != DiskState::kStarting) {
      rig.clock.advance(10 * kMs);
      continue;
    }
    (void)rig.read(block);
    EXPECT_EQ(rig.submitted, DiskSubmit::kOff);
    ++while_starting;
  }
  EXPECT_TRUE(rig.recovery);
  EXPECT_GT(while_starting, 0U);
  EXPECT_TRUE(rig.reads_back(block));
}

}  // namespace
}  // namespace tiercel::disk::testing
