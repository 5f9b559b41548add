// Stats: a snapshot of every counter and gauge of a cache.
#include "bind.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <tiercel/stats.h>

#include <vector>

namespace tiercel::python {
namespace {

void bind_parts(nb::module_& module) {
  nb::class_<LatencyHistogram>(module, "LatencyHistogram", "Counts by upper bound.")
      .def_ro("counts", &LatencyHistogram::counts, "Of each bucket; the last is what no bound holds.")
      .def_ro("sum_ns", &LatencyHistogram::sum_ns)
      .def_prop_ro("count", &LatencyHistogram::count)
      .def_prop_ro_static(
          "bounds_ns",
          [](nb::handle /*type*/) {
            std::vector<std::uint64_t> bounds;
            for (std::size_t i = 0; i + 1 < LatencyHistogram::kBuckets; ++i)
              bounds.push_back(LatencyHistogram::bound_ns(i));
            return bounds;
          },
          "The upper bounds in nanoseconds, of all buckets but the last.");
  nb::class_<TierStats>(module, "TierStats", "Of one tier.")
      .def_ro("capacity_bytes", &TierStats::capacity_bytes)
      .def_ro("used_bytes", &TierStats::used_bytes, "In slots that hold a block or are being filled.")
      .def_ro("blocks", &TierStats::blocks, "Ready.")
      .def_ro("hit_blocks", &TierStats::hit_blocks, "Given out by loads.")
      .def_ro("hit_bytes", &TierStats::hit_bytes)
      .def_ro("stored_blocks", &TierStats::stored_blocks, "Committed.")
      .def_ro("stored_bytes", &TierStats::stored_bytes)
      .def_ro("evicted_blocks", &TierStats::evicted_blocks)
      .def_ro("evicted_bytes", &TierStats::evicted_bytes)
      .def_ro("quarantined_slots", &TierStats::quarantined_slots, "Now.")
      .def_ro("quarantined_bytes", &TierStats::quarantined_bytes, "Now.");
}

}  // namespace

void bind_stats(nb::module_& module) {
  bind_parts(module);
  nb::class_<Stats>(module, "Stats",
                    "Counters move after the thing happened, never before. A snapshot is not atomic over all fields.")
      .def_ro("tiers", &Stats::tiers)
      .def_ro("matches", &Stats::matches, "Calls.")
      .def_ro("matched_blocks", &Stats::matched_blocks, "Summed over matches.")
      .def_ro("missed_blocks", &Stats::missed_blocks, "Asked for by a match or a load, and not served.")
      .def_ro("loads", &Stats::loads, "Calls.")
      .def_ro("load_outcomes", &Stats::load_outcomes, "By LoadOutcome.")
      .def_ro("reserve_outcomes", &Stats::reserve_outcomes, "Blocks by Reserved.")
      .def_ro("aborted_blocks", &Stats::aborted_blocks, "Reserved and never committed.")
      .def_ro("commit_failures", &Stats::commit_failures, "Commits that answered an error.")
      .def_ro("dropped_blocks", &Stats::dropped_blocks, "Deleted by a caller.")
      .def_ro("checksum_failures", &Stats::checksum_failures)
      .def_ro("touches_shed", &Stats::touches_shed, "Policy touches given up under load.")
      .def_ro("mode_refused_matches", &Stats::mode_refused_matches,
              "Calls that the mode answered; they count nowhere else.")
      .def_ro("mode_refused_loads", &Stats::mode_refused_loads)
      .def_ro("mode_refused_reserves", &Stats::mode_refused_reserves)
      .def_ro(
          "load_plans", &Stats::load_plans,
          "Loads that said what is ahead, by why they asked for as many blocks as they did: all is fastest, the rest "
          "is slower, the deadline, the engine is not known, a tier is not known.")
      .def_ro("planned_left_blocks", &Stats::planned_left_blocks, "Left to be computed, by plans.")
      .def_ro("plans_asked_again", &Stats::plans_asked_again, "While their load was late.")
      .def_ro("plans_given_up", &Stats::plans_given_up, "Then: what had not come was left.")
      .def_ro("plan_probe_blocks", &Stats::plan_probe_blocks, "Read beside a request, to see how fast their tier is.")
      .def_ro(
          "load_errors_permille", &Stats::load_errors_permille,
          "|measured - predicted| / predicted of the last planned loads, in thousandths: the median, and what nine of "
          "ten stay under.")
      .def_ro("prefill_errors_permille", &Stats::prefill_errors_permille, "The same of reported prefills.")
      .def_ro("sessions", &Stats::sessions, "Now.")
      .def_ro("namespaces", &Stats::namespaces, "Now.")
      .def_ro("index_entries", &Stats::index_entries, "Now, stubs included.")
      .def_ro("index_stubs", &Stats::index_stubs, "Now.")
      .def_ro("index_capacity", &Stats::index_capacity)
      .def_ro("logical_pins", &Stats::logical_pins, "Blocks with at least one, now.")
      .def_ro("expired_pins", &Stats::expired_pins, "Ended by their time.")
      .def_ro("copy_pins", &Stats::copy_pins, "Held now.")
      .def_ro("extents", &Stats::extents)
      .def_ro("extents_free", &Stats::extents_free, "Now.")
      .def_ro("handovers", &Stats::handovers, "Extents given to another slot size.")
      .def_ro("handovers_failed", &Stats::handovers_failed, "Given up at the deadline.")
      .def_ro("handover_pinned_skips", &Stats::handover_pinned_skips,
              "Extents passed over because something in them is pinned.")
      .def_ro("moved_blocks", &Stats::moved_blocks, "To another slot, for a hand-over.")
      .def_ro("disk_directories", &Stats::disk_directories, "By DiskDirectoryState, now.")
      .def_ro("promoted_blocks", &Stats::promoted_blocks, "Read from disk into the arena.")
      .def_ro("promoted_bytes", &Stats::promoted_bytes)
      .def_ro("demotions_queued", &Stats::demotions_queued, "Blocks that wait to be written to disk, now.")
      .def_ro("demotions_not_admitted", &Stats::demotions_not_admitted, "Not worth writing, by disk.admission.")
      .def_ro("demotions_refused", &Stats::demotions_refused, "No room on disk, or the block before it is not there.")
      .def_ro("demotions_failed", &Stats::demotions_failed, "The write failed.")
      .def_ro("disk_lost_blocks", &Stats::disk_lost_blocks,
              "Copies given up: corrupt, unreadable, or gone with their file.")
      .def_ro("disk_checksum_failures", &Stats::disk_checksum_failures)
      .def_ro("disk_unreadable_blocks", &Stats::disk_unreadable_blocks,
              "Reads that failed, were short, or found another block.")
      .def_ro("disk_recovered_blocks", &Stats::disk_recovered_blocks, "Found at a start.")
      .def_ro("disk_orphaned_blocks", &Stats::disk_orphaned_blocks, "Found without the block before them, and dropped.")
      .def_ro("disk_corrupt_headers", &Stats::disk_corrupt_headers, "At the last start.")
      .def_ro("disk_stale_headers", &Stats::disk_stale_headers, "At the last start: overwritten or deleted.")
      .def_ro("disk_late_deletes", &Stats::disk_late_deletes, "Answered before every directory had them in its log.")
      .def_ro("disk_read_operations", &Stats::disk_read_operations)
      .def_ro("disk_write_operations", &Stats::disk_write_operations)
      .def_ro("disk_header_pages", &Stats::disk_header_pages, "Written.")
      .def_ro("disk_read_errors", &Stats::disk_read_errors)
      .def_ro("disk_short_reads", &Stats::disk_short_reads)
      .def_ro("disk_write_errors", &Stats::disk_write_errors)
      .def_ro("disk_deadlines", &Stats::disk_deadlines, "Operations that took longer than they may.")
      .def_ro("disk_breaker_trips", &Stats::disk_breaker_trips)
      .def_ro("disk_probes", &Stats::disk_probes, "Of directories that had failed.")
      .def_ro("disk_in_flight", &Stats::disk_in_flight, "Operations, now.")
      .def_ro("disk_queued", &Stats::disk_queued, "Jobs that wait for an operation, now.")
      .def_ro("disk_quarantined_bytes", &Stats::disk_quarantined_bytes,
              "Of operations that are late and have not ended, now.")
      .def_ro("disk_tombstones", &Stats::disk_tombstones, "Deletes written to a log.")
      .def_ro("match_latency", &Stats::match_latency)
      .def_ro("reserve_latency", &Stats::reserve_latency)
      .def_ro("load_latency", &Stats::load_latency, "From load() until its answer is final.")
      .def_ro("fill_latency", &Stats::fill_latency, "From reserve to commit.")
      .def_ro("demotion_latency", &Stats::demotion_latency,
              "From a block's turn to be written to disk until it is acknowledged.")
      .def("prometheus_text", &prometheus_text, "Prometheus text format (version 0.0.4).");
}

}  // namespace tiercel::python
