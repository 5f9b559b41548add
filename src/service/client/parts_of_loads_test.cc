// Goal: who asks gets the leading blocks of a load from disk over the socket as they are verified, each once and where
// it stays; the rest comes with the load's own answer, and what is dropped in between is given back. Who does not ask
// is told once.
#include "cache/core.h"
#include "cache/disk_drivers.h"
#include "io/delayed_backend.h"
#include "io/memory_file_system.h"
#include "io/wrapped_file_system.h"
#include "service/server/socket_server.h"
#include "transfer/host_copy_engine.h"

#include <tiercel/client.h>

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace tiercel::service {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kBlockBytes = 3_MiB;  // read one by one, and two are a part
constexpr std::size_t kBlocks = 6;

bool comes_true(const std::function<bool()>& condition) {
  for (int i = 0; i < 20'000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

/// A service whose disk reads wait for the test, and a client of it.
class World {
 public:
  World(MemoryFileSystem& memory, const std::shared_ptr<DelayGate>& gate)
      : files_(
            std::make_shared<WrappedFileSystem>(memory, [gate](const std::string&, std::unique_ptr<IoBackend> inner) {
              return std::make_unique<DelayedBackend>(std::move(inner), gate);
            })) {
    static std::atomic<int> worlds{0};
    directory_ = std::filesystem::temp_directory_path() /
                 ("tiercel_parts_" + std::to_string(getpid()) + "_" + std::to_string(worlds++));
    Config config{.host = {.capacity = 64_MiB,
                           .arena = ArenaKind::kMemfd,
                           .prefault = false,
                           .extent_bytes = 16_MiB,
                           .min_slot_bytes = 64_KiB}};
    config.disk.directories = {"/disk"};
    config.disk.capacity = 64_MiB;
    core_ = *detail::CacheCore::create(
        config, {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7, .files = files_.get()});
    cache_.emplace(core_, nullptr);
    drivers_.start(core_, files_);
    EXPECT_TRUE(cache_->wait_for_disks(20s));
    auto server = SocketServer::start(*cache_, {.path = directory_ / "s"});
    EXPECT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    auto client = Client::connect({.socket = directory_ / "s", .call_deadline = 20s});
    EXPECT_TRUE(client) << client.error().message;
    client_.emplace(std::move(*client));
    auto session = client_->open_session(
        {.model = {.name = "m", .kv_dtype = "f16"}, .block_tokens = 1, .layout = Layout::blob(kBlockBytes)});
    EXPECT_TRUE(session) << session.error().message;
    session_.emplace(std::move(*session));
    chain_ = hash_blocks(session_->space(), std::vector<TokenId>{1, 2, 3, 4, 5, 6});
  }
  ~World() {
    session_.reset();
    client_.reset();
    (void)cache_->close(0ns);
    server_.reset();
    (void)drivers_.stop(*core_, 20s);
    std::filesystem::remove_all(directory_);
  }

  void store() {
    Reservation room = session_->reserve(*chain_, 0, kBlocks);
    for (std::size_t i = 0; i < kBlocks; ++i) {
      ASSERT_EQ(room.outcome(i), Reserved::kYes);
      std::ranges::fill(room.writer(i).bytes(), static_cast<std::byte>(i + 1));
      ASSERT_TRUE(room.writer(i).commit());
    }
    ASSERT_TRUE(comes_true([&] { return session_->match(*chain_).blocks_in(TierId::kDisk) == kBlocks; }));
  }
  Load load(std::chrono::nanoseconds deadline = 60s) {
    EXPECT_TRUE(comes_true([&] { return session_->match(*chain_).blocks() == kBlocks; }));
    return session_->load(*chain_, kBlocks, deadline);
  }
  /// For an engine that computes all of it in `computes`.
  Load planned_load(std::chrono::nanoseconds computes) {
    EXPECT_TRUE(comes_true([&] { return session_->match(*chain_).blocks() == kBlocks; }));
    session_->report_prefill(PrefillTime{.tokens = kBlocks, .time = computes});
    return session_->load(*chain_, kBlocks, 60s, {.prompt_tokens = kBlocks + 1});
  }
  [[nodiscard]] Stats stats() {
    EXPECT_TRUE(client_->sync());
    return cache_->stats();
  }
  /// Blocks that were read and verified.
  [[nodiscard]] std::size_t in_ram() const { return session_->match(*chain_).blocks_in(TierId::kHost); }
  /// That the service has said to be loaded.
  [[nodiscard]] std::uint64_t loaded_bytes() const {
    std::uint64_t sum = 0;
    for (const MemberReport& member : server_->members()) sum += member.loaded_bytes;
    return sum;
  }

 private:
  std::filesystem::path directory_;
  SteadyClock clock_;
  ThreadedExecutor executor_{{.threads = 2}, clock_};
  HostCopyEngine copies_{executor_};
  std::shared_ptr<WrappedFileSystem> files_;
  std::shared_ptr<detail::CacheCore> core_;
  std::optional<Cache> cache_;
  detail::DiskDrivers drivers_;
  std::unique_ptr<SocketServer> server_;
  std::optional<Client> client_;
  std::optional<Session> session_;
  std::optional<BlockChain> chain_;
};

class PartsOfLoads : public testing::Test {
 protected:
  PartsOfLoads() {
    memory_.make_directory("/disk");
    World(memory_, gate_).store();
    world_.emplace(memory_, gate_);  // everything is on disk alone
    gate_->hold(IoKind::kRead);
  }
  ~PartsOfLoads() override {
    gate_->release_all();
    world_.reset();
  }
  /// As many blocks as were read, all right.
  static void check(std::span<const BlockRef> blocks, std::size_t count) {
    ASSERT_EQ(blocks.size(), count);
    for (std::size_t i = 0; i < count; ++i) {
      const auto wanted = static_cast<std::byte>(i + 1);
      ASSERT_EQ(blocks[i].bytes().size(), kBlockBytes);
      EXPECT_TRUE(std::ranges::all_of(blocks[i].bytes(), [=](std::byte b) { return b == wanted; })) << "block " << i;
    }
  }

  SteadyClock clock_;
  MemoryFileSystem memory_;
  std::shared_ptr<DelayGate> gate_ = std::make_shared<DelayGate>(clock_);
  std::optional<World> world_;
};

TEST_F(PartsOfLoads, a_planned_load_that_stands_still_ends_by_its_plan_and_not_by_its_deadline) {
  const auto begun = std::chrono::steady_clock::now();
  Load load = world_->planned_load(200ms);
  EXPECT_TRUE(load.wait().empty());
  EXPECT_EQ(load.outcome(), LoadOutcome::kSlower);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 30s);
  EXPECT_EQ(world_->stats().plans_given_up, 1U);
  EXPECT_EQ(world_->stats().planned_left_blocks, kBlocks);
}

TEST_F(PartsOfLoads, a_planned_load_that_falls_behind_gives_what_was_read) {
  Load load = world_->planned_load(400ms);
  ASSERT_TRUE(comes_true([&] { return gate_->held() == kBlocks; }));
  gate_->release(2);
  const auto blocks = load.wait();
  EXPECT_EQ(load.outcome(), LoadOutcome::kSlower);
  check(blocks, 2);
}

TEST_F(PartsOfLoads, come_as_they_are_verified_and_stay_where_they_are) {
  Load load = world_->load();
  ASSERT_TRUE(comes_true([&] { return gate_->held() == kBlocks; }));
  EXPECT_TRUE(load.so_far().empty());
  gate_->release(2);
  ASSERT_TRUE(comes_true([&] { return !load.so_far().empty(); }));
  const auto first = load.so_far();
  check(first, 2);
  EXPECT_FALSE(load.done());
  gate_->release(2);
  ASSERT_TRUE(comes_true([&] { return load.so_far().size() > 2; }));
  check(load.so_far(), 4);
  EXPECT_EQ(load.so_far().data(), first.data());
  EXPECT_FALSE(load.done());
  gate_->release_all();
  ASSERT_TRUE(comes_true([&] { return load.done(); }));
  EXPECT_EQ(load.outcome(), LoadOutcome::kComplete);
  check(load.wait(), kBlocks);
  EXPECT_EQ(load.wait().data(), first.data());
  load = {};
  EXPECT_TRUE(comes_true([&] { return world_->stats().copy_pins == 0; }));
}

TEST_F(PartsOfLoads, less_than_a_part_waits_for_the_rest) {
  Load load = world_->load();
  ASSERT_TRUE(load.so_far().empty());
  gate_->release(1);
  ASSERT_TRUE(comes_true([&] { return world_->in_ram() == 1; }));
  (void)world_->stats();  // an answer that was under way is here
  EXPECT_TRUE(load.so_far().empty());
  gate_->release(1);
  ASSERT_TRUE(comes_true([&] { return !load.so_far().empty(); }));
  check(load.so_far(), 2);
  gate_->release_all();
  check(load.wait(), kBlocks);
}

TEST_F(PartsOfLoads, stay_with_the_load_when_its_deadline_passes) {
  Load load = world_->load(1s);
  ASSERT_TRUE(load.so_far().empty());
  gate_->release(3);
  ASSERT_TRUE(comes_true([&] { return load.so_far().size() >= 2; }));
  ASSERT_TRUE(comes_true([&] { return load.done(); }));
  EXPECT_EQ(load.outcome(), LoadOutcome::kDeadline);
  check(load.wait(), 3);
}

TEST_F(PartsOfLoads, are_given_back_when_the_load_is_dropped) {
  {
    Load load = world_->load();
    ASSERT_TRUE(load.so_far().empty());
    gate_->release(2);
    ASSERT_TRUE(comes_true([&] { return !load.so_far().empty(); }));
    (void)load.so_far();  // the next question is on its way
    EXPECT_GT(world_->stats().copy_pins, 0U);
  }
  gate_->release_all();
  EXPECT_TRUE(comes_true([&] { return world_->stats().copy_pins == 0; }));
  check(world_->load().wait(), kBlocks);
}

TEST_F(PartsOfLoads, one_that_came_and_was_not_looked_at_is_given_back_too) {
  {
    Load load = world_->load();
    ASSERT_TRUE(load.so_far().empty());
    gate_->release(2);
    ASSERT_TRUE(comes_true([&] { return world_->loaded_bytes() == 2 * kBlockBytes; }));
    (void)world_->stats();  // reads what is in the socket
  }
  gate_->release_all();
  EXPECT_TRUE(comes_true([&] { return world_->stats().copy_pins == 0; }));
}

TEST_F(PartsOfLoads, a_load_that_nobody_asks_about_comes_whole) {
  Load load = world_->load();
  gate_->release(4);
  ASSERT_TRUE(comes_true([&] { return world_->in_ram() == 4; }));
  EXPECT_FALSE(load.done());
  EXPECT_EQ(world_->loaded_bytes(), 0U);
  gate_->release_all();
  check(load.wait(), kBlocks);
  EXPECT_EQ(load.outcome(), LoadOutcome::kComplete);
}

}  // namespace
}  // namespace tiercel::service
