// HeldCopyEngine: a CopyEngine that keeps jobs back until a test lets them go, in the order that the test picks.
//
// A held job has been taken, but none of its bytes has moved: what reuses its memory meanwhile is caught by the bytes
// that arrive late. release() hands it to the inner engine, which completes it. Wraps any engine and owns none; the
// inner engine and the executor outlive it. Safe from any thread. Destruction releases what is held and waits for it.
#pragma once

#include "base/check.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "transfer/copy_engine.h"

#include <cstddef>
#include <deque>
#include <memory>
#include <utility>

namespace tiercel {

class HeldCopyEngine final : public CopyEngine {
 public:
  HeldCopyEngine(CopyEngine& inner, Executor& executor, std::size_t max_held = 1024)
      : inner_(inner), executor_(executor), max_held_(max_held) {}
  HeldCopyEngine(const HeldCopyEngine&) = delete;
  HeldCopyEngine& operator=(const HeldCopyEngine&) = delete;
  ~HeldCopyEngine() override {
    close();
    const bool empty = executor_.wait_until([this] { return release_all(); }, UINT64_MAX);
    TIERCEL_CHECK(empty, "held copies that their engine never takes");
  }

  void close() noexcept override {
    const MutexLock lock(mutex_);
    closed_ = true;
  }
  [[nodiscard]] std::uint64_t in_flight() const noexcept override {
    const std::uint64_t here = held();  // first: a job that is released meanwhile counts twice, never not at all
    return here + inner_.in_flight();
  }

  [[nodiscard]] std::size_t held() const noexcept {
    const MutexLock lock(mutex_);
    return jobs_.size();
  }
  /// Hands held job `i` (0 = oldest) to the inner engine. False, and it stays held, if there is none or the inner
  /// engine is busy.
  bool release(std::size_t i = 0) {
    const MutexLock lock(mutex_);
    if (i >= jobs_.size() || !inner_.submit(std::move(jobs_[i]))) return false;
    jobs_.erase(jobs_.begin() + static_cast<std::ptrdiff_t>(i));
    return true;
  }
  /// True if nothing is held any more.
  bool release_all() {
    while (release()) {
    }
    return held() == 0;
  }

 private:
  [[nodiscard]] bool submit_impl(CopyJob& job) override {
    const MutexLock lock(mutex_);
    if (closed_ || jobs_.size() == max_held_) return false;
    jobs_.push_back(std::move(job));
    return true;
  }

  CopyEngine& inner_;
  Executor& executor_;
  const std::size_t max_held_;
  mutable Mutex mutex_;
  std::deque<CopyJob> jobs_ TIERCEL_GUARDED_BY(mutex_);
  bool closed_ TIERCEL_GUARDED_BY(mutex_) = false;
};

}  // namespace tiercel
