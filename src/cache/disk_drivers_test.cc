// Goal: a cache that is closed at once ends the drivers of healthy directories in order, and leaves behind only those
// whose device does not answer; one that gets no thread is off, and the others serve. Method: real threads over files
// in memory; operations of one directory are held back, or all writes take their time.
#include "cache/disk_drivers.h"
#include "base/executor.h"
#include "cache/local_session.h"
#include "cache/testing/raw_file.h"
#include "io/delayed_backend.h"
#include "io/memory_file_system.h"
#include "io/wrapped_file_system.h"
#include "tier/disk/opening.h"
#include "transfer/host_copy_engine.h"

#include <tiercel/cache.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <thread>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using Directories = std::vector<std::size_t>;

constexpr std::uint64_t kBlockBytes = 64_KiB;

class DiskDriversTest : public ::testing::Test {
 protected:
  DiskDriversTest() : DiskDriversTest(Directories{}) {}
  explicit DiskDriversTest(Directories without_thread) : without_thread_(std::move(without_thread)) {
    Config config{.host = {.capacity = 8_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = 64_KiB}};
    config.disk.directories = {"/a", "/b", "/c"};
    config.disk.capacity = 24_MiB;
    for (const std::string& directory : config.disk.directories) memory_.make_directory(directory);
    core_ = *detail::CacheCore::create(
        config, {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7, .files = files_.get()});
    drivers_.start(core_, files_);
    cache_.emplace(core_, nullptr);
    EXPECT_TRUE(cache_->wait_for_disks(60s));
    session_.emplace(*cache_->open_session(
        {.model = {.name = "test", .kv_dtype = "f16"}, .block_tokens = 4, .layout = Layout::blob(kBlockBytes)}));
  }
  ~DiskDriversTest() override {
    stuck_->release_all();
    session_.reset();
    cache_.reset();
    while (core_.use_count() > 1) std::this_thread::yield();  // a driver that was left behind ends now
  }

  void store(std::size_t blocks) {
    std::vector<TokenId> tokens(blocks * 4);
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(i);
    Reservation room = session_->reserve(hash_blocks(session_->space(), tokens), 0);
    for (std::size_t i = 0; i < room.size(); ++i) ASSERT_TRUE(room.writer(i).commit());
  }
  void wait_for_operations() {
    while (gate_->held() == 0) std::this_thread::yield();
  }
  bool closed_in_order(const std::string& directory) {
    testing::RawFile file(memory_, disk::file_path(directory));
    std::array<std::byte, 2 * testing::kRawPage> copies{};
    for (std::size_t i = 0; i < 2; ++i) {
      const auto page = file.read(i * testing::kRawPage);
      std::ranges::copy(page, copies.begin() + static_cast<std::ptrdiff_t>(i * testing::kRawPage));
    }
    return disk::choose_superblock(copies, directory).value().superblock.clean;
  }
  Directories close_at_once() {
    (void)cache_->close(0ns);
    return drivers_.stop(*core_, 0ns);
  }
  DiskDirectoryState state_of(std::size_t directory) { return core_->disk_reports().at(directory).state; }

  SteadyClock clock_;
  ThreadedExecutor executor_{{.name = "test", .threads = 2, .queue_capacity = 4096}, clock_};
  HostCopyEngine copies_{executor_};
  MemoryFileSystem memory_;
  std::shared_ptr<DelayGate> gate_ = std::make_shared<DelayGate>(clock_);
  std::shared_ptr<DelayGate> stuck_ = std::make_shared<DelayGate>(clock_);  // of /b alone
  std::shared_ptr<FileSystem> files_ = std::make_shared<WrappedFileSystem>(
      memory_, [this](const std::string& path, std::unique_ptr<IoBackend> file) -> std::unique_ptr<IoBackend> {
        file = std::make_unique<DelayedBackend>(std::move(file), gate_);
        if (!path.starts_with("/b/")) return file;
        return std::make_unique<DelayedBackend>(std::move(file), stuck_);
      });
  std::shared_ptr<detail::CacheCore> core_;
  const Directories without_thread_;
  std::size_t asked_ = 0;
  detail::DiskDrivers drivers_{[this](std::function<void()> work) {
    if (std::ranges::find(without_thread_, asked_++) == without_thread_.end()) return std::thread(std::move(work));
    throw std::system_error(EAGAIN, std::generic_category());
  }};
  std::optional<Cache> cache_;
  std::optional<Session> session_;
};

TEST_F(DiskDriversTest, a_close_without_patience_lets_healthy_directories_end) {
  gate_->delay(IoKind::kWrite, 20'000'000);
  store(60);
  wait_for_operations();
  EXPECT_EQ(close_at_once(), Directories());
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(state_of(i), DiskDirectoryState::kClosed) << i;
  EXPECT_EQ(core_->stats().copy_pins, 0U);
  EXPECT_TRUE(core_->close(0ns));
}

TEST_F(DiskDriversTest, only_the_directory_that_does_not_answer_is_left_behind) {
  gate_->delay(IoKind::kWrite, 20'000'000);
  stuck_->hold_all();
  store(60);
  while (stuck_->held() == 0) std::this_thread::yield();
  EXPECT_EQ(close_at_once(), Directories{1});
  EXPECT_EQ(state_of(0), DiskDirectoryState::kClosed);
  EXPECT_NE(state_of(1), DiskDirectoryState::kClosed);
  EXPECT_EQ(state_of(2), DiskDirectoryState::kClosed);
  EXPECT_TRUE(closed_in_order("/a"));
  EXPECT_FALSE(closed_in_order("/b"));
  EXPECT_TRUE(closed_in_order("/c"));
  EXPECT_EQ(core_->close(0ns).error().code, ErrorCode::kTimeout);  // the memory of what it was asked for
  stuck_->release_all();                                           // late, into memory that is still there
}

class OneWithoutAThread : public DiskDriversTest {
 protected:
  OneWithoutAThread() : DiskDriversTest(Directories{1}) {}
};

TEST_F(OneWithoutAThread, is_off_and_says_why_and_the_others_serve) {
  EXPECT_EQ(state_of(0), DiskDirectoryState::kOn);
  EXPECT_EQ(state_of(1), DiskDirectoryState::kOff);
  EXPECT_EQ(state_of(2), DiskDirectoryState::kOn);
  EXPECT_NE(core_->disk_reports().at(1).cause.find("gives no thread"), std::string::npos);
  store(20);
  while (core_->stats().tiers[1].blocks < 20) std::this_thread::yield();
  EXPECT_EQ(close_at_once(), Directories());
  EXPECT_TRUE(closed_in_order("/a"));
  EXPECT_FALSE(memory_.exists("/b/tiercel.kv").value());
  EXPECT_TRUE(closed_in_order("/c"));
  EXPECT_TRUE(core_->close(0ns));
}

class AllWithoutAThread : public DiskDriversTest {
 protected:
  AllWithoutAThread() : DiskDriversTest(Directories{0, 1, 2}) {}
};

TEST_F(AllWithoutAThread, leave_the_host_tier) {
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(state_of(i), DiskDirectoryState::kOff) << i;
  store(20);
  EXPECT_EQ(core_->stats().tiers[0].blocks, 20U);
  EXPECT_EQ(close_at_once(), Directories());
  EXPECT_TRUE(core_->close(0ns));
}

}  // namespace
}  // namespace tiercel
