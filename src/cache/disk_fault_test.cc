// Goal: whatever is wrong with a directory of the disk tier, the cache serves on from memory, says what is wrong, and
// uses the directory again when it is right. Method: a small cache turned by hand over files in memory that are full,
// read-only, cut off, missing, held or of another format; and the threaded cache on real directories for what only the
// system can do.
#include "cache/testing/raw_file.h"
#include "cache/testing/troubled_disk.h"

#include <tiercel/cache.h>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using testing::DiskWorld;
using testing::RawFile;

class DiskFault : public testing::TroubledDisk {};

TEST_F(DiskFault, a_full_filesystem_stops_writes_alone_until_there_is_room) {
  put_faults();
  (void)world_.store(world_.chain(4, 1), 1);
  world_.settle();
  world_.restart();
  faults_->set_for_all(IoKind::kWrite, IoFault{.kind = IoFault::Kind::kFail, .error = ENOSPC});
  EXPECT_EQ(world_.store(world_.chain(4, 2), 2), 4U);
  world_.settle();
  EXPECT_EQ(report().state, DiskDirectoryState::kReadOnly);
  EXPECT_FALSE(report().cause.empty());
  EXPECT_EQ(world_.load(world_.chain(4, 1), 1), 4U);  // from disk
  EXPECT_EQ(world_.load(world_.chain(4, 2), 2), 4U);  // from memory
  faults_->set_for_all(IoKind::kWrite, std::nullopt);
  pass();
  EXPECT_EQ(report().state, DiskDirectoryState::kOn);
  EXPECT_EQ(world_.load(world_.chain(4, 2), 2), 4U);  // a use is another chance to be written
  pass();
  world_.restart();
  EXPECT_EQ(world_.load(world_.chain(4, 2), 2), 4U);
  EXPECT_EQ(world_.load(world_.chain(4, 1), 1), 4U);
}

TEST_F(DiskFault, a_read_only_filesystem_serves_what_it_has) {
  put_faults();
  (void)world_.store(world_.chain(4, 1), 1);
  world_.settle();
  faults_->set_for_all(IoKind::kWrite, IoFault{.kind = IoFault::Kind::kFail, .error = EROFS});
  (void)world_.store(world_.chain(4, 2), 2);
  pass(5);
  EXPECT_EQ(report().state, DiskDirectoryState::kReadOnly);
  const auto dropped = world_.session().drop(world_.chain(4, 1), 2);
  ASSERT_TRUE(dropped);
  EXPECT_GE(dropped->pending, 1U);
  EXPECT_EQ(world_.load(world_.chain(4, 1), 1), 2U);
}

TEST_F(DiskFault, no_room_for_the_file_is_said_with_sizes_and_tried_again) {
  world_.stop();
  world_.memory().make_directory("/small");
  world_.memory().set_capacity(20_MiB);  // /disk has its file already
  world_.configuration().disk.directories = {"/small"};
  world_.start();
  world_.settle();
  EXPECT_EQ(report().state, DiskDirectoryState::kOff);
  EXPECT_NE(report().cause.find("free"), std::string::npos) << report().cause;
  EXPECT_EQ(world_.store(world_.chain(4, 1), 1), 4U);
  world_.memory().set_capacity(1_TiB);
  pass(40);
  EXPECT_EQ(report().state, DiskDirectoryState::kOn);
  EXPECT_EQ(world_.load(world_.chain(4, 1), 1), 4U);
}

TEST_F(DiskFault, a_block_waits_once_for_the_disk_however_often_it_is_used) {
  put_faults();
  gate_->hold_all();
  pass();
  ASSERT_EQ(report().state, DiskDirectoryState::kOff);
  EXPECT_EQ(world_.store(world_.chain(40, 1), 1), 40U);
  for (int use = 0; use < 30; ++use) {
    EXPECT_EQ(world_.load(world_.chain(40, 1), 1), 40U);
    world_.settle(2);
  }
  EXPECT_EQ(world_.stats().demotions_queued, 40U);
  for (TokenId seed = 2; seed < 7; ++seed) {  // what leaves the arena leaves the queue
    world_.advance(1s);
    EXPECT_EQ(world_.store(world_.chain(30, seed), seed), 30U);
    EXPECT_EQ(world_.load(world_.chain(30, seed), seed), 30U);
    world_.settle(2);
    EXPECT_EQ(world_.stats().demotions_queued, world_.host().blocks);
  }
  ASSERT_TRUE(world_.session().drop(world_.chain(30, 6), 10));
  EXPECT_EQ(world_.stats().demotions_queued, world_.host().blocks);
  world_.core().check_consistency();
  gate_->release_all();
  pass();
  EXPECT_EQ(world_.stats().demotions_queued, 0U);
  EXPECT_EQ(world_.disk().blocks, world_.host().blocks);
  EXPECT_EQ(world_.stats().demotions_refused, 0U);  // parents stood before their children all the time
}

