// Stats: a snapshot of every counter and gauge of a cache, and their Prometheus text.
//
// Counters move after the thing happened, never before. A snapshot is not atomic over all fields.
#pragma once

#include <tiercel/export.h>
#include <tiercel/session.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
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

/// Why a planned load asks for as many blocks as it does.
enum class LoadPlanned : std::uint8_t {
  kAll = 0,             ///< loading all is fastest
  kSlower = 1,          ///< computing what is left is faster
  kDeadline = 2,        ///< what is left would come after the deadline
  kEngineNotKnown = 3,  ///< all, for the engine has not said how long it computes
  kTierNotKnown = 4,    ///< all, for one of their tiers has not been read yet
};
inline constexpr std::size_t kLoadPlans = 5;

struct Stats {
  std::array<TierStats, kTierCount> tiers;

  std::uint64_t matches = 0;                                 ///< calls
  std::uint64_t matched_blocks = 0;                          ///< summed over matches
  std::uint64_t missed_blocks = 0;                           ///< asked for by a match or a load, and not served
  std::uint64_t loads = 0;                                   ///< calls
  std::array<std::uint64_t, kLoadOutcomes> load_outcomes{};  ///< by LoadOutcome
  std::array<std::uint64_t, 6> reserve_outcomes{};           ///< blocks by Reserved
  std::uint64_t aborted_blocks = 0;                          ///< reserved and never committed
  std::uint64_t commit_failures = 0;                         ///< commits that answered an error
  std::uint64_t dropped_blocks = 0;                          ///< deleted by a caller
  std::uint64_t checksum_failures = 0;
  std::uint64_t touches_shed = 0;          ///< policy touches given up under load
  std::uint64_t mode_refused_matches = 0;  ///< calls that the mode answered; they count nowhere else
  std::uint64_t mode_refused_loads = 0;
  std::uint64_t mode_refused_reserves = 0;

  // Loads that said what is ahead of their engine.
  std::array<std::uint64_t, kLoadPlans> load_plans{};  ///< by LoadPlanned
  std::uint64_t planned_left_blocks = 0;               ///< left to be computed, by plans
  std::uint64_t plans_asked_again = 0;                 ///< while their load was late
  std::uint64_t plans_given_up = 0;                    ///< then: what had not come was left
  std::uint64_t plan_probe_blocks = 0;                 ///< read beside a request, to see how fast their tier is
  /// |measured - predicted| / predicted of the last 512, in thousandths: the median, and what nine of ten stay under.
  std::array<std::uint64_t, 2> load_errors_permille{};     ///< of loads of a millisecond and more
  std::array<std::uint64_t, 2> prefill_errors_permille{};  ///< of what engines reported

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

  // The disk tier, over its directories.
  std::array<std::uint64_t, 6> disk_directories{};  ///< by DiskDirectoryState, now
  std::uint64_t promoted_blocks = 0;                ///< read from disk into the arena
  std::uint64_t promoted_bytes = 0;
  std::uint64_t demotions_queued = 0;        ///< blocks that wait to be written to disk, now
  std::uint64_t demotions_not_admitted = 0;  ///< not worth writing, by disk.admission
  std::uint64_t demotions_refused = 0;       ///< no room on disk, or the block before it is not there
  std::uint64_t demotions_failed = 0;        ///< the write failed
  std::uint64_t disk_lost_blocks = 0;        ///< copies given up: corrupt, unreadable, or gone with their file
  std::uint64_t disk_checksum_failures = 0;
  std::uint64_t disk_unreadable_blocks = 0;  ///< reads that failed, were short, or found another block
  std::uint64_t disk_recovered_blocks = 0;   ///< found at a start
  std::uint64_t disk_orphaned_blocks = 0;    ///< found without the block before them, and dropped
  std::uint64_t disk_corrupt_headers = 0;    ///< at the last start
  std::uint64_t disk_stale_headers = 0;      ///< at the last start: overwritten or deleted
  std::uint64_t disk_late_deletes = 0;       ///< answered before every directory had them in its log
  std::uint64_t disk_read_operations = 0;
  std::uint64_t disk_write_operations = 0;
  std::uint64_t disk_header_pages = 0;  ///< written
  std::uint64_t disk_read_errors = 0;
  std::uint64_t disk_short_reads = 0;
  std::uint64_t disk_write_errors = 0;
  std::uint64_t disk_deadlines = 0;  ///< operations that took longer than they may
  std::uint64_t disk_breaker_trips = 0;
  std::uint64_t disk_probes = 0;             ///< of directories that had failed
  std::uint64_t disk_in_flight = 0;          ///< operations, now
  std::uint64_t disk_queued = 0;             ///< jobs that wait for an operation, now
  std::uint64_t disk_quarantined_bytes = 0;  ///< of operations that are late and have not ended, now
  std::uint64_t disk_tombstones = 0;         ///< deletes written to a log

  LatencyHistogram match_latency;
  LatencyHistogram reserve_latency;
  LatencyHistogram load_latency;      ///< from load() until its answer is final
  LatencyHistogram fill_latency;      ///< from reserve to commit
  LatencyHistogram demotion_latency;  ///< from a block's turn to be written to disk until it is acknowledged
};

/// What one tenant has in one tier, and did there.
struct TenantTierReport {
  std::uint64_t used_bytes = 0;  ///< in slots that hold its blocks, are being filled, or wait in quarantine
  std::uint64_t guarantee_bytes = 0;
  std::uint64_t cap_bytes = 0;
  std::uint64_t hit_blocks = 0;
  std::uint64_t hit_bytes = 0;
  std::uint64_t stored_blocks = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t evicted_blocks = 0;
  std::uint64_t evicted_bytes = 0;
};

/// Stand for several tenants in reports: those without an account of their own, and blocks on disk whose tenant no
/// session has named yet.
inline constexpr std::string_view kOtherTenantsName = "(other)";
inline constexpr std::string_view kUnnamedTenants = "(unnamed)";

/// One tenant. Over all of them, used_bytes of a tier sum up to the tier's, but for what changed between two looks.
struct TenantReport {
  std::string name;
  bool configured = false;  ///< has settings
  std::uint64_t namespaces = 0;
  std::uint64_t pinned_bytes = 0;  ///< of the host tier, by logical pins
  std::uint64_t pinned_cap_bytes = 0;
  std::array<TenantTierReport, kTierCount> tiers{};
};

enum class DiskDirectoryState : std::uint8_t {
  kStarting = 0,  ///< not opened yet, or being indexed: what was found is served
  kOn = 1,
  kReadOnly = 2,  ///< writes fail
  kOff = 3,       ///< reads fail or stall
  kRefused = 4,   ///< the file is not ours to use
  kClosed = 5,
};
inline constexpr std::size_t kDiskDirectoryStates = 6;

/// "starting", "on", "read_only", "off", "refused", "closed".
[[nodiscard]] TIERCEL_API std::string_view disk_state_name(DiskDirectoryState state) noexcept;

/// One directory of the disk tier, for people.
struct DiskReport {
  std::string directory;
  DiskDirectoryState state = DiskDirectoryState::kStarting;
  std::string cause;               ///< of a state that is not kOn; empty if there is none
  bool indexed = false;            ///< all that was in the file at the start is known
  std::uint64_t found_blocks = 0;  ///< at the start
  std::uint64_t found_bytes = 0;
  std::uint64_t indexed_ns = 0;  ///< from the opening of the file until it was indexed
};

/// Prometheus text format (version 0.0.4) of a snapshot: metric names start with "tiercel_".
[[nodiscard]] TIERCEL_API std::string prometheus_text(const Stats& stats);

}  // namespace tiercel
