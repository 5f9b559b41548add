// The Session of a cache in the same process that has a disk tier: with real threads on a real directory, and with
// every task and every turn of the disk's driver run by hand over files in memory.
#include "base/testing/pass_queue.h"
#include "cache/core.h"
#include "cache/disk_drivers.h"
#include "cache/local_session.h"
#include "cache/testing/disk_world.h"
#include "io/system_file_system.h"
#include "tests/contract/session_contract.h"
#include "transfer/host_copy_engine.h"

#include <cstdlib>
#include <filesystem>
#include <memory>

namespace tiercel::contract {
namespace {

constexpr std::uint64_t kDiskBytes = 16_MiB;

Config on_disk(Config config, const std::string& directory) {
  config.disk.directories = {directory};
  config.disk.capacity = kDiskBytes;
  config.limits.load_percent = 0;  // as where there is no disk: the tests fill the arena to its last slot
  return config;
}

std::string temporary_directory() {
  std::string name = (std::filesystem::temp_directory_path() / "tiercel-contract-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  return name;
}

class ThreadedDiskWorld final : public World {
 public:
  explicit ThreadedDiskWorld(const Config& config)
      : directory_(temporary_directory()),
        executor_({.threads = 2}, clock_),
        copies_(executor_),
        files_(std::make_shared<SystemFileSystem>(IoEngine::kAuto)),
        core_(*detail::CacheCore::create(
            on_disk(config, directory_),
            {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7, .files = files_.get()})),
        cache_(core_, nullptr) {
    drivers_.start(core_, files_);
    (void)cache_.wait_for_disks(std::chrono::seconds(20));
  }
  ~ThreadedDiskWorld() override {
    close();
    (void)drivers_.stop(*core_, std::chrono::seconds(20));
    std::filesystem::remove_all(directory_);
  }
  Result<Session> open(const SessionOptions& options) override { return cache_.open_session(options); }
  [[nodiscard]] bool has_disk() const override { return true; }
  Stats stats() override { return cache_.stats(); }
  void settle() override {
    // Tasks queue tasks and writes, whose ends queue tasks: quiet is when there is nothing of either, several times.
    const std::uint64_t end_ns = clock_.now_ns() + 20'000'000'000U;
    for (int quiet = 0; quiet < 20 && clock_.now_ns() < end_ns; ++quiet) {
      pass_queue(executor_);
      const Stats now = cache_.stats();
      if (now.demotions_queued + now.disk_queued + now.disk_in_flight > 0) quiet = 0;
    }
  }
  void set_mode(Mode mode) override { cache_.set_mode(mode); }
  void close() override { (void)cache_.close(std::chrono::nanoseconds(0)); }

 private:
  const std::string directory_;
  SteadyClock clock_;
  ThreadedExecutor executor_;
  HostCopyEngine copies_;
  std::shared_ptr<SystemFileSystem> files_;
  std::shared_ptr<detail::CacheCore> core_;
  Cache cache_;
  detail::DiskDrivers drivers_;
};

class ManualDiskWorld final : public World {
 public:
  explicit ManualDiskWorld(const Config& config)
      : executor_(clock_, [this] { turn(); }, [] {}), copies_(executor_), cache_(nullptr, nullptr) {
    files_.make_directory("/disk");
    core_ = *detail::CacheCore::create(
        on_disk(config, "/disk"),
        {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7, .files = &files_});
    cache_ = Cache(core_, nullptr);
    settle();
  }
  ~ManualDiskWorld() override {
    close();
    for (int i = 0; i < 1000 && core_->step_disk(0, 0); ++i) executor_.run_all();
  }
  Result<Session> open(const SessionOptions& options) override { return cache_.open_session(options); }
  [[nodiscard]] bool has_disk() const override { return true; }
  Stats stats() override { return cache_.stats(); }
  void settle() override {
    for (int i = 0; i < 100; ++i) {
      executor_.run_all();
      turn();
    }
    executor_.run_all();
    clock_.advance(1'000'000);  // steps of a conversation take time
    core_->check_consistency();
  }
  bool advance(std::chrono::nanoseconds by) override {
    clock_.advance(static_cast<std::uint64_t>(by.count()));
    return true;
  }
  void set_mode(Mode mode) override { cache_.set_mode(mode); }
  void close() override { (void)cache_.close(std::chrono::nanoseconds(0)); }

 private:
  void turn() {
    if (core_) (void)core_->step_disk(0, 0);
  }

  ManualClock clock_;
  testing::TurningExecutor executor_;
  HostCopyEngine copies_;
  MemoryFileSystem files_;
  std::shared_ptr<detail::CacheCore> core_;
  Cache cache_;
};

}  // namespace

std::vector<WorldKind> world_kinds() {
  return {
      {.name = "threaded_with_disk", .make = [](const Config& c) { return std::make_unique<ThreadedDiskWorld>(c); }},
      {.name = "by_hand_with_disk", .make = [](const Config& c) { return std::make_unique<ManualDiskWorld>(c); }}};
}

}  // namespace tiercel::contract