TEST_F(DiskFault, read_errors_lose_hits_and_nothing_else) {
  put_faults();
  (void)world_.store(world_.chain(8, 1), 1);
  world_.settle();
  world_.restart();
  faults_->add(faults_->started(), {.kind = IoFault::Kind::kFail, .error = EIO});
  EXPECT_LT(world_.load(world_.chain(8, 1), 1), 8U);
  EXPECT_EQ(world_.store(world_.chain(8, 1), 1), world_.stats().disk_unreadable_blocks);
  world_.settle();
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 8U);
}

TEST_F(DiskFault, lies_of_the_device_are_misses) {
  put_faults();
  for (std::uint64_t skip = 0; skip < 12; ++skip) {  // whatever the operation was
    const auto seed = static_cast<TokenId>(50 + skip);
    faults_->add(faults_->started() + skip,
                 {.kind = skip % 2 == 0 ? IoFault::Kind::kLose : IoFault::Kind::kCorrupt, .bytes = 100 + 40 * skip});
    (void)world_.store(world_.chain(6, seed), seed);
    world_.settle();
    world_.restart();
    const std::size_t found = world_.load(world_.chain(6, seed), seed);  // compares every byte
    (void)world_.store(world_.chain(6, seed), seed, found);
    world_.settle();
    EXPECT_EQ(world_.load(world_.chain(6, seed), seed), 6U) << skip;
  }
}

TEST_F(DiskFault, a_file_cut_off_under_the_cache_is_looked_at_anew) {
  world_.settle();
  (void)world_.store(world_.chain(8, 1), 1);
  world_.settle();
  world_.restart();  // in the file alone
  RawFile file(world_.memory());
  file.truncate(testing::kRawData + 3 * testing::kDiskBlockBytes);
  pass();
  EXPECT_EQ(report().state, DiskDirectoryState::kOn);  // the header table was behind the cut
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 0U);
  EXPECT_EQ(world_.store(world_.chain(8, 1), 1), 8U);
  pass();
  world_.restart();
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 8U);
}

TEST_F(DiskFault, a_file_cut_off_under_a_load_is_a_shorter_prefix) {
  put_faults();
  (void)world_.store(world_.chain(8, 1), 1);
  world_.settle();
  world_.restart();  // in the file alone
  for (const std::uint64_t blocks_left : {3U, 0U}) {
    gate_->hold(IoKind::kRead);
    world_.on_wait = [&] {
      world_.settle(5);  // its reads are on their way
      ASSERT_GT(gate_->held(), 0U);
      RawFile(world_.memory()).truncate(testing::kRawData + blocks_left * testing::kDiskBlockBytes);
      gate_->release_all();
      world_.on_wait = [] {};
    };
    EXPECT_LE(world_.load(world_.chain(8, 1), 1), blocks_left);  // and every byte of them is right
    pass();
    EXPECT_EQ(report().state, DiskDirectoryState::kOn);
    EXPECT_EQ(world_.store(world_.chain(8, 1), 1), 8U);
    world_.settle();
    world_.restart();
    EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 8U);
    world_.restart();
  }
}

TEST_F(DiskFault, a_directory_that_appears_later_is_used_then) {
  world_.settle();
  (void)world_.store(world_.chain(4, 1), 1);
  world_.settle();
  start_before_it_is_mounted();
  EXPECT_EQ(report().state, DiskDirectoryState::kOff);
  EXPECT_NE(report().cause.find("/late"), std::string::npos);
  EXPECT_TRUE(world_.core().disks_settled());  // nobody waits for it
  EXPECT_EQ(world_.store(world_.chain(3, 2), 2), 3U);
  mount();
  EXPECT_EQ(report().state, DiskDirectoryState::kOn);
  EXPECT_EQ(world_.load(world_.chain(4, 1), 1), 4U);
  world_.restart();
  EXPECT_EQ(world_.load(world_.chain(3, 2), 2), 3U);
}

TEST_F(DiskFault, a_file_of_an_unknown_format_is_left_alone_until_reset) {
  world_.settle();
  (void)world_.store(world_.chain(4, 1), 1);
  world_.settle();
  world_.stop();
  RawFile file(world_.memory());
  for (std::size_t copy = 0; copy < 2; ++copy) {
    RawFile::Page foreign{};
    foreign.fill(std::byte{0x5A});
    file.write(copy * testing::kRawPage, foreign);
  }
  world_.start();
  pass(5);
  EXPECT_EQ(report().state, DiskDirectoryState::kRefused);
  EXPECT_NE(report().cause.find("disk.reset"), std::string::npos) << report().cause;
  EXPECT_EQ(world_.store(world_.chain(4, 2), 2), 4U);
  EXPECT_EQ(world_.load(world_.chain(4, 2), 2), 4U);
  EXPECT_EQ(file.read(0)[0], std::byte{0x5A});  // never written
  world_.stop();
  EXPECT_EQ(file.read(0)[0], std::byte{0x5A});
  world_.configuration().disk.reset = true;
  world_.start();
  world_.settle();
  EXPECT_EQ(report().state, DiskDirectoryState::kOn);
  EXPECT_EQ(world_.load(world_.chain(4, 1), 1), 0U);
}

