// The Session of a cache in the same process: with real threads, and with every task run by hand.
#include "base/testing/pass_queue.h"
#include "cache/core.h"
#include "cache/local_session.h"
#include "tests/contract/session_contract.h"
#include "transfer/host_copy_engine.h"

#include <memory>

namespace tiercel::contract {
namespace {

class ThreadedWorld final : public World {
 public:
  explicit ThreadedWorld(const Config& config)
      : executor_({.threads = 2}, clock_),
        copies_(executor_),
        core_(
            *detail::CacheCore::create(config, {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7})),
        cache_(core_, nullptr) {}
  Result<Session> open(const SessionOptions& options) override { return cache_.open_session(options); }
  Stats stats() override { return cache_.stats(); }
  void settle() override {
    // Tasks queue tasks: quiet is when a task that was queued last found no other, several times in a row.
    for (int i = 0; i < 20; ++i) pass_queue(executor_);
  }
  void set_mode(Mode mode) override { cache_.set_mode(mode); }
  void close() override { (void)cache_.close(std::chrono::nanoseconds(0)); }
  ~ThreadedWorld() override { (void)cache_.close(std::chrono::nanoseconds(0)); }

 private:
  SteadyClock clock_;
  ThreadedExecutor executor_;
  HostCopyEngine copies_;
  std::shared_ptr<detail::CacheCore> core_;
  Cache cache_;
};

class ManualWorld final : public World {
 public:
  explicit ManualWorld(const Config& config)
      : executor_(clock_),
        copies_(executor_),
        core_(
            *detail::CacheCore::create(config, {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7})),
        cache_(core_, nullptr) {}
  ~ManualWorld() override { (void)cache_.close(std::chrono::nanoseconds(0)); }
  Result<Session> open(const SessionOptions& options) override { return cache_.open_session(options); }
  Stats stats() override { return cache_.stats(); }
  void settle() override {
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
  ManualClock clock_;
  ManualExecutor executor_;
  HostCopyEngine copies_;
  std::shared_ptr<detail::CacheCore> core_;
  Cache cache_;
};

}  // namespace

std::vector<WorldKind> world_kinds() {
  return {{.name = "threaded", .make = [](const Config& c) { return std::make_unique<ThreadedWorld>(c); }},
          {.name = "by_hand", .make = [](const Config& c) { return std::make_unique<ManualWorld>(c); }}};
}

}  // namespace tiercel::contract
