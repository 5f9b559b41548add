// DiskWorld: a whole small cache with a disk tier on files in memory, turned by hand; for tests.
//
// settle() runs tasks and drivers until nothing moves. crash() forgets the cache without closing it; what its completed
// writes left in the files is there for the next start().
#pragma once

#include "cache/core.h"
#include "cache/local_session.h"
#include "io/delayed_backend.h"
#include "io/memory_file_system.h"
#include "io/wrapped_file_system.h"
#include "transfer/host_copy_engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace tiercel::testing {

inline constexpr std::uint64_t kDiskBlockBytes = 64_KiB;

/// Runs tasks when told, and while the core waits: then the drivers take their turns too, and time goes on.
class TurningExecutor final : public Executor {
 public:
  TurningExecutor(ManualClock& clock, std::function<void()> turn, std::function<void()> on_wait)
      : clock_(clock), turn_(std::move(turn)), on_wait_(std::move(on_wait)), inner_(clock, 4096) {}

  [[nodiscard]] bool submit(Task task) override { return inner_.submit(std::move(task)); }
  bool wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns) override {
    on_wait_();
    for (int idle = 0; !ready(); ++idle) {
      if (clock_.now_ns() >= deadline_ns) return false;
      while (inner_.run()) {
      }
      turn_();
      if (idle > 50) clock_.advance(1'000'000);
    }
    return true;
  }
  void wake() noexcept override {}
  [[nodiscard]] std::size_t concurrency() const noexcept override { return 1; }
  std::size_t run_all() { return inner_.run_all(); }

 private:
  ManualClock& clock_;
  std::function<void()> turn_;
  std::function<void()> on_wait_;
  ManualExecutor inner_;
};

/// The world's clock as the core sees it: each look at it may take time, as work does.
class LookedAtClock final : public Clock {
 public:
  explicit LookedAtClock(ManualClock& clock) : clock_(clock) {}
  [[nodiscard]] std::uint64_t now_ns() const noexcept override {
    if (look_ns > 0) clock_.advance(look_ns);
    return clock_.now_ns();
  }
  std::uint64_t look_ns = 0;

 private:
  ManualClock& clock_;
};

class DiskWorld {
 public:
  DiskWorld() : DiskWorld(config()) {}
  explicit DiskWorld(const Config& config, std::uint64_t block_bytes = kDiskBlockBytes)
      : config_(config), block_bytes_(block_bytes) {
    for (const std::string& directory : config.disk.directories) memory_.make_directory(directory);
    start();
  }
  ~DiskWorld() { stop(); }

  static Config config(std::uint64_t host = 4_MiB, std::uint64_t disk = 16_MiB) {
    Config config{.host = {.capacity = host, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = 64_KiB}};
    config.disk.directories = {"/disk"};
    config.disk.capacity = disk;
    return config;
  }

  void start() {
    executor_ = std::make_unique<TurningExecutor>(clock_, [this] { (void)step(); }, [this] { on_wait(); });
    copies_ = std::make_unique<HostCopyEngine>(*executor_);
    auto core = detail::CacheCore::create(config_, {.clock = core_clock_,
                                                    .executor = *executor_,
                                                    .copies = *copies_,
                                                    .seed = 7,
                                                    .files = &files(),
                                                    .most_waiting_deletes = most_waiting_deletes,
                                                    .most_waiting_blocks = most_waiting_blocks});
    ASSERT_TRUE(core) << core.error().message;
    core_ = *core;
    cache_.emplace(core_, nullptr);
    auto session = cache_->open_session(
        {.model = {.name = "test", .kv_dtype = "f16"}, .block_tokens = 4, .layout = Layout::blob(block_bytes_)});
    ASSERT_TRUE(session) << session.error().message;
    session_.emplace(std::move(*session));
  }
  /// Closes properly.
  void stop() {
    if (!cache_) return;
    settle();
    session_.reset();
    (void)cache_->close(std::chrono::nanoseconds(0));
    for (int i = 0; i < 1000 && step(); ++i) executor_->run_all();
    forget();
  }
  /// As kill -9: what is in flight in the files ends, nothing else does.
  void crash() {
    session_.reset();
    executor_->run_all();
    (void)core_->close(std::chrono::nanoseconds(0));
    for (int i = 0; i < 1000 && step(); ++i) executor_->run_all();
    forget();
  }
  void restart() {
    stop();
    start();
    settle();
  }

