// Goal: what was deleted is never served again: not while the delete is pending, not after a restart, not where an old
// header survives a crash; and what was stored after the delete is. Method: a small cache turned by hand; directories
// that stall, are missing, or are still being indexed when the delete comes.
#include "cache/testing/raw_file.h"
#include "cache/testing/troubled_disk.h"

#include <gtest/gtest.h>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using testing::RawFile;

class DiskDelete : public testing::TroubledDisk {};

TEST_F(DiskDelete, while_the_directory_is_off_is_pending_and_done_when_it_comes_back) {
  put_faults();
  (void)world_.store(world_.chain(8, 1), 1);
  world_.settle();
  world_.restart();
  gate_->hold_all();
  Load load = world_.session().load(world_.chain(1, 1), 1, 10ms);
  pass();
  ASSERT_EQ(directories(kOff), 1U);
  load = {};
  const auto dropped = world_.session().drop(world_.chain(8, 1), 3);
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->blocks, 5U);
  EXPECT_GE(dropped->pending, 1U);
  EXPECT_EQ(world_.stats().disk_late_deletes, 1U);
  gate_->release_all();
  pass();
  ASSERT_EQ(directories(kOn), 1U);
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 3U);
  EXPECT_EQ(world_.stats().disk_tombstones, 1U);
  restart_after_crash();
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 3U);
  EXPECT_EQ(world_.stats().copy_pins, 0U);
}

TEST_F(DiskDelete, before_a_missing_directory_appears_covers_what_is_in_it) {
  world_.settle();
  (void)world_.store(world_.chain(8, 1), 1);
  (void)world_.store(world_.chain(4, 2), 2);
  world_.settle();
  start_before_it_is_mounted();
  ASSERT_EQ(directories(kOff), 1U);
  const auto dropped = world_.session().drop(world_.chain(8, 1), 3);
  ASSERT_TRUE(dropped);
  EXPECT_GE(dropped->pending, 1U);  // there may be more where nobody can look
  mount();
  ASSERT_EQ(directories(kOn), 1U);
  EXPECT_EQ(matched(8, 1), 3U);
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 3U);
  EXPECT_EQ(world_.load(world_.chain(4, 2), 2), 4U);
  restart_after_crash();
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 3U);
  EXPECT_EQ(world_.load(world_.chain(4, 2), 2), 4U);
}

TEST_F(DiskDelete, more_than_wait_for_a_missing_directory_cost_what_is_in_it) {
  world_.settle();
  for (TokenId seed = 1; seed <= 8; ++seed) (void)world_.store(world_.chain(6, seed), seed);
  world_.settle();
  world_.stop();
  world_.configuration().disk.directories = {"/late"};
  world_.most_waiting_deletes = 4;
  world_.start();
  pass(2);
  for (TokenId seed = 1; seed <= 7; ++seed) {
    const auto dropped = world_.session().drop(world_.chain(6, seed), 2);
    ASSERT_TRUE(dropped);
    EXPECT_GE(dropped->pending, 1U) << seed;
  }
  EXPECT_EQ(world_.store(world_.chain(3, 20), 20), 3U);
  world_.memory().make_directory("/late");
  ASSERT_TRUE(world_.memory().rename("/disk/tiercel.kv", "/late/tiercel.kv"));
  pass(40);
  ASSERT_EQ(directories(kOn), 1U);
  for (TokenId seed = 1; seed <= 8; ++seed) EXPECT_EQ(matched(6, seed), 0U) << seed;
  EXPECT_EQ(world_.disk().blocks, 3U);
  restart_after_crash();
  for (TokenId seed = 1; seed <= 8; ++seed) EXPECT_EQ(matched(6, seed), 0U) << seed;
  EXPECT_EQ(world_.load(world_.chain(3, 20), 20), 3U);
  const auto dropped = world_.session().drop(world_.chain(3, 20), 1);
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->pending, 0U);
}

