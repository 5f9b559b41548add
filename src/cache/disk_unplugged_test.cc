// Goal: a disk that was unplugged is used again when it is back; what it leaves in the arena alone goes down again;
// what continues on disk is written whatever admission says; a close keeps its deadline with much to note. Method: a
// small cache turned by hand over files in memory.
#include "base/log.h"
#include "cache/testing/raw_file.h"
#include "cache/testing/troubled_disk.h"
#include "io/file.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using testing::DiskWorld;
using testing::RawFile;

class DiskUnplugged : public testing::TroubledDisk {
 protected:
  DiskUnplugged() : TroubledDisk(config()) {}
  static Config config() {
    Config config = testing::impatient();
    config.disk.directories = {"/a", "/b", "/c"};
    config.disk.capacity = 24_MiB;
    return config;
  }
  /// From here on what /b has opened can be made to fail, without what it opens later.
  void watch_b() {
    world_.stop();
    world_.wrap([this](const std::string& path, std::unique_ptr<IoBackend> file) -> std::unique_ptr<IoBackend> {
      if (!path.starts_with("/b/")) return file;
      opened_ = std::make_shared<FaultPlan>();
      return std::make_unique<FaultyBackend>(std::move(file), opened_);
    });
    world_.start();
    world_.settle();
  }
  void unplug_b() {
    for (const IoKind kind : {IoKind::kRead, IoKind::kWrite, IoKind::kSync})
      opened_->set_for_all(kind, IoFault{.kind = IoFault::Kind::kFail, .error = EIO});
    ASSERT_TRUE(world_.memory().rename("/b/tiercel.kv", "/b/away"));
  }
  void plug_b_in() { ASSERT_TRUE(world_.memory().rename("/b/away", "/b/tiercel.kv")); }

  std::shared_ptr<FaultPlan> opened_;
};

TEST_F(DiskUnplugged, a_disk_whose_open_file_is_dead_is_found_again_by_its_path) {
  watch_b();
  ASSERT_EQ(world_.store(world_.chain(30, 1), 1), 30U);
  world_.settle();
  world_.restart();  // on disk alone
  ASSERT_NO_FATAL_FAILURE(unplug_b());
  pass(30);
  EXPECT_EQ(report(1).state, DiskDirectoryState::kOff);
  EXPECT_LT(world_.load(world_.chain(30, 1), 1), 30U);
  EXPECT_EQ(world_.store(world_.chain(8, 2), 2), 8U);  // the others take it
  ASSERT_NO_FATAL_FAILURE(plug_b_in());
  pass(60);
  ASSERT_EQ(directories(kOn), 3U) << report(1).cause;
  EXPECT_EQ(world_.load(world_.chain(30, 1), 1), 30U);
  EXPECT_EQ(world_.load(world_.chain(8, 2), 2), 8U);
  EXPECT_EQ(world_.stats().disk_orphaned_blocks, 0U);
}

TEST_F(DiskUnplugged, a_few_errors_do_not_cost_the_copies) {
  watch_b();
  ASSERT_EQ(world_.store(world_.chain(30, 1), 1), 30U);
  world_.settle();
  world_.restart();
  opened_->set_for_all(IoKind::kRead, IoFault{.kind = IoFault::Kind::kFail, .error = EIO});
  pass(5);
  opened_->set_for_all(IoKind::kRead, std::nullopt);
  pass(10);
  ASSERT_EQ(directories(kOn), 3U);
  EXPECT_EQ(world_.stats().disk_lost_blocks, 0U);
  EXPECT_EQ(world_.load(world_.chain(30, 1), 1), 30U);
}

TEST_F(DiskUnplugged, what_a_lost_directory_leaves_to_the_arena_alone_goes_down_again) {
  world_.settle();
  ASSERT_EQ(world_.store(world_.chain(31, 1), 1), 31U);
  world_.settle();
  RawFile(world_.memory(), "/b/tiercel.kv").truncate(0);
  pass(40);
  ASSERT_EQ(directories(kOn), 3U);
  ASSERT_GT(world_.stats().disk_lost_blocks, 8U);
  world_.restart();
  EXPECT_GE(world_.load(world_.chain(31, 1), 1), 30U);  // the last one has nothing behind it that needs it
}

class DiskOutage : public testing::TroubledDisk {
 protected:
  static constexpr std::size_t kBlocks = 200;
  static constexpr std::size_t kOperations = 5;  // that fail: four open the breaker, and one more is in flight
  DiskOutage() : TroubledDisk(config()) { put_faults(); }
  static Config config() {
    Config config = testing::impatient(DiskWorld::config(16_MiB, 32_MiB));
    config.disk.depth = 1;
    return config;
  }
};

