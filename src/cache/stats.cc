// The core's counters as Stats, and the report of the disk tier for people.
#include "cache/core.h"

#include <algorithm>

namespace tiercel {

std::string_view disk_state_name(DiskDirectoryState state) noexcept {
  static constexpr std::array<std::string_view, kDiskDirectoryStates> kNames = {"starting", "on",      "read_only",
                                                                                "off",      "refused", "closed"};
  const auto index = static_cast<std::size_t>(state);
  return index < kNames.size() ? kNames[index] : "unknown";
}

namespace detail {
namespace {

/// Both stores count alike.
template <class StoreCounters>
void add_blocks(TierStats& tier, const StoreCounters& store) {
  tier.blocks = store.ready_blocks;
  tier.stored_blocks = store.stored_blocks;
  tier.stored_bytes = store.stored_bytes;
  tier.evicted_blocks = store.evicted_blocks;
  tier.evicted_bytes = store.evicted_bytes;
}

/// Of the arena, or of one directory of several.
void add_slots(TierStats& tier, const SlotTable& slots) {
  tier.capacity_bytes += slots.options().extents * slots.options().extent_bytes;
  tier.used_bytes += slots.used_bytes();
  tier.quarantined_slots += slots.quarantined_slots();
  tier.quarantined_bytes += slots.quarantined_bytes();
}

}  // namespace

Stats CacheCore::stats() {
  expire_pins();
  Stats stats;
  TierStats& host = stats.tiers[static_cast<std::size_t>(TierId::kHost)];
  {
    MutexLock lock(mutex_);
    const HostCounters& store = store_.counters();
    const SlotTable& slots = store_.slots();
    const BlockTable& table = store_.table();
    add_blocks(host, store);
    add_slots(host, slots);
    stats.aborted_blocks = store.aborted_blocks;
    stats.dropped_blocks = store.dropped_blocks;
    stats.handovers = store.handovers;
    stats.handovers_failed = store.handovers_failed;
    stats.handover_pinned_skips = store.handover_pinned_skips;
    stats.moved_blocks = store.moved_blocks;
    stats.sessions = sessions_.size();
    stats.namespaces = store_.namespaces();
    stats.index_entries = table.entries();
    stats.index_stubs = table.stubs();
    stats.index_capacity = table.capacity();
    stats.logical_pins = table.pinned_blocks();
    stats.extents = slots.extents();
    stats.extents_free = slots.free_extents();
    add_disk_stats(stats);
  }
  host.hit_blocks = counters_.hit_blocks.get();
  host.hit_bytes = counters_.hit_bytes.get();
  stats.matches = counters_.matches.get();
  stats.matched_blocks = counters_.matched_blocks.get();
  stats.missed_blocks = counters_.missed_blocks.get();
  stats.loads = counters_.loads.get();
  for (std::size_t i = 0; i < stats.load_outcomes.size(); ++i) {
    stats.load_outcomes[i] = counters_.load_outcomes[i].get();
  }
  for (std::size_t i = 0; i < stats.reserve_outcomes.size(); ++i) {
    stats.reserve_outcomes[i] = counters_.reserve_outcomes[i].get();
  }
  planning_.add_to(stats);
  stats.commit_failures = counters_.commit_failures.get();
  stats.checksum_failures = counters_.checksum_failures.get();
  stats.touches_shed = counters_.touches_shed.get();
  stats.mode_refused_matches = counters_.mode_refused_matches.get();
  stats.mode_refused_loads = counters_.mode_refused_loads.get();
  stats.mode_refused_reserves = counters_.mode_refused_reserves.get();
  add_disk_counters(stats);
  stats.expired_pins = counters_.expired_pins.get();
  stats.copy_pins = copy_pins_.load();
  stats.match_latency = counters_.match_latency.get();
  stats.reserve_latency = counters_.reserve_latency.get();
  stats.load_latency = counters_.load_latency.get();
  stats.fill_latency = counters_.fill_latency.get();
  return stats;
}

void CacheCore::add_disk_stats(Stats& stats) {
  const HostCounters& host = store_.counters();
  stats.promoted_blocks = host.promoted_blocks;
  stats.promoted_bytes = host.promoted_bytes;
  stats.demotions_queued = disks_.empty() ? 0 : demotions_.size();
  const DiskStoreCounters& store = disk_store_.counters();
  TierStats& tier = stats.tiers[static_cast<std::size_t>(TierId::kDisk)];
  add_blocks(tier, store);
  for (std::uint32_t index = 0; index < disk_store_.directories(); ++index) {
    if (const SlotTable* slots = disk_store_.slots(index)) add_slots(tier, *slots);
    stats.disk_corrupt_headers += disk_progress_[index].recovery.corrupt_headers;
    stats.disk_stale_headers +=
        disk_progress_[index].recovery.stale_headers + disk_progress_[index].recovery.buried_headers;
  }
  stats.disk_lost_blocks = store.lost_blocks;
  stats.disk_recovered_blocks = store.adopted_blocks;
  stats.disk_orphaned_blocks = store.orphaned_blocks;
}

void CacheCore::add_disk_counters(Stats& stats) const {
  TierStats& tier = stats.tiers[static_cast<std::size_t>(TierId::kDisk)];
  tier.hit_blocks = counters_.disk_hit_blocks.get();
  tier.hit_bytes = counters_.disk_hit_bytes.get();
  stats.demotions_not_admitted = counters_.demotions_not_admitted.get();
  stats.demotions_refused = counters_.demotions_refused.get();
  stats.demotions_failed = counters_.demotions_failed.get();
  stats.disk_checksum_failures = counters_.disk_checksum_failures.get();
  stats.disk_unreadable_blocks = counters_.disk_unreadable.get();
  stats.disk_late_deletes = counters_.burials_late.get();
  stats.demotion_latency = counters_.demotion_latency.get();
  for (const auto& disk : disks_) {
    ++stats.disk_directories[static_cast<std::size_t>(disk->tier().state())];
    const DiskCounters now = disk->tier().counters();
    stats.disk_read_operations += now.read_operations;
    stats.disk_write_operations += now.write_operations;
    stats.disk_header_pages += now.header_pages;
    stats.disk_read_errors += now.read_errors;
    stats.disk_short_reads += now.short_reads;
    stats.disk_write_errors += now.write_errors;
    stats.disk_deadlines += now.deadlines;
    stats.disk_breaker_trips += now.breaker_trips;
    stats.disk_probes += now.probes;
    stats.disk_in_flight += now.in_flight;
    stats.disk_queued += now.queued;
    stats.disk_quarantined_bytes += now.quarantined_bytes;
    stats.disk_tombstones += now.tombstones;
  }
}

std::uint64_t CacheCore::disk_full_logs() const {
  std::uint64_t full = 0;
  for (const auto& disk : disks_) full += disk->tier().counters().full_logs;
  return full;
}

std::vector<DiskReport> CacheCore::disk_reports() {
  std::vector<DiskReport> reports;
  reports.reserve(disks_.size());
  MutexLock lock(mutex_);
  for (std::uint32_t index = 0; index < disks_.size(); ++index) {
    const DiskProgress& progress = disk_progress_[index];
    reports.push_back({.directory = disks_[index]->path(),
                       .state = static_cast<DiskDirectoryState>(disks_[index]->tier().state()),
                       .cause = progress.cause,
                       .indexed = progress.recovered,
                       .found_blocks = progress.recovered ? progress.adopted_blocks : 0,
                       .found_bytes = progress.recovered ? progress.adopted_bytes : 0,
                       .indexed_ns = progress.recovered ? progress.indexed_ns - progress.opened_ns : 0});
  }
  return reports;
}

static_assert(static_cast<int>(DiskState::kClosed) == static_cast<int>(DiskDirectoryState::kClosed) &&
              static_cast<int>(DiskState::kOff) == static_cast<int>(DiskDirectoryState::kOff));

}  // namespace detail
}  // namespace tiercel