TEST_F(DiskDelete, more_than_wait_for_a_directory_that_cannot_be_written_cost_what_is_in_it) {
  put_faults();
  for (TokenId seed = 1; seed <= 8; ++seed) (void)world_.store(world_.chain(6, seed), seed);
  world_.settle();
  world_.most_waiting_deletes = 4;
  world_.restart();
  faults_->set_for_all(IoKind::kWrite, IoFault{.kind = IoFault::Kind::kFail, .error = EROFS});
  (void)world_.store(world_.chain(2, 30), 30);
  pass(5);
  ASSERT_EQ(report().state, DiskDirectoryState::kReadOnly);
  for (TokenId seed = 1; seed <= 7; ++seed) {
    const auto dropped = world_.session().drop(world_.chain(6, seed), 2);
    ASSERT_TRUE(dropped);
    EXPECT_GE(dropped->pending, 1U) << seed;
  }
  EXPECT_EQ(world_.load(world_.chain(6, 8), 8), 6U);  // what was not deleted is served until it goes
  EXPECT_EQ(matched(6, 3), 2U);
  faults_->set_for_all(IoKind::kWrite, std::nullopt);
  pass(40);
  ASSERT_EQ(directories(kOn), 1U);
  EXPECT_EQ(matched(6, 3), 0U);
  EXPECT_EQ(matched(6, 8), 6U);  // in the arena
  EXPECT_EQ(world_.disk().quarantined_slots, 0U);
  EXPECT_EQ(world_.load(world_.chain(6, 8), 8), 6U);
  world_.settle();
  restart_after_crash();
  for (TokenId seed = 1; seed <= 7; ++seed) EXPECT_EQ(matched(6, seed), 0U) << seed;
  EXPECT_EQ(world_.load(world_.chain(6, 8), 8), 6U);
}

TEST_F(DiskDelete, more_than_wait_while_the_directory_is_indexed_come_back_neither) {
  put_faults();
  for (TokenId seed = 1; seed <= 8; ++seed) (void)world_.store(world_.chain(6, seed), seed);
  world_.settle();
  world_.most_waiting_deletes = 4;
  for (std::size_t let = 0; let < 12; ++let) {  // wherever opening and indexing have come to
    world_.stop();
    gate_->hold_all();
    gate_->release(let);
    world_.start();
    pass(12);  // off, by and by
    for (TokenId seed = 1; seed <= 7; ++seed) ASSERT_TRUE(world_.session().drop(world_.chain(6, seed), 2));
    gate_->release_all();
    pass(40);
    ASSERT_EQ(directories(kOn), 1U) << let;
    for (TokenId seed = 1; seed <= 7; ++seed) EXPECT_LE(matched(6, seed), 2U) << seed;
    restart_after_crash();
    for (TokenId seed = 1; seed <= 7; ++seed) EXPECT_LE(matched(6, seed), 2U) << seed;
    for (TokenId seed = 1; seed <= 8; ++seed) (void)world_.store(world_.chain(6, seed), seed);
    world_.settle();
    for (TokenId seed = 1; seed <= 8; ++seed) EXPECT_EQ(world_.load(world_.chain(6, seed), seed), 6U) << seed;
  }
}

TEST_F(DiskDelete, hundreds_that_wait_for_a_missing_directory_reach_it_over_several_turns) {
  constexpr TokenId kDeletes = 300;
  world_.settle();
  for (TokenId seed = 0; seed < kDeletes; ++seed) {
    if (seed % 10 == 0) (void)world_.store(world_.chain(2, seed), seed);
    if (seed % 50 == 0) world_.settle();
  }
  world_.settle();
  start_before_it_is_mounted();
  for (TokenId seed = 0; seed < kDeletes; ++seed) {
    const auto dropped = world_.session().drop(world_.chain(2, seed), 0);
    ASSERT_TRUE(dropped);
    EXPECT_EQ(dropped->pending, 1U);  // of what it holds nothing is known
  }
  mount();
  EXPECT_EQ(world_.core().disk_reports().at(0).state, DiskDirectoryState::kOn);
  restart_after_crash();
  for (TokenId seed = 0; seed < kDeletes; ++seed) EXPECT_EQ(matched(2, seed), 0U) << seed;
}

TEST_F(DiskDelete, of_a_namespace_before_a_missing_directory_appears) {
  world_.settle();
  (void)world_.store(world_.chain(8, 1), 1);
  world_.settle();
  start_before_it_is_mounted();
  ASSERT_TRUE(world_.session().drop(world_.session().space()));
  EXPECT_EQ(world_.store(world_.chain(2, 3), 3), 2U);  // after the delete
  mount();
  EXPECT_EQ(matched(8, 1), 0U);
  EXPECT_EQ(world_.load(world_.chain(2, 3), 3), 2U);
  restart_after_crash();
  EXPECT_EQ(matched(8, 1), 0U);
}

