#include "service/http/health.h"

#include <array>
#include <utility>

namespace tiercel::service {

std::string_view health_name(HealthState state) noexcept {
  static constexpr std::array<std::string_view, kHealthStates> kNames = {"ok", "degraded", "closing"};
  const auto index = static_cast<std::size_t>(state);
  return index < kNames.size() ? kNames[index] : "unknown";
}

Health health_of(bool closing, const std::vector<DiskReport>& disks, const ArenaReport& arena) {
  Health health;
  for (const DiskReport& disk : disks) {
    const bool starting = disk.state == DiskDirectoryState::kStarting && disk.cause.empty();
    if (starting || disk.state == DiskDirectoryState::kOn || disk.state == DiskDirectoryState::kClosed) continue;
    health.state = HealthState::kDegraded;
    health.causes.push_back(disk.directory + " is " + std::string(disk_state_name(disk.state)) +
                            (disk.cause.empty() ? "" : ": " + disk.cause));
  }
  if (arena.stage != ArenaStage::kServing) {
    std::string cause = "the arena of an earlier run is " + std::string(arena_stage_name(arena.stage));
    if (!arena.cause.empty()) cause += " (" + arena.cause + ")";
    std::string_view separator = "; it waits for process ";
    for (const std::int64_t pid : arena.waits_for) {
      cause += separator;
      cause += std::to_string(pid);
      separator = ", ";
    }
    health.state = HealthState::kDegraded;
    health.causes.push_back(std::move(cause));
  }
  if (closing) health.state = HealthState::kClosing;
  return health;
}

}  // namespace tiercel::service