TEST_F(DiskFault, a_room_is_reserved_while_the_directory_is_off) {
  put_faults();
  const auto damage = [&] {
    RawFile file(world_.memory());
    while (const auto page = file.page_of(DiskWorld::pattern(3, 1))) file.flip(*page, 2);
  };
  (void)world_.store(world_.chain(8, 1), 1);
  world_.settle();
  world_.restart();
  damage();
  EXPECT_EQ(world_.load(world_.chain(4, 1), 1), 3U);
  // Now 4 to 7 are readable behind a stub, in a directory that goes off.
  gate_->hold_all();
  pass();
  ASSERT_EQ(report().state, DiskDirectoryState::kOff);
  {
    Reservation room = world_.session().reserve(world_.chain(8, 1), 4);
    for (std::size_t i = 0; i < room.size(); ++i) EXPECT_EQ(room.outcome(i), Reserved::kNoParent) << i;
  }
  world_.core().check_consistency();
  EXPECT_EQ(world_.store(world_.chain(8, 1), 1), 5U);
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 8U);
  gate_->release_all();
  pass();
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 8U);
  world_.restart();
  EXPECT_EQ(world_.load(world_.chain(8, 1), 1), 8U);
}

TEST_F(DiskFault, where_nothing_can_be_reserved_the_copy_of_a_directory_that_is_off_is_kept) {
  put_faults();
  (void)world_.store(world_.chain(4, 1), 1);
  world_.settle();
  world_.restart();
  gate_->hold_all();
  (void)world_.load(world_.chain(1, 1), 1);
  pass();
  ASSERT_EQ(directories(kOff), 1U);
  {
    const Reservation all = world_.session().reserve(world_.chain(64, 2), 0);  // the whole arena
    const Reservation more = world_.session().reserve(world_.chain(4, 1), 0);
    ASSERT_EQ(more.outcome(0), Reserved::kBusy);
  }
  gate_->release_all();
  pass(40);
  ASSERT_EQ(directories(kOn), 1U);
  EXPECT_EQ(world_.load(world_.chain(4, 1), 1), 4U);
}

TEST_F(DiskFault, closing_with_a_device_that_never_answers_ends) {
  put_faults();
  (void)world_.store(world_.chain(4, 1), 1);
  world_.settle();
  world_.restart();
  gate_->hold_all();
  Load load = world_.session().load(world_.chain(4, 1), 4, 10ms);
  (void)world_.store(world_.chain(4, 2), 2);
  const std::uint64_t before = world_.clock().now_ns();
  const Status closed = world_.cache().close(500ms);
  EXPECT_LE(world_.clock().now_ns() - before, 600'000'000U);
  ASSERT_FALSE(closed);
  EXPECT_EQ(closed.error().code, ErrorCode::kTimeout);
  EXPECT_TRUE(load.done());
  EXPECT_EQ(load.wait().size(), 0U);
  load = {};
  gate_->release_all();  // late, into memory that is still there
}

/// Slots take a sixteenth of the header pages that an extent has, so that each extent's page is read by itself.
class DiskIndexed : public testing::TroubledDisk {
 protected:
  static Config config() {
    Config config = testing::impatient(DiskWorld::config(4_MiB, 32_MiB));
    config.host.min_slot_bytes = 4_KiB;
    return config;
  }
  DiskIndexed() : TroubledDisk(config()) {}
};

TEST_F(DiskIndexed, what_is_found_is_served_before_all_is) {
  constexpr TokenId kChains = 8;
  constexpr std::size_t kBlocks = 32;  // of one extent
  put_faults();
  for (TokenId seed = 1; seed <= kChains; ++seed) {
    (void)world_.store(world_.chain(kBlocks, seed), seed);
    world_.settle();
  }
  std::size_t early = 0;
  for (std::size_t let = 0; let < 30; ++let) {  // operations of opening and indexing that end; the others are held
    world_.stop();
    gate_->hold_all();
    gate_->release(let);
    world_.start();
    world_.settle(30);
    std::vector<Load> loads;
    std::vector<std::size_t> promised;
    const bool indexing = directories(kOn) == 0;
    for (TokenId seed = 1; seed <= kChains && indexing; ++seed) {
      if (matched(kBlocks, seed) == 0) continue;
      promised.push_back(matched(kBlocks, seed));
      loads.push_back(world_.session().load(world_.chain(kBlocks, seed), promised.back(), 10s));
      break;  // one read for all is enough, and the arena is small
    }
    gate_->release_all();
    for (std::size_t i = 0; i < loads.size(); ++i) {
      EXPECT_EQ(loads[i].wait().size(), promised[i]) << let;
      early += promised[i];
    }
    loads.clear();
    world_.settle();
    for (TokenId seed = 1; seed <= kChains; ++seed) EXPECT_EQ(world_.load(world_.chain(kBlocks, seed), seed), kBlocks);
  }
  EXPECT_GT(early, 0U);
}

