// Stats: a snapshot of every counter and gauge of a cache, and their Prometheus text.
//
// Counters move after the thing happened, never before. A snapshot is not atomic over all fields.
#pragma once

#include <tiercel/export.h>
#include <tiercel/session.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace tiercel {

/// A latency histogram: counts by upper bound in nanoseconds (powers of 4 from 1 us to 4^11 us, about 4 s, and the
/// rest).
struct LatencyHistogram {
  static constexpr std::size_t kBuckets = 13;
  [[nodiscard]] static constexpr std::uint64_t bound_ns(std::size_t bucket) {  // of the first 12
    return std::uint64_t{1000} << (2 * bucket);
  }
  std::array<std::uint64_t, kBuckets> counts{};
  std::uint64_t sum_ns = 0;
  [[nodiscard]] std::uint64_t count() const noexcept {
    std::uint64_t total = 0;
    for (std::uint64_t c : counts) total += c;
    return total;
  }
};

/// Of one tier.
struct TierStats {
  std::uint64_t capacity_bytes = 0;
  std::uint64_t used_bytes = 0;  ///< in slots that hold a block or are being filled
  std::uint64_t blocks = 0;      ///< ready
  std::uint64_t hit_blocks = 0;  ///< given out by loads
  std::uint64_t hit_bytes = 0;
  std::uint64_t stored_blocks = 0;  ///< committed
  std::uint64_t stored_bytes = 0;
  std::uint64_t evicted_blocks = 0;
  std::uint64_t evicted_bytes = 0;
  std::uint64_t quarantined_slots = 0;  ///< now
  std::uint64_t quarantined_bytes = 0;  ///< now
};

struct Stats {
  std::array<TierStats, kTierCount> tiers;

  std::uint64_t matches = 0;                        ///< calls
  std::uint64_t matched_blocks = 0;                 ///< summed over matches
  std::uint64_t missed_blocks = 0;                  ///< asked for by a match or a load, and not served
  std::uint64_t loads = 0;                          ///< calls
  std::array<std::uint64_t, 6> load_outcomes{};     ///< by LoadOutcome
  std::array<std::uint64_t, 6> reserve_outcomes{};  ///< blocks by Reserved
  std::uint64_t aborted_blocks = 0;                 ///< reserved and never committed
  std::uint64_t commit_failures = 0;                ///< commits that answered an error
  std::uint64_t dropped_blocks = 0;                 ///< deleted by a caller
  std::uint64_t checksum_failures = 0;
  std::uint64_t touches_shed = 0;  ///< policy touches given up under load

  std::uint64_t sessions = 0;       ///< now
  std::uint64_t namespaces = 0;     ///< now
  std::uint64_t index_entries = 0;  ///< now, stubs included
  std::uint64_t index_stubs = 0;    ///< now
  std::uint64_t index_capacity = 0;
  std::uint64_t logical_pins = 0;  ///< blocks with at least one, now
  std::uint64_t expired_pins = 0;  ///< ended by their time
  std::uint64_t copy_pins = 0;     ///< held now
  std::uint64_t extents = 0;
  std::uint64_t extents_free = 0;           ///< now
  std::uint64_t handovers = 0;              ///< extents given to another slot size
  std::uint64_t handovers_failed = 0;       ///< given up at the deadline
  std::uint64_t handover_pinned_skips = 0;  ///< extents passed over because something in them is pinned
  std::uint64_t moved_blocks = 0;           ///< to another slot, for a hand-over

  LatencyHistogram match_latency;
  LatencyHistogram reserve_latency;
  LatencyHistogram load_latency;  ///< from load() until its answer is final
  LatencyHistogram fill_latency;  ///< from reserve to commit
};

/// Prometheus text format (version 0.0.4) of a snapshot: metric names start with "tiercel_".
[[nodiscard]] TIERCEL_API std::string prometheus_text(const Stats& stats);

}  // namespace tiercel