TEST_F(DiskDelete, outlives_an_old_header_that_a_crash_brings_back) {
  world_.settle();
  (void)world_.store(world_.chain(8, 1), 1);
  world_.settle();
  const auto before = RawFile(world_.memory()).header_pages();
  ASSERT_FALSE(before.empty());
  ASSERT_TRUE(world_.session().drop(world_.chain(8, 1), 3));
  (void)world_.store(world_.chain(8, 2), 2);
  world_.settle();
  world_.crash();
  for (const auto& [offset, page] : before) RawFile(world_.memory()).write(offset, page);
  world_.start();
  world_.settle();
  EXPECT_EQ(matched(8, 1), 3U);
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 3U);
  EXPECT_GE(world_.stats().disk_stale_headers, 1U);
}

TEST_F(DiskDelete, of_what_was_evicted_outlives_its_old_header_too) {
  world_.settle();
  (void)world_.store(world_.chain(8, 1), 1);
  world_.settle();
  const auto before = RawFile(world_.memory()).header_pages();
  for (TokenId seed = 10; matched(1, 1) > 0; ++seed) {  // gone from both tiers
    ASSERT_LT(seed, 40);
    world_.advance(1s);
    (void)world_.store(world_.chain(32, seed), seed);
    world_.settle();
  }
  const auto dropped = world_.session().drop(world_.chain(8, 1), 0);
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->blocks, 0U);
  world_.crash();
  for (const auto& [offset, page] : before) RawFile(world_.memory()).write(offset, page);
  world_.start();
  world_.settle();
  EXPECT_EQ(matched(8, 1), 0U);
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 0U);
}

TEST_F(DiskDelete, while_the_directory_is_being_indexed) {
  put_faults();
  (void)world_.store(world_.chain(8, 1), 1);
  (void)world_.store(world_.chain(8, 2), 2);
  world_.settle();
  for (std::size_t let = 0; let < 12; ++let) {  // wherever opening and indexing have come to
    world_.stop();
    gate_->hold_all();
    gate_->release(let);
    world_.start();
    world_.settle(20);
    const std::size_t kept = let % 4;
    Result<Dropped> dropped = world_.session().drop(world_.chain(8, 1), kept);
    ASSERT_TRUE(dropped);
    gate_->release_all();
    pass(30);
    ASSERT_EQ(directories(kOn), 1U) << let;
    EXPECT_LE(matched(8, 1), kept) << let;
    EXPECT_EQ(world_.load(world_.chain(8, 1), 1), matched(8, 1)) << let;
    EXPECT_EQ(world_.load(world_.chain(8, 2), 2), 8U) << let;
    restart_after_crash();
    EXPECT_LE(world_.load(world_.chain(8, 1), 1), kept) << let;
    EXPECT_EQ(world_.load(world_.chain(8, 2), 2), 8U) << let;
    (void)world_.store(world_.chain(8, 1), 1);
    world_.settle();
    EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 8U) << let;
  }
}

TEST_F(DiskDelete, while_its_write_is_in_flight) {
  put_faults();
  for (std::size_t let = 0; let < 10; ++let) {
    const auto seed = static_cast<TokenId>(100 + let);
    gate_->hold(IoKind::kWrite);
    (void)world_.store(world_.chain(4, seed), seed);
    world_.settle(20);
    gate_->release(let);
    world_.settle(20);
    const auto dropped = world_.session().drop(world_.chain(4, seed), 1);
    ASSERT_TRUE(dropped);
    EXPECT_EQ(dropped->blocks, 3U);
    gate_->release_all();
    pass(20);
    EXPECT_EQ(world_.load(world_.chain(4, seed), seed), 1U) << let;
    restart_after_crash();
    EXPECT_EQ(world_.load(world_.chain(4, seed), seed), 1U) << let;
  }
  EXPECT_EQ(world_.stats().copy_pins, 0U);
}

TEST_F(DiskDelete, while_it_is_being_read) {
  put_faults();
  (void)world_.store(world_.chain(4, 1), 1);
  world_.settle();
  world_.restart();
  gate_->hold(IoKind::kRead);
  Load load = world_.session().load(world_.chain(4, 1), 4, 10s);
  world_.settle(20);
  const auto dropped = world_.session().drop(world_.chain(4, 1), 0);
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->blocks, 4U);
  gate_->release_all();
  pass();
  EXPECT_TRUE(load.done());
  EXPECT_EQ(load.wait().size(), 0U);
  load = {};
  EXPECT_EQ(matched(4, 1), 0U);
  EXPECT_EQ(world_.stats().copy_pins, 0U);
  EXPECT_EQ(world_.disk().quarantined_slots, 0U);
  restart_after_crash();
  EXPECT_EQ(matched(4, 1), 0U);
}