// ---- real directories

class DiskDirectoryOnDisk : public ::testing::Test {
 protected:
  DiskDirectoryOnDisk() {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel-disk-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    path_ = name;
    config_ = DiskWorld::config();
    config_.disk.directories = {path_};
    config_.disk.probe_interval = 50ms;
    config_.workers.threads = 2;
  }
  ~DiskDirectoryOnDisk() override { std::filesystem::remove_all(path_); }

  static SessionOptions options() {
    return {.model = {.name = "test", .kv_dtype = "f16"},
            .block_tokens = 4,
            .layout = Layout::blob(testing::kDiskBlockBytes)};
  }
  static BlockChain chain(const Session& session, std::size_t blocks) {
    std::vector<TokenId> tokens(blocks * 4);
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(i);
    return hash_blocks(session.space(), tokens);
  }

  std::string path_;
  Config config_;
};

TEST_F(DiskDirectoryOnDisk, a_closed_cache_is_found_by_the_next) {
  for (int round = 0; round < 2; ++round) {
    auto cache = Cache::open(config_);
    ASSERT_TRUE(cache) << cache.error().message;
    ASSERT_TRUE(cache->wait_for_disks(10s));
    ASSERT_EQ(cache->disks().at(0).state, DiskDirectoryState::kOn) << cache->disks().at(0).cause;
    Session session = *cache->open_session(options());
    const BlockChain ours = chain(session, 12);
    Load load = session.load(ours, 12, 10s);
    EXPECT_EQ(load.wait().size(), round == 0 ? 0U : 12U);
    for (const BlockRef& block : load.wait()) EXPECT_EQ(block.bytes()[77], std::byte{9});
    load = {};
    Reservation room = session.reserve(ours, 0);
    for (std::size_t i = 0; i < room.size() && round == 0; ++i) {
      ASSERT_EQ(room.outcome(i), Reserved::kYes);
      std::ranges::fill(room.writer(i).bytes(), std::byte{9});
      EXPECT_TRUE(room.writer(i).commit());
    }
    room = {};
    session.close();
    EXPECT_TRUE(cache->close(10s));
  }
}

TEST_F(DiskDirectoryOnDisk, held_by_another_process_is_said_with_its_id) {
  int ready[2];
  int end[2];
  ASSERT_EQ(::pipe(ready), 0);
  ASSERT_EQ(::pipe(end), 0);
  const pid_t holder = ::fork();
  ASSERT_GE(holder, 0);
  if (holder == 0) {  // no other thread lives now: a whole cache may be opened here
    ::close(end[1]);
    auto cache = Cache::open(config_);
    const bool on = cache && cache->wait_for_disks(10s);
    const char answer = on ? '1' : '0';
    (void)!::write(ready[1], &answer, 1);
    char byte = 0;
    (void)!::read(end[0], &byte, 1);
    if (cache) (void)cache->close(10s);
    ::_exit(0);
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, '1');
  auto cache = Cache::open(config_);
  ASSERT_TRUE(cache);
  EXPECT_TRUE(cache->wait_for_disks(10s));
  const DiskReport report = cache->disks().at(0);
  EXPECT_EQ(report.state, DiskDirectoryState::kRefused);
  EXPECT_NE(report.cause.find(std::to_string(holder)), std::string::npos) << report.cause;
  ::close(end[1]);
  int status = 0;
  EXPECT_EQ(::waitpid(holder, &status, 0), holder);
  EXPECT_TRUE(cache->close(10s));
  for (const int fd : {ready[0], ready[1], end[0]}) ::close(fd);
}

TEST_F(DiskDirectoryOnDisk, a_missing_directory_neither_stops_nor_delays_the_start) {
  config_.disk.directories = {path_ + "/later"};
  auto cache = Cache::open(config_);
  ASSERT_TRUE(cache);
  EXPECT_TRUE(cache->wait_for_disks(10s));
  EXPECT_EQ(cache->disks().at(0).state, DiskDirectoryState::kOff);
  EXPECT_TRUE(cache->close(10s));
}

}  // namespace
}  // namespace tiercel