  /// One turn of every driver. False: all are closed and idle.
  bool step() {
    if (!core_) return false;
    bool open = false;
    for (std::size_t i = 0; i < core_->disks(); ++i) open = core_->step_disk(i, 0) || open;
    return open;
  }
  void settle(int turns = 200) {
    for (int i = 0; i < turns; ++i) {
      executor_->run_all();
      (void)step();
    }
    executor_->run_all();
  }
  /// From now on, until 0 is given: whenever the core looks at its clock, so much time has passed.
  void let_looks_take(std::chrono::nanoseconds time) { core_clock_.look_ns = static_cast<std::uint64_t>(time.count()); }
  void advance(std::chrono::nanoseconds time) { clock_.advance(static_cast<std::uint64_t>(time.count())); }

  BlockChain chain(std::size_t blocks, TokenId seed = 0) {
    std::vector<TokenId> tokens;
    for (std::size_t i = 0; i < blocks * 4; ++i) tokens.push_back(seed * 100'000 + static_cast<TokenId>(i));
    return hash_blocks(session_->space(), tokens);
  }
  static std::byte pattern(std::size_t block, TokenId seed) {
    return static_cast<std::byte>(block * 7 + static_cast<std::size_t>(seed) * 31 + 1);
  }
  std::size_t store(const BlockChain& chain, TokenId seed = 0, std::size_t first = 0) {
    Reservation room = session_->reserve(chain, first);
    std::size_t committed = 0;
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) != Reserved::kYes) continue;
      std::ranges::fill(room.writer(i).bytes(), pattern(first + i, seed));
      const Status status = room.writer(i).commit();
      EXPECT_TRUE(status) << status.error().message;
      committed += status.has_value() ? 1U : 0U;
    }
    return committed;
  }
  /// Loads and compares; how many leading blocks there were.
  std::size_t load(const BlockChain& chain, TokenId seed = 0) {
    Load load = session_->load(chain, chain.size(), std::chrono::seconds(10));
    const auto blocks = load.wait();
    outcome = load.outcome();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_TRUE(std::ranges::all_of(blocks[i].bytes(), [&](std::byte b) { return b == pattern(i, seed); })) << i;
    }
    return blocks.size();
  }
  Stats stats() { return cache_->stats(); }
  TierStats disk() { return stats().tiers[1]; }
  TierStats host() { return stats().tiers[0]; }
  Session& session() { return *session_; }
  Cache& cache() { return *cache_; }
  std::size_t run_tasks() { return executor_->run_all(); }
  detail::CacheCore& core() { return *core_; }
  MemoryFileSystem& memory() { return memory_; }
  const Clock& clock() const { return clock_; }
  Config& configuration() { return config_; }
  /// Files as the cache sees them; a test may put a decorator between.
  void wrap(WrappedFileSystem::Wrap wrap) { wrapped_.emplace(memory_, std::move(wrap)); }

  LoadOutcome outcome = LoadOutcome::kComplete;
  std::function<void()> on_wait = [] {};      ///< before a call that waits lets tasks and drivers run
  std::size_t most_waiting_deletes = 16'384;  ///< from the next start on
  std::size_t most_waiting_blocks = 0;        ///< likewise

 private:
  FileSystem& files() { return wrapped_ ? static_cast<FileSystem&>(*wrapped_) : memory_; }
  void forget() {
    cache_.reset();
    core_->check_consistency();
    core_.reset();
    copies_.reset();
    executor_.reset();
  }

  Config config_;
  const std::uint64_t block_bytes_;
  ManualClock clock_;
  LookedAtClock core_clock_{clock_};
  MemoryFileSystem memory_;
  std::optional<WrappedFileSystem> wrapped_;
  std::unique_ptr<TurningExecutor> executor_;
  std::unique_ptr<HostCopyEngine> copies_;
  std::shared_ptr<detail::CacheCore> core_;
  std::optional<Cache> cache_;
  std::optional<Session> session_;
};

}  // namespace tiercel::testing