TEST_F(DiskDelete, what_is_stored_after_it_stays) {
  world_.settle();
  for (int round = 0; round < 3; ++round) {
    (void)world_.store(world_.chain(6, 1), 1);
    world_.settle();
    ASSERT_TRUE(world_.session().drop(world_.chain(6, 1), 2));
    EXPECT_EQ(world_.store(world_.chain(6, 1), 1), 4U);
    world_.settle();
    restart_after_crash();
    EXPECT_EQ(world_.load(world_.chain(6, 1), 1), 6U);
  }
}

TEST_F(DiskDelete, of_an_earlier_run_does_not_cover_what_is_stored_before_the_disk_is_up) {
  world_.settle();
  (void)world_.store(world_.chain(6, 1), 1);
  world_.settle();
  ASSERT_TRUE(world_.session().drop(world_.chain(6, 1), 0));
  world_.stop();
  world_.start();
  EXPECT_EQ(world_.store(world_.chain(6, 1), 1), 6U);  // nothing was opened yet
  world_.settle();
  EXPECT_EQ(world_.disk().blocks, 6U);
  restart_after_crash();
  EXPECT_EQ(world_.load(world_.chain(6, 1), 1), 6U);
}

TEST_F(DiskDelete, before_the_disk_is_up_does_not_cover_what_is_stored_after_it) {
  world_.settle();
  (void)world_.store(world_.chain(6, 1), 1);
  world_.settle();
  start_before_it_is_mounted();
  ASSERT_TRUE(world_.session().drop(world_.chain(6, 1), 2));
  ASSERT_TRUE(world_.session().drop(world_.chain(4, 2), 0));
  EXPECT_EQ(world_.store(world_.chain(6, 1), 3), 6U);  // the directory's generations are not known yet
  EXPECT_EQ(world_.store(world_.chain(4, 2), 2), 4U);
  mount();
  ASSERT_EQ(world_.stats().disk_directories[kOn], 1U);
  ASSERT_EQ(world_.disk().blocks, 10U);
  restart_after_crash();
  EXPECT_EQ(world_.load(world_.chain(6, 1), 3), 6U);
  EXPECT_EQ(world_.load(world_.chain(4, 2), 2), 4U);
}

TEST_F(DiskDelete, before_the_disk_is_up_leaves_no_header_to_a_crash) {
  world_.settle();
  (void)world_.store(world_.chain(8, 1), 1);
  world_.settle();
  start_before_it_is_mounted();
  ASSERT_TRUE(world_.session().drop(world_.chain(8, 1), 3));
  mount();
  ASSERT_EQ(world_.stats().disk_directories[kOn], 1U);
  ASSERT_EQ(world_.stats().disk_tombstones, 1U);  // the delete is done
  restart_after_crash();
  EXPECT_EQ(matched(8, 1), 3U);
}

TEST_F(DiskDelete, that_waits_for_a_file_that_is_lost_leaves_the_next_file_alone) {
  put_faults();
  (void)world_.store(world_.chain(8, 1), 1);
  world_.settle();
  gate_->hold_all();
  pass();  // the look at the file stalls
  ASSERT_EQ(directories(kOff), 1U);
  const auto dropped = world_.session().drop(world_.chain(8, 1), 0);
  ASSERT_TRUE(dropped);
  EXPECT_GE(dropped->pending, 8U);
  EXPECT_EQ(world_.store(world_.chain(8, 2), 2), 8U);
  RawFile(world_.memory()).truncate(0);
  world_.advance(100ms);
  world_.settle();  // the delete was just refused: it is not tried again for a while
  gate_->release_all();
  world_.settle();  // the file is made anew, and what waited goes into the same slots
  pass();
  ASSERT_EQ(directories(kOn), 1U);
  ASSERT_EQ(world_.disk().blocks, 8U);
  restart_after_crash();
  EXPECT_EQ(world_.load(world_.chain(8, 2), 2), 8U);
  EXPECT_EQ(matched(8, 1), 0U);
  EXPECT_EQ(world_.disk().quarantined_slots, 0U);
}

}  // namespace
}  // namespace tiercel
