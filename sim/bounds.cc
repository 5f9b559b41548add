#include "sim/bounds.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace tiercel::sim {
namespace {

/// What the file of a directory may need beside its data: superblocks and the reserved front, tables, logs.
constexpr std::uint64_t kDiskOverheadBytes = 16U << 20U;

void at_most(History& history, std::string_view what, std::uint64_t value, std::uint64_t limit) {
  if (value > limit)
    history.fail(fmt::format("a bound is broken: {} is {}, at most {} is allowed", what, value, limit));
}

}  // namespace

void check_bounds(World& world, History& history) {
  if (world.crashed()) return;
  const Config& config = world.core().config();
  const Stats stats = world.cache().stats();
  const TierStats& host = stats.tiers[static_cast<std::size_t>(TierId::kHost)];
  const TierStats& disk = stats.tiers[static_cast<std::size_t>(TierId::kDisk)];
  at_most(history, "host used_bytes", host.used_bytes, config.host.capacity);
  at_most(history, "host capacity_bytes", host.capacity_bytes, config.host.capacity);
  at_most(history, "host quarantined_bytes", host.quarantined_bytes, config.host.capacity);
  at_most(history, "host blocks in bytes", host.blocks * config.host.min_slot_bytes, host.used_bytes);
  at_most(history, "disk used_bytes", disk.used_bytes, disk.capacity_bytes);
  at_most(history, "disk capacity_bytes", disk.capacity_bytes, config.disk.capacity);
  at_most(
      history, "bytes of files", world.files().used_bytes(),
      config.disk.capacity == 0 ? 0 : 2 * (config.disk.capacity + config.disk.directories.size() * kDiskOverheadBytes));
  at_most(history, "index entries", stats.index_entries, stats.index_capacity);
  at_most(history, "namespaces", stats.namespaces, config.limits.namespaces);
  at_most(history, "sessions", stats.sessions, config.limits.sessions);
  at_most(history, "extents_free", stats.extents_free, stats.extents);
  at_most(history, "checksum failures without a disk", config.disk.capacity == 0 ? stats.checksum_failures : 0, 0);
}

void check_nothing_held(World& world, History& history) {
  if (world.crashed() || history.failed()) return;
  const Stats stats = world.cache().stats();
  const TierStats& host = stats.tiers[static_cast<std::size_t>(TierId::kHost)];
  at_most(history, "copy pins while nothing is held", stats.copy_pins, 0);
  at_most(history, "logical pins while nothing is held", stats.logical_pins, 0);
  at_most(history, "slots in quarantine while nothing is held", host.quarantined_slots, 0);
  world.core().check_consistency();
}

bool all_answer(World& world) {
  const std::vector<DiskReport> reports = world.cache().disks();
  for (std::size_t i = 0; i < reports.size(); ++i) {
    const DiskDirectoryState state = reports[i].state;
    const bool answers = state == DiskDirectoryState::kStarting || state == DiskDirectoryState::kOn ||
                         state == DiskDirectoryState::kReadOnly;
    if (!answers && (world.files().disk(i).is_there() || reports[i].found_blocks > 0)) return false;
  }
  return true;
}

bool all_on(World& world) {
  return std::ranges::all_of(world.cache().disks(),
                             [](const DiskReport& report) { return report.state == DiskDirectoryState::kOn; });
}

void check_directories(World& world, History& history) {
  if (world.crashed() || history.failed()) return;
  for (const DiskReport& report : world.cache().disks()) {
    if (report.state == DiskDirectoryState::kOn) continue;
    history.fail(fmt::format("the disks are well again, and {} is not on: its state is {}, {}", report.directory,
                             static_cast<int>(report.state), report.cause));
  }
}

void check_empty(World& world, History& history) {
  if (world.crashed() || history.failed()) return;
  const Stats stats = world.cache().stats();
  const TierStats& host = stats.tiers[static_cast<std::size_t>(TierId::kHost)];
  const TierStats& disk = stats.tiers[static_cast<std::size_t>(TierId::kDisk)];
  at_most(history, "host used_bytes after everything was deleted", host.used_bytes, 0);
  at_most(history, "host blocks after everything was deleted", host.blocks, 0);
  at_most(history, "disk used_bytes after everything was deleted", disk.used_bytes, 0);
  at_most(history, "disk blocks after everything was deleted", disk.blocks, 0);
  at_most(history, "stubs after everything was deleted", stats.index_stubs, 0);
}

}  // namespace tiercel::sim
