// Goal: simulated files keep the contract of IoBackend and FileSystem, and show each fault and crash as planned.
#include "sim/sim_file_system.h"

#include "io/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <set>
#include <vector>

namespace tiercel::sim {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

struct Buffer {
  explicit Buffer(std::size_t pages, int value = 0) : pages_(pages) { fill(value); }
  void fill(int value) {
    for (Aligned& page : pages_) page.bytes.fill(static_cast<std::byte>(value));
  }
  [[nodiscard]] IoSegment segment() { return {.data = pages_[0].bytes.data(), .bytes = pages_.size() * kPageBytes}; }
  [[nodiscard]] bool all(int value) const {
    return std::ranges::all_of(pages_, [value](const Aligned& page) {
      return std::ranges::all_of(page.bytes, [value](std::byte b) { return b == static_cast<std::byte>(value); });
    });
  }

 private:
  struct alignas(kPageBytes) Aligned {
    Page bytes;
  };
  std::vector<Aligned> pages_;
};

class SimFileSystemTest : public testing::Test {
 protected:
  void start(const FaultPlan& faults = {}, std::uint64_t seed = 1, std::uint64_t bytes = UINT64_MAX) {
    file_.reset();
    files_.emplace(std::vector<SimDisk::Options>{{.bytes = bytes, .faults = faults}}, clock_, trace_, seed);
    open({.create = true});
  }
  void open(const OpenOptions& options = {}) {
    auto backend = files_->open("/disk/file", options);
    ASSERT_TRUE(backend) << backend.error().message;
    file_ = std::make_unique<File>(std::move(*backend), clock_);
  }
  void reopen() {
    file_.reset();
    files_->begin_boot();
    open();
  }
  Status run(IoKind kind, std::uint64_t page, Buffer* buffer, std::uint64_t deadline_ns = UINT64_MAX) {
    IoJob job{.kind = kind, .offset = page * kPageBytes, .deadline_ns = deadline_ns};
    if (buffer != nullptr) job.segments[0] = buffer->segment(), job.segment_count = 1;
    return file_->run(std::move(job));
  }
  Status write(std::uint64_t page, Buffer& buffer) { return run(IoKind::kWrite, page, &buffer); }
  Status read(std::uint64_t page, Buffer& buffer) { return run(IoKind::kRead, page, &buffer); }
  Status sync() { return run(IoKind::kSync, 0, nullptr); }
  static FaultPlan always(Fault fault) {
    FaultPlan plan{.per_million = 1'000'000, .budget = 1};
    plan.faults.add(fault);
    return plan;
  }

