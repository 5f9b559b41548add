// SimCopyEngine: a CopyEngine whose jobs wait as long as the seed says and move in two halves, so that whatever reuses
// a slot under a copy is seen. Moves plain ranges only, which is all that the core copies; plans are the engines' own.
// An actor of the scheduler. One thread.
#pragma once

#include "base/random.h"
#include "sim/scheduler.h"
#include "transfer/copy_engine.h"

#include <cstdint>
#include <deque>

namespace tiercel::sim {

class SimCopyEngine final : public CopyEngine, public Actor {
 public:
  SimCopyEngine(Trace& trace, std::uint64_t seed, std::size_t max_jobs = 64)
      : trace_(trace), random_(seed), max_jobs_(max_jobs) {}
  SimCopyEngine(const SimCopyEngine&) = delete;
  SimCopyEngine& operator=(const SimCopyEngine&) = delete;
  /// Completes what is left.
  ~SimCopyEngine() override;

  void close() noexcept override { closed_ = true; }
  [[nodiscard]] std::uint64_t in_flight() const noexcept override { return jobs_.size() + completing_; }

  [[nodiscard]] bool runnable() override { return !jobs_.empty(); }
  bool run() override;

 private:
  struct Moving {
    ByteCopy copy;
    CopyDone done;
    std::uint64_t moved = 0;
  };
  [[nodiscard]] bool submit_impl(CopyJob& job) override;

  Trace& trace_;
  Random random_;
  const std::size_t max_jobs_;
  std::deque<Moving> jobs_;
  std::uint64_t completing_ = 0;
  bool closed_ = false;
};

}  // namespace tiercel::sim