TEST_F(DiskOutage, what_was_not_asked_of_the_device_yet_is_not_lost_with_what_was) {
  ASSERT_EQ(world_.store(world_.chain(kBlocks, 1), 1), kBlocks);
  world_.settle();
  world_.restart();
  faults_->set_for_all(IoKind::kRead, IoFault{.kind = IoFault::Kind::kFail, .error = EIO});
  EXPECT_EQ(world_.load(world_.chain(kBlocks, 1), 1), 0U);
  pass(3);
  EXPECT_EQ(directories(kOff), 1U);
  faults_->set_for_all(IoKind::kRead, std::nullopt);
  pass();
  ASSERT_EQ(directories(kOn), 1U);
  EXPECT_LE(world_.stats().disk_lost_blocks, kOperations * IoJob::kMaxSegments);
  EXPECT_GE(world_.disk().blocks, kBlocks - kOperations * IoJob::kMaxSegments);
}

class DiskSecondSight : public testing::TroubledDisk {
 protected:
  DiskSecondSight() : TroubledDisk(config()) {
    world_.settle();
    const BlockChain chain = world_.chain(4, 1);
    EXPECT_EQ(world_.store(chain, 1), 4U);
    EXPECT_EQ(world_.load(chain, 1), 4U);
    world_.settle();
    EXPECT_EQ(world_.disk().blocks, 4U);
    world_.stop();
    world_.start();
  }
  static Config config() {
    Config config = testing::impatient();
    config.disk.admission = Admission::kSecondSight;
    return config;
  }
  /// Found on disk: the last two blocks, whose parents were stored before they came.
  void all_go_down() {
    world_.settle();
    EXPECT_EQ(world_.disk().blocks, 4U);
    EXPECT_EQ(world_.load(world_.chain(4, 1), 1), 4U);
    world_.restart();
    EXPECT_EQ(world_.load(world_.chain(4, 1), 1), 4U);
  }
};

TEST_F(DiskSecondSight, a_block_that_continues_on_disk_is_written_although_it_was_seen_once) {
  EXPECT_EQ(world_.store(world_.chain(2, 1), 1), 2U);  // nothing is indexed yet
  all_go_down();
}

TEST_F(DiskSecondSight, also_where_it_is_committed_after_indexing) {
  Reservation room = world_.session().reserve(world_.chain(2, 1), 0);
  world_.settle();
  for (std::size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(room.outcome(i), Reserved::kYes);
    std::ranges::fill(room.writer(i).bytes(), DiskWorld::pattern(i, 1));
    ASSERT_TRUE(room.writer(i).commit());
  }
  room = {};
  all_go_down();
}

class DiskEnd : public ::testing::Test {
 protected:
  DiskEnd() {
    set_log_sink([this](LogLevel, std::string_view line) {
      said_ = said_ || line.find("which blocks were used last") != std::string_view::npos;
    });
    world_.settle();
    EXPECT_EQ(world_.store(world_.chain(8, 1), 1), 8U);
    world_.settle();
  }
  ~DiskEnd() override { set_log_sink({}); }
  static Config config() {
    Config config = DiskWorld::config();
    config.host.min_slot_bytes = 4_KiB;  // thousands of slots to look at
    return config;
  }
  bool said_ = false;
  DiskWorld world_{config()};
};

TEST_F(DiskEnd, the_order_of_use_is_noted_where_there_is_time) {
  world_.let_looks_take(1ms);
  ASSERT_TRUE(world_.cache().close(1s));
  EXPECT_FALSE(said_);
}

TEST_F(DiskEnd, a_close_does_not_note_the_order_of_use_beyond_its_deadline) {
  const std::uint64_t began_ns = world_.clock().now_ns();
  world_.let_looks_take(20ms);
  (void)world_.cache().close(100ms);
  world_.let_looks_take(0ms);
  EXPECT_TRUE(said_);
  EXPECT_LT(world_.clock().now_ns() - began_ns, 400'000'000U);
  world_.restart();
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 8U);
}

TEST_F(DiskEnd, indexing_is_a_sign_of_life) {
  const std::uint64_t before = world_.core().disk_sign_of_life(0);
  world_.core().disk_recovered(0, {.coldest_first = {0}});  // between two operations
  EXPECT_NE(world_.core().disk_sign_of_life(0), before);
}

}  // namespace
}  // namespace tiercel
