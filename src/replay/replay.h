// replay(): runs a workload through policies and says how many of its block uses were hits; score_of() says what part
// of the way from LRU to the optimum a policy goes. Blocking, one thread, no IO; deterministic by the seed.
#pragma once

#include "replay/replay_policy.h"
#include "replay/slice_timer.h"
#include "workload/workload.h"

#include <tiercel/result.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel {

/// The names of policies: "lru", "s3-fifo", ...; LRU first, the optimum last.
[[nodiscard]] std::span<const std::string_view> replay_policy_names();

/// A share of the workload's blocks, or a number of blocks.
struct ReplayCapacity {
  double share = 0;  ///< above 0: counts instead of `blocks`
  std::uint64_t blocks = 0;
  [[nodiscard]] std::uint64_t of(const Workload& workload) const;  ///< at least 1
};

/// What the policies are told beside blocks, times and lengths.
struct ReplayHints {
  bool session_end = false;  ///< that a request is the last of its session, with that request
};

struct ReplayOptions {
  std::vector<std::string> policies;  ///< LRU and the optimum are run with any
  std::vector<ReplayCapacity> capacities;
  std::uint64_t seed = 1;
  ReplayHints hints{};
};

struct ReplayRun {
  std::string policy;
  std::uint64_t hits = 0;
  double cpu_seconds = 0;
  SliceTimes slices{};  ///< of policies that work in slices
  std::string state;    ///< ReplayPolicy::state() at the end
  bool fell_back = false;
};

struct ReplayCell {
  ReplayCapacity asked;
  std::uint64_t capacity = 0;
  std::vector<ReplayRun> runs;  ///< in the order of replay_policy_names()
  [[nodiscard]] const ReplayRun* run_of(std::string_view policy) const;
};

struct ReplayReport {
  std::uint64_t requests = 0;
  std::uint64_t block_uses = 0;
  std::uint64_t unique_blocks = 0;
  std::vector<ReplayCell> cells;

  [[nodiscard]] double ratio(std::uint64_t hits) const;
  /// Of a cache without bounds.
  [[nodiscard]] double infinite_ratio() const;
};

/// How far a policy goes from LRU to the optimum, over cells whose gap is at least kLeastGap.
struct ReplayScore {
  double score = 0;         ///< sum of gains over sum of gaps
  double mean_closure = 0;  ///< mean of gain / gap
  std::size_t cells = 0;
};
inline constexpr double kLeastGap = 0.005;

/// (policy - LRU) / (optimum - LRU) of one cell; none where the gap is smaller than kLeastGap.
[[nodiscard]] std::optional<double> closure_of(const ReplayReport& report, const ReplayCell& cell,
                                               std::string_view policy);
[[nodiscard]] ReplayScore score_of(std::span<const ReplayReport> reports, std::string_view policy);

/// kInvalidArgument: an unknown policy, no capacity, or a workload without blocks.
[[nodiscard]] Result<ReplayReport> replay(const Workload& workload, const ReplayOptions& options);

/// One policy by name, for what is not a whole report. `next_uses` (optimum.h) is for the optimum alone; workload and
/// `next_uses` outlive the policy. Null: an unknown name.
[[nodiscard]] std::unique_ptr<ReplayPolicy> make_replay_policy(std::string_view name, std::uint64_t capacity,
                                                               const Workload& workload,
                                                               const std::vector<std::uint32_t>& next_uses,
                                                               std::uint64_t seed);
/// Hits of all requests in order.
[[nodiscard]] std::uint64_t serve_all(const Workload& workload, ReplayPolicy& policy, ReplayHints hints = {});

}  // namespace tiercel