  ManualClock clock_;
  Trace trace_{clock_};
  std::optional<SimFileSystem> files_;
  std::unique_ptr<File> file_;
  Buffer ones_{2, 1};
  Buffer twos_{2, 2};
  Buffer read_{2};
};

TEST_F(SimFileSystemTest, WritesAreReadAndTakeTime) {
  start();
  const std::uint64_t before = clock_.now_ns();
  ASSERT_TRUE(file_->backend().allocate(16 * kPageBytes));
  ASSERT_TRUE(write(3, ones_));
  ASSERT_TRUE(read(3, read_));
  EXPECT_TRUE(read_.all(1));
  ASSERT_TRUE(read(8, read_));
  EXPECT_TRUE(read_.all(0));
  EXPECT_GT(clock_.now_ns(), before);
  EXPECT_FALSE(read(15, read_)) << "half of it lies behind the end";
}

TEST_F(SimFileSystemTest, OperationsEndInAnotherOrderThanTheyBegan) {
  start();
  std::set<std::vector<int>> orders;
  for (int round = 0; round < 20; ++round) {
    std::vector<int> order;
    for (int i = 0; i < 4; ++i) {
      IoJob job{.kind = IoKind::kWrite, .offset = static_cast<std::uint64_t>(i) * 2 * kPageBytes, .segment_count = 1};
      job.segments[0] = ones_.segment();
      job.done = [&order, i](const Status& status) {
        EXPECT_TRUE(status);
        order.push_back(i);
      };
      ASSERT_TRUE(file_->submit(std::move(job)));
    }
    while (file_->in_flight() > 0) (void)file_->poll(kSecondNs);
    orders.insert(order);
  }
  EXPECT_GT(orders.size(), 5U);
}

TEST_F(SimFileSystemTest, AStallEndsAtTheDeadlineAndKeepsItsBuffer) {
  start(always(Fault::kStall));
  EXPECT_EQ(run(IoKind::kWrite, 0, &ones_, clock_.now_ns() + kSecondNs).error().code, ErrorCode::kTimeout);
  EXPECT_EQ(file_->in_flight(), 1U);
  EXPECT_TRUE(write(4, ones_)) << "others go on";
  files_->end_process();
  (void)file_->poll(0);
  EXPECT_EQ(file_->in_flight(), 0U) << "the end of the process ends it";
}

TEST_F(SimFileSystemTest, FaultsThatAreAdmitted) {
  start(always(Fault::kError));
  EXPECT_EQ(write(0, ones_).error().os_error, EIO);
  start(always(Fault::kTorn));
  EXPECT_EQ(write(0, ones_).error().os_error, EIO);
  start(always(Fault::kFull));
  EXPECT_EQ(write(0, ones_).error().os_error, ENOSPC);
  EXPECT_EQ(file_->backend().allocate(64 * kPageBytes).error().os_error, ENOSPC);
  clock_.advance(60 * kSecondNs);
  EXPECT_TRUE(write(0, ones_)) << "an outage ends";
  start(always(Fault::kReadOnly));
  EXPECT_EQ(write(0, ones_).error().os_error, EROFS);
  start(always(Fault::kDead));
  EXPECT_EQ(write(0, ones_).error().os_error, EIO);
  EXPECT_EQ(files_->open("/disk/file", {}).error().os_error, EIO);
  for (const Fault fault : {Fault::kShort, Fault::kAgain, Fault::kDelay, Fault::kFrozen}) {
    start(always(fault));
    ASSERT_TRUE(write(0, ones_)) << fault_name(fault);
    ASSERT_TRUE(read(0, read_));
    EXPECT_TRUE(read_.all(1));
    EXPECT_EQ(files_->faults_given(), 1U);
  }
}

TEST_F(SimFileSystemTest, FaultsThatAreNot) {
  start(always(Fault::kLostWrite));
  ASSERT_TRUE(file_->backend().allocate(16 * kPageBytes));
  ASSERT_TRUE(write(0, ones_));
  ASSERT_TRUE(read(0, read_));
  EXPECT_TRUE(read_.all(0));
  EXPECT_TRUE(files_->has_lied());
  start(always(Fault::kFlipRest));
  ASSERT_TRUE(write(0, ones_));
  ASSERT_TRUE(read(0, read_));
  EXPECT_FALSE(read_.all(1));
  start(always(Fault::kMisdirected));
  ASSERT_TRUE(file_->backend().allocate(64 * kPageBytes));
  ASSERT_TRUE(write(0, ones_));
  ASSERT_TRUE(read(0, read_));
  EXPECT_FALSE(read_.all(1));
}

TEST_F(SimFileSystemTest, AReadThatFlipsABitIsRightTheNextTime) {
  FaultPlan plan = always(Fault::kFlipRead);
  start(plan);
  ASSERT_TRUE(write(0, ones_));
  ASSERT_TRUE(read(0, read_));
  EXPECT_FALSE(read_.all(1));
  ASSERT_TRUE(read(0, read_));
  EXPECT_TRUE(read_.all(1));
}

TEST_F(SimFileSystemTest, ACrashAtEachEventLeavesOldOrNew) {
  std::set<int> found;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    start({}, seed);
    ASSERT_TRUE(write(0, ones_));
    ASSERT_TRUE(sync());
    ASSERT_TRUE(files_->rename("/disk/file", "/disk/file"));
    files_->plan_crash(1 + seed % 4, {.keep_percent = 50});
    (void)write(0, twos_);
    (void)sync();
    ASSERT_TRUE(files_->crashed());
    EXPECT_FALSE(write(0, ones_)) << "nothing has an effect any more";
    reopen();
    Buffer page(1);
    ASSERT_TRUE(read(0, page));
    EXPECT_TRUE(page.all(1) || page.all(2));
    found.insert(page.all(1) ? 1 : 2);
  }
  EXPECT_EQ(found, (std::set<int>{1, 2}));
}

TEST_F(SimFileSystemTest, AfterASyncTheCrashCannotTakeItBack) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    start({}, seed);
    ASSERT_TRUE(files_->rename("/disk/file", "/disk/file"));
    ASSERT_TRUE(write(0, ones_));
    ASSERT_TRUE(sync());
    files_->crash({.keep_percent = 0});
    reopen();
    ASSERT_TRUE(read(0, read_));
    EXPECT_TRUE(read_.all(1));
  }
}

