// Goal: the contract of CopyEngine, run by the host engine on both executors and by the decorator that holds back.
#include "transfer/testing/copy_engine_contract.h"
#include "base/executor.h"
#include "transfer/held_copy_engine.h"
#include "transfer/host_copy_engine.h"

#include <gtest/gtest.h>

#include <optional>

namespace tiercel::transfer_contract {
namespace {

const HostCopyOptions kOptions{.max_jobs = kMaxJobs, .slice_bytes = 1U << 16U, .stream_min_bytes = 4096};

class ManualHost {
 public:
  using Memory = HostMemory;
  static constexpr bool kStands = true;
  CopyEngine& engine() { return *engine_; }
  void drop_engine() { engine_.reset(); }
  bool settle(const std::function<bool()>& ready) { return executor_.wait_until(ready, UINT64_MAX); }

 private:
  ManualClock clock_;
  ManualExecutor executor_{clock_};
  std::optional<HostCopyEngine> engine_{std::in_place, executor_, kOptions};
};

class ThreadedHost {
 public:
  using Memory = HostMemory;
  static constexpr bool kStands = false;
  CopyEngine& engine() { return *engine_; }
  void drop_engine() { engine_.reset(); }
  bool settle(const std::function<bool()>& ready) { return executor_.wait_until(ready, UINT64_MAX); }

 private:
  SteadyClock clock_;
  ThreadedExecutor executor_{{.threads = 3}, clock_};
  std::optional<HostCopyEngine> engine_{std::in_place, executor_, kOptions};
};

/// Releases what is held last in, first out.
class HeldHost {
 public:
  using Memory = HostMemory;
  static constexpr bool kStands = false;
  CopyEngine& engine() { return *held_; }
  void drop_engine() {
    held_.reset();
    inner_.reset();
  }
  bool settle(const std::function<bool()>& ready) {
    return executor_.wait_until(
        [&] {
          while (held_ && held_->held() > 0 && held_->release(held_->held() - 1)) {
          }
          return ready();
        },
        UINT64_MAX);
  }

 private:
  SteadyClock clock_;
  ThreadedExecutor executor_{{.threads = 2}, clock_};
  std::optional<HostCopyEngine> inner_{std::in_place, executor_, kOptions};
  std::optional<HeldCopyEngine> held_{std::in_place, *inner_, executor_, kMaxJobs};
};

using Environments = testing::Types<ManualHost, ThreadedHost, HeldHost>;
INSTANTIATE_TYPED_TEST_SUITE_P(Host, CopyEngineContract, Environments);

}  // namespace
}  // namespace tiercel::transfer_contract
