#include "metrics/metric.h"

#include <array>

namespace tiercel::metrics {
namespace {

constexpr std::array<std::string_view, kTierCount> kTiers = {"host", "disk", "remote"};
constexpr std::array<std::string_view, kLoadOutcomes> kLoadOutcomeNames = {"complete", "miss",   "deadline", "corrupt",
                                                                           "busy",     "closed", "slower"};
constexpr std::array<std::string_view, kLoadPlans> kPlanNames = {"all", "slower", "deadline", "engine_not_known",
                                                                 "tier_not_known"};
constexpr std::array<std::string_view, 2> kShares = {"0.5", "0.9"};
constexpr std::array<std::string_view, 6> kReserveOutcomes = {"yes",  "exists",    "in_flight",
                                                              "busy", "no_parent", "closed"};

constexpr std::array<std::string_view, 6> kDiskStates = {"starting", "on", "read_only", "off", "refused", "closed"};

constexpr Metric counter(std::string_view name, auto field, std::string_view meaning) {
  return {.name = name, .type = Type::kCounter, .meaning = meaning, .field = field};
}
constexpr Metric gauge(std::string_view name, auto field, std::string_view meaning) {
  return {.name = name, .type = Type::kGauge, .meaning = meaning, .field = field};
}
constexpr Metric by_outcome(std::string_view name, auto field, std::span<const std::string_view> outcomes,
                            std::string_view meaning) {
  return {.name = name, .type = Type::kCounter, .meaning = meaning, .field = field, .outcomes = outcomes};
}
/// What half, and what nine of ten of the last measurements stay under.
constexpr Metric error_ratio(std::string_view name, ArrayField<2> field, std::string_view meaning) {
  return {.name = name,
          .type = Type::kGauge,
          .meaning = meaning,
          .field = field,
          .outcomes = kShares,
          .label = "share",
          .unit = 1e-3};
}
constexpr Metric histogram(std::string_view name, HistogramField field, std::string_view meaning) {
  return {.name = name, .type = Type::kHistogram, .meaning = meaning, .field = field};
}

constexpr std::array kMetrics = {
    gauge("tiercel_tier_capacity_bytes", &TierStats::capacity_bytes, "size of the tier"),
    gauge("tiercel_tier_used_bytes", &TierStats::used_bytes, "bytes in slots that hold a block or are being filled"),
    gauge("tiercel_tier_blocks", &TierStats::blocks, "blocks that are ready in the tier"),
    counter("tiercel_load_blocks_total", &TierStats::hit_blocks, "blocks that loads gave out from the tier"),
    counter("tiercel_load_bytes_total", &TierStats::hit_bytes, "bytes that loads gave out from the tier"),
    counter("tiercel_store_blocks_total", &TierStats::stored_blocks, "blocks committed to the tier"),
    counter("tiercel_store_bytes_total", &TierStats::stored_bytes, "bytes committed to the tier"),
    counter("tiercel_evicted_blocks_total", &TierStats::evicted_blocks, "blocks evicted from the tier"),
    counter("tiercel_evicted_bytes_total", &TierStats::evicted_bytes, "bytes evicted from the tier"),
    gauge("tiercel_tier_quarantined_slots", &TierStats::quarantined_slots,
          "slots given up while a copy still runs in them, not yet in use again"),
    gauge("tiercel_tier_quarantined_bytes", &TierStats::quarantined_bytes, "bytes of those slots"),

    counter("tiercel_matches_total", &Stats::matches, "match calls"),
    counter("tiercel_matched_blocks_total", &Stats::matched_blocks, "blocks that matches found, summed"),
    counter("tiercel_missed_blocks_total", &Stats::missed_blocks,
            "blocks asked for by a match or a load and not served"),
    counter("tiercel_loads_total", &Stats::loads, "load calls"),
    by_outcome("tiercel_load_outcomes_total", &Stats::load_outcomes, kLoadOutcomeNames, "loads by how they ended"),
    by_outcome("tiercel_reserve_outcomes_total", &Stats::reserve_outcomes, kReserveOutcomes,
               "blocks asked for by reserve, by its answer"),
    counter("tiercel_aborted_blocks_total", &Stats::aborted_blocks, "blocks reserved and never committed"),
    counter("tiercel_commit_failures_total", &Stats::commit_failures, "commits that answered an error"),
    counter("tiercel_dropped_blocks_total", &Stats::dropped_blocks, "blocks deleted by a caller"),
    counter("tiercel_checksum_failures_total", &Stats::checksum_failures, "blocks whose bytes failed their checksum"),
    counter("tiercel_touches_shed_total", &Stats::touches_shed, "policy touches given up under load"),
    counter("tiercel_mode_refused_matches_total", &Stats::mode_refused_matches,
            "match calls answered with nothing because of a mode"),
    counter("tiercel_mode_refused_loads_total", &Stats::mode_refused_loads,
            "load calls answered with a miss because of a mode"),
    counter("tiercel_mode_refused_reserves_total", &Stats::mode_refused_reserves,
            "reserve calls answered with busy because of a mode"),

    Metric{.name = "tiercel_load_plans_total",
           .type = Type::kCounter,
           .meaning = "loads that said what is ahead of their engine, by why they asked for as many blocks as they did",
           .field = &Stats::load_plans,
           .outcomes = kPlanNames,
           .label = "reason"},
    counter("tiercel_planned_left_blocks_total", &Stats::planned_left_blocks,
            "blocks that plans left to be computed, because that is faster"),
    counter("tiercel_plans_asked_again_total", &Stats::plans_asked_again, "looks at planned loads that were late"),
    counter("tiercel_plans_given_up_total", &Stats::plans_given_up,
            "planned loads that were late and whose rest was left to be computed"),
    counter("tiercel_plan_probe_blocks_total", &Stats::plan_probe_blocks,
            "blocks read beside a request that did not wait for them, to see how fast their tier is"),
    error_ratio(
        "tiercel_load_prediction_error_ratio", &Stats::load_errors_permille,
        "difference of measured and predicted time over predicted, of planned loads of 1 ms and more: what this "
        "share of the last 512 stays under"),
    error_ratio("tiercel_prefill_prediction_error_ratio", &Stats::prefill_errors_permille,
                "the same of the prefills that engines reported"),

    gauge("tiercel_sessions", &Stats::sessions, "open sessions"),
    gauge("tiercel_namespaces", &Stats::namespaces, "namespaces known"),
    gauge("tiercel_index_entries", &Stats::index_entries, "entries of the index, stubs included"),
    gauge("tiercel_index_stubs", &Stats::index_stubs, "entries without a copy, kept for their children"),
    gauge("tiercel_index_capacity", &Stats::index_capacity, "entries that the index can hold"),
    gauge("tiercel_logical_pins", &Stats::logical_pins, "blocks with at least one logical pin"),
    counter("tiercel_expired_pins_total", &Stats::expired_pins, "logical pins ended by their time"),
    gauge("tiercel_copy_pins", &Stats::copy_pins, "copy pins held"),
    gauge("tiercel_extents", &Stats::extents, "extents of the arena"),
    gauge("tiercel_extents_free", &Stats::extents_free, "extents of the arena that hold no slots"),
    counter("tiercel_handovers_total", &Stats::handovers, "extents given to another slot size"),
    counter("tiercel_handovers_failed_total", &Stats::handovers_failed, "hand-overs given up at their deadline"),
    counter("tiercel_handover_pinned_skips_total", &Stats::handover_pinned_skips,
            "extents passed over in a hand-over because something in them is pinned"),
    counter("tiercel_moved_blocks_total", &Stats::moved_blocks, "blocks moved to another slot for a hand-over"),

    Metric{.name = "tiercel_disk_directories",
           .type = Type::kGauge,
           .meaning = "directories of the disk tier by their state",
           .field = &Stats::disk_directories,
           .outcomes = kDiskStates,
           .label = "state"},
    counter("tiercel_promoted_blocks_total", &Stats::promoted_blocks, "blocks read from disk into the arena"),
    counter("tiercel_promoted_bytes_total", &Stats::promoted_bytes, "bytes read from disk into the arena"),
    gauge("tiercel_demotions_queued", &Stats::demotions_queued, "blocks that wait to be written to disk"),
    counter("tiercel_demotions_not_admitted_total", &Stats::demotions_not_admitted,
            "blocks not worth writing to disk, by disk.admission"),
    counter("tiercel_demotions_refused_total", &Stats::demotions_refused,
            "blocks not written because there is no room, or the block before them is not on disk"),
    counter("tiercel_demotions_failed_total", &Stats::demotions_failed, "blocks whose write to disk failed"),
    counter("tiercel_disk_lost_blocks_total", &Stats::disk_lost_blocks,
            "copies on disk given up: corrupt, unreadable, or gone with their file"),
    counter("tiercel_disk_checksum_failures_total", &Stats::disk_checksum_failures,
            "blocks read from disk that failed their checksum"),
    counter("tiercel_disk_unreadable_blocks_total", &Stats::disk_unreadable_blocks,
            "reads that failed, were short, or found another block"),
    counter("tiercel_disk_recovered_blocks_total", &Stats::disk_recovered_blocks, "blocks found on disk at a start"),
    counter("tiercel_disk_orphaned_blocks_total", &Stats::disk_orphaned_blocks,
            "blocks found on disk without the block before them, and dropped"),
    gauge("tiercel_disk_corrupt_headers", &Stats::disk_corrupt_headers, "damaged headers found at the last start"),
    gauge("tiercel_disk_stale_headers", &Stats::disk_stale_headers,
          "headers of overwritten or deleted blocks found at the last start"),
    counter("tiercel_disk_late_deletes_total", &Stats::disk_late_deletes,
            "deletes answered before every directory had them in its log"),
    counter("tiercel_disk_read_operations_total", &Stats::disk_read_operations, "reads that the device was asked for"),
    counter("tiercel_disk_write_operations_total", &Stats::disk_write_operations,
            "writes that the device was asked for"),
    counter("tiercel_disk_header_pages_total", &Stats::disk_header_pages, "pages of the header table written"),
    counter("tiercel_disk_read_errors_total", &Stats::disk_read_errors, "reads that the device answered with an error"),
    counter("tiercel_disk_short_reads_total", &Stats::disk_short_reads, "reads that met the end of the file"),
    counter("tiercel_disk_write_errors_total", &Stats::disk_write_errors,
            "writes that the device answered with an error"),
    counter("tiercel_disk_deadlines_total", &Stats::disk_deadlines, "operations that took longer than they may"),
    counter("tiercel_disk_breaker_trips_total", &Stats::disk_breaker_trips, "directories switched off"),
    counter("tiercel_disk_probes_total", &Stats::disk_probes,
            "attempts to find out whether a failed directory is back"),
    gauge("tiercel_disk_in_flight", &Stats::disk_in_flight, "operations that the device has not answered"),
    gauge("tiercel_disk_queued", &Stats::disk_queued, "jobs that wait for an operation"),
    gauge("tiercel_disk_quarantined_bytes", &Stats::disk_quarantined_bytes,
          "bytes of operations that are late and have not ended"),
    counter("tiercel_disk_tombstones_total", &Stats::disk_tombstones, "deletes written to a log"),

    histogram("tiercel_match_latency_seconds", &Stats::match_latency, "time of a match"),
    histogram("tiercel_reserve_latency_seconds", &Stats::reserve_latency, "time of a reserve"),
    histogram("tiercel_load_latency_seconds", &Stats::load_latency, "time from a load until its answer is final"),
    histogram("tiercel_fill_latency_seconds", &Stats::fill_latency, "time from the reserve of a block to its commit"),
    histogram("tiercel_demotion_latency_seconds", &Stats::demotion_latency,
              "time from a block's turn to be written to disk until it is acknowledged"),
};

}  // namespace

std::span<const Metric> metrics() noexcept { return kMetrics; }

std::string_view type_name(Type type) noexcept {
  switch (type) {
    case Type::kCounter:
      return "counter";
    case Type::kGauge:
      return "gauge";
    case Type::kHistogram:
      return "histogram";
  }
  return "";
}

std::span<const std::string_view> tier_names() noexcept { return kTiers; }

}  // namespace tiercel::metrics