TEST_F(SimFileSystemTest, ANewNameMayVanishUntilTheDirectoryIsSynced) {
  std::set<bool> there;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    start({}, seed);
    files_->crash({});
    files_->begin_boot();
    there.insert(*files_->exists("/disk/file"));
    file_.reset();
  }
  EXPECT_EQ(there, (std::set<bool>{false, true}));
}

TEST_F(SimFileSystemTest, LocksEndWithTheProcess) {
  start();
  const auto held = files_->lock("/disk/file.lock");
  ASSERT_TRUE(held);
  EXPECT_EQ(files_->lock("/disk/file.lock").error().code, ErrorCode::kLimit);
  file_.reset();
  files_->begin_boot();
  const auto again = files_->lock("/disk/file.lock");
  EXPECT_TRUE(again);
}

TEST_F(SimFileSystemTest, TheDiskHasASizeAndOneDirectory) {
  start({}, 1, 64 * kPageBytes);
  EXPECT_EQ(file_->backend().allocate(65 * kPageBytes).error().os_error, ENOSPC);
  ASSERT_TRUE(file_->backend().allocate(60 * kPageBytes));
  EXPECT_EQ(files_->space("/disk")->free_bytes, 4 * kPageBytes);
  EXPECT_EQ(files_->space("/none").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(files_->open("/none/file", {.create = true}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(files_->open("/disk/other", {}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(files_->open("/disk/file", {.create = true, .exclusive = true}).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(SimFileSystemTest, DisksAreMissingComeBackAndFailOnTheirOwn) {
  files_.emplace(
      std::vector<SimDisk::Options>{{.directory = "/disk", .bytes = 16 * kPageBytes}, {.directory = "/disk2"}}, clock_,
      trace_, 1);
  open({.create = true});
  ASSERT_TRUE(files_->open("/disk2/file", {.create = true}));
  ASSERT_TRUE(file_->backend().allocate(16 * kPageBytes));
  EXPECT_EQ(files_->space("/disk")->free_bytes, 0U);
  EXPECT_EQ(files_->space("/disk2")->free_bytes, UINT64_MAX);
  Buffer buffer(1, 7);
  ASSERT_TRUE(run(IoKind::kWrite, 0, &buffer));
  files_->disk(0).go_away();
  EXPECT_EQ(files_->open("/disk/file", {}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(run(IoKind::kRead, 0, &buffer).error().os_error, EIO);
  EXPECT_TRUE(files_->open("/disk2/file", {}));
  files_->disk(0).come_back();
  EXPECT_TRUE(run(IoKind::kRead, 0, &buffer));
  EXPECT_TRUE(buffer.all(7));
}

TEST_F(SimFileSystemTest, ADiskThatIsPulledOutForgetsWhatItHasNotSyncedAndWhatWasOpenIsDead) {
  start();
  ASSERT_TRUE(file_->backend().allocate(4 * kPageBytes));
  ASSERT_TRUE(files_->rename("/disk/file", "/disk/file"));
  Buffer synced(1, 7);
  ASSERT_TRUE(run(IoKind::kWrite, 0, &synced));
  ASSERT_TRUE(run(IoKind::kSync, 0, nullptr));
  Buffer lost(1, 8);
  ASSERT_TRUE(run(IoKind::kWrite, 1, &lost));
  const auto lock = files_->lock("/disk/file.lock");
  files_->pull_out(0, {.kind = CrashStyle::Kind::kPower, .keep_percent = 0});
  files_->disk(0).come_back();
  EXPECT_EQ(run(IoKind::kRead, 0, &synced).error().os_error, EIO);
  EXPECT_TRUE(files_->lock("/disk/file.lock"));
  open();
  ASSERT_TRUE(run(IoKind::kRead, 0, &synced));
  EXPECT_TRUE(synced.all(7));
  ASSERT_TRUE(run(IoKind::kRead, 1, &lost));
  EXPECT_TRUE(lost.all(0));
}

TEST_F(SimFileSystemTest, FaultNamesAreRead) {
  EXPECT_EQ(parse_faults("honest")->bits, FaultSet::honest().bits);
  EXPECT_EQ(parse_faults("honest,lying")->bits, FaultSet::all().bits);
  EXPECT_TRUE(parse_faults("stall,short")->has(Fault::kStall));
  EXPECT_FALSE(parse_faults("stall,short")->lies());
  EXPECT_THAT(parse_faults("stal").error().message, testing::HasSubstr("misdirected"));
}

}  // namespace
}  // namespace tiercel::sim
