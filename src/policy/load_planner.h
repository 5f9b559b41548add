// LoadPlanner: how many leading blocks of a match to load, so that the expected time to first token is least. What is
// not loaded, the engine computes.
//
// It knows how long each tier takes for so many bytes (latency + bytes over bandwidth, those queued ahead included),
// learnt from reads, and asks a PrefillModel what computing takes. The time of a choice of n blocks is their load, the
// copy to the engine, and the computing of the rest, which also keeps other requests waiting. Computing gets dearer the
// deeper a block lies and loading does not, so the least lies at the end of a run of blocks of one tier, or where the
// deadline cuts: few places are compared. Unknown is optimistic: a tier, or an engine, that was never measured is
// loaded from, but no wait is longer than what it can save (go_on), so what is not as expected costs little.
//
// Near the break-even a tier keeps the side it is on until the other is better by kMargin of the time. A tier whose
// blocks are left gets a probe now and then: a few of the blocks left are read beside the request, which does not wait.
//
// Deterministic: time as an argument; no clock, no IO, no locks; one thread. A plan of r runs costs r predictions.
#pragma once

#include "policy/fitted_times.h"
#include "policy/prefill_model.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace tiercel {

class LoadPlanner {
 public:
  static constexpr std::size_t kTiers = 3;
  static constexpr double kMargin = 0.02;

  /// Consecutive blocks that come from one tier.
  struct Run {
    std::size_t tier = 0;  ///< below kTiers
    std::uint64_t blocks = 0;
  };

  struct Question {
    std::span<const Run> runs;  ///< of the match, head first
    std::uint64_t block_bytes = 0;
    std::uint64_t block_tokens = 1;
    std::uint64_t prompt_tokens = 0;   ///< of the whole prompt; at least one is computed
    std::uint64_t context_tokens = 0;  ///< leading, that the engine has itself
    std::uint64_t waiting = 0;         ///< other requests that wait for the engine while it computes
    double copy_bytes_per_second = 0;  ///< from the arena to the engine's own memory; 0: not known, counts nothing
    std::uint64_t deadline_ns = UINT64_MAX;            ///< from now on, of the load
    std::array<std::uint64_t, kTiers> queued_bytes{};  ///< reads and writes of each tier that come first
  };

  enum class Reason : std::uint8_t {
    kAll = 0,       ///< loading all is fastest
    kSlower = 1,    ///< computing the blocks left is faster
    kDeadline = 2,  ///< the blocks left would come after the deadline
    kNotKnown = 3,  ///< loading all, for the engine has not said how fast it computes
    kNotTried = 4,  ///< loading all, and a tier of it was never measured
  };
  static constexpr std::size_t kReasons = 5;
  /// "all", "slower", "deadline", "engine_not_known", "tier_not_known".
  [[nodiscard]] static std::string_view reason_name(Reason reason) noexcept;

  struct Plan {
    std::uint64_t blocks = 0;        ///< leading, to be loaded
    std::uint64_t left_blocks = 0;   ///< of the match, to be computed
    std::uint64_t probe_blocks = 0;  ///< behind `blocks`: to be read without waiting for them
    Reason reason = Reason::kAll;
    double load_ns = 0;         ///< expected, of `blocks`; 0 with a tier that was never measured
    double compute_ns = 0;      ///< expected, of what is left
    double compute_all_ns = 0;  ///< expected with nothing loaded; 0: the engine is not known
  };
  [[nodiscard]] Plan plan(const PrefillModel& engine, const Question& question, std::uint64_t now_ns);

  /// A load that takes longer than expected.
  struct Progress {
    std::uint64_t asked_blocks = 0;  ///< plan.blocks
    std::uint64_t ready_blocks = 0;  ///< leading, now
    std::uint64_t host_blocks = 0;   ///< of those ready, that were there at once
    std::uint64_t elapsed_ns = 0;    ///< since the load began
  };
  /// How much longer to wait before this is asked again; none: the engine computes sooner what has not come. What comes
  /// at the pace so far is waited for while that is less than computing it, and nothing longer than that saves.
  [[nodiscard]] static std::optional<std::uint64_t> go_on(const PrefillModel& engine, const Question& question,
                                                          const Progress& progress);
  /// When to ask that first, after the load's begin.
  [[nodiscard]] static std::uint64_t first_look_ns(const Question& question, const Plan& plan);

  /// A read of so many bytes from a tier, `other_bytes` of which the tier moved meanwhile for others, took so long.
  struct Read {
    std::size_t tier = 0;
    std::uint64_t bytes = 0;
    std::uint64_t other_bytes = 0;
    std::uint64_t ns = 0;
  };
  void add(const Read& read) noexcept;

  /// Nanoseconds; 0: the tier was never measured.
  [[nodiscard]] double predict_ns(std::size_t tier, std::uint64_t bytes, std::uint64_t queued_bytes) const noexcept;
  [[nodiscard]] bool is_known(std::size_t tier) const noexcept { return tiers_[tier].times.samples() > 0; }
  /// As learnt: 0 where nothing was.
  struct TierSpeed {
    double latency_ns = 0;
    double bytes_per_second = 0;
  };
  [[nodiscard]] TierSpeed speed(std::size_t tier) const noexcept;

 private:
  struct Tier {
    FittedTimes<2> times{1};
    bool left = false;                // by the last plan that had blocks of it
    bool faster = false;              // its last read took far less than expected: probed at once
    std::uint64_t next_probe_ns = 0;  // of the plans' time
    std::uint64_t probes = 0;
  };
  /// Leading blocks, by tier.
  struct Part {
    std::array<std::uint64_t, kTiers> of_tier{};
    std::uint64_t blocks = 0;
    void add(std::size_t tier, std::uint64_t count) noexcept {
      of_tier[tier] += count;
      blocks += count;
    }
  };
  struct Choice {
    Part part;
    double load_ns = 0;
    double compute_ns = 0;
    double cost = 0;
  };
  [[nodiscard]] Choice weigh(const PrefillModel& engine, const Question& question, const Part& part,
                             const Part& all) const noexcept;
  [[nodiscard]] double load_ns(const Question& question, const Part& part) const noexcept;
  [[nodiscard]] std::uint64_t in_time(const Question& question, const Part& before, const Run& run) const noexcept;
  [[nodiscard]] std::uint64_t probe(const Question& question, const Part& planned, std::uint64_t now_ns) noexcept;

  std::array<Tier, kTiers> tiers_{};
};

}  // namespace tiercel
