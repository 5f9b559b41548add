// LoadPlanning: the load planner of one cache, and what feeds it: what reads of the disk tier take, what waits for the
// device, how long engines say that their prefills take. Also the figures of plans, for people.
//
// Safe from any thread. Its mutexes are leaves: nothing is called under them but the planner, about a microsecond a
// plan. The counts of bytes are atomics. Owned by the core, which outlives what it gives out.
#pragma once

#include "base/clock.h"
#include "base/mutex.h"
#include "cache/counters.h"
#include "policy/load_planner.h"

#include <tiercel/session.h>
#include <tiercel/stats.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace tiercel::detail {

/// How long one session's engine computes.
class EnginePace {
 public:
  void add(const PrefillSpan& span, std::uint64_t ns) noexcept {
    MutexLock lock(mutex_);
    model_.add(span, ns);
  }
  [[nodiscard]] PrefillModel get() const noexcept {
    MutexLock lock(mutex_);
    return model_;
  }

 private:
  mutable Mutex mutex_;
  PrefillModel model_ TIERCEL_GUARDED_BY(mutex_);
};

/// What was decided for one load, and what it was decided by.
struct LoadPlan {
  std::vector<LoadPlanner::Run> runs;  ///< question.runs
  LoadPlanner::Question question;
  LoadPlanner::Plan plan;
  std::shared_ptr<const EnginePace> pace;
};

class LoadPlanning {
 public:
  explicit LoadPlanning(const Clock& clock) : clock_(clock) {}

  /// Decides. `draft` has all but the plan, and but what is queued.
  void decide(LoadPlan& draft) noexcept;
  /// A load is late: how much longer to wait before this is asked again; none: what has not come is left.
  [[nodiscard]] std::optional<std::uint64_t> go_on(const LoadPlan& plan,
                                                   const LoadPlanner::Progress& progress) noexcept;
  /// A load that was planned has ended.
  struct Ended {
    std::uint64_t took_ns = 0;
    std::uint64_t left_blocks = 0;  ///< beyond those that the plan left
    bool complete = false;          ///< all that was planned came
  };
  void ended(const LoadPlan& plan, const Ended& ended) noexcept;
  void add_prefill(EnginePace& pace, const PrefillTime& prefill) noexcept;
  /// A load from RAM alone took so long.
  void add_host(std::uint64_t bytes, std::uint64_t ns) noexcept;

  // What the disk tier does.
  void begin_io(std::uint64_t bytes) noexcept { queued_bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  /// It was not done.
  void drop_io(std::uint64_t bytes) noexcept { queued_bytes_.fetch_sub(bytes, std::memory_order_relaxed); }
  void end_io(std::uint64_t bytes) noexcept {
    queued_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
    served_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  }
  /// The reads that one load has begun, as one sample of the tier's speed. Whoever begins them holds one part himself.
  class Reads {
   public:
    explicit Reads(LoadPlanning& planning) noexcept
        : planning_(planning),
          started_ns_(planning.clock_.now_ns()),
          served_before_(planning.served_bytes_.load(std::memory_order_relaxed)) {}
    void add(std::uint64_t bytes) noexcept {
      parts_.fetch_add(1, std::memory_order_relaxed);
      bytes_.fetch_add(bytes, std::memory_order_relaxed);
    }
    /// One part has ended; with the last of them the sample is taken, if all of them have been read.
    void end(bool read) noexcept;

   private:
    LoadPlanning& planning_;
    const std::uint64_t started_ns_;
    const std::uint64_t served_before_;
    std::atomic<std::uint64_t> bytes_{0};  // relaxed: ordered by parts_
    std::atomic<std::uint64_t> parts_{1};  // each end (acq_rel) pairs with the last
    std::atomic<bool> failed_{false};
  };

  void add_to(Stats& stats) const noexcept;
  /// The last plan that had a choice; reason kNotKnown and nothing else before the first.
  [[nodiscard]] LoadPlanner::Plan last() const noexcept;

 private:
  /// The last so many relative errors, in thousandths.
  class Errors {
   public:
    void add(double predicted, double measured) noexcept;
    /// The median, and what nine of ten stay under.
    [[nodiscard]] std::array<std::uint64_t, 2> shares() const noexcept;

   private:
    static constexpr std::size_t kKept = 512;
    std::array<std::uint32_t, kKept> permille_{};
    std::uint64_t count_ = 0;
  };

  const Clock& clock_;
  std::atomic<std::uint64_t> queued_bytes_{0};  // relaxed: advice
  std::atomic<std::uint64_t> served_bytes_{0};
  std::array<Counter, kLoadPlans> plans_;
  Counter left_blocks_;
  Counter asked_again_;
  Counter given_up_;
  Counter probe_blocks_;
  mutable Mutex mutex_;
  LoadPlanner planner_ TIERCEL_GUARDED_BY(mutex_);
  LoadPlanner::Plan last_ TIERCEL_GUARDED_BY(mutex_){.reason = LoadPlanner::Reason::kNotKnown};
  Errors load_errors_ TIERCEL_GUARDED_BY(mutex_);
  Errors prefill_errors_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel::detail
