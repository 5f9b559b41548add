#include "sim/profile.h"

#include <algorithm>
#include <string>

namespace tiercel::sim {
namespace {

constexpr std::uint64_t kExtentBytes = 2_MiB;
constexpr std::uint64_t kBlockBytes[] = {4_KiB, 12_KiB, 20_KiB, 64_KiB};

SessionOptions model(std::size_t number, std::uint64_t block_bytes) {
  return {.model = {.name = "simulated", .weights_epoch = number, .kv_dtype = "f16"},
          .block_tokens = 2,
          .layout = Layout::blob(block_bytes)};
}

/// What several directories have beside what one has. `apart`: what is drawn here changes nothing else of the run.
void draw_directories(const ProfileRequest& request, std::uint64_t disk_bytes, Random apart, Profile& profile) {
  DiskConfig& disk = profile.config.disk;
  const std::uint32_t count = 1 + static_cast<std::uint32_t>(apart.below(request.directories));
  for (std::uint32_t i = 0; i < count; ++i) {
    profile.disks.push_back({.directory = count == 1 ? "/disk" : "/disk" + std::to_string(i),
                             .bytes = i == 0 || apart.below(8) != 0 ? disk_bytes : 16_MiB});
    disk.directories.push_back(profile.disks.back().directory);
  }
  if (request.directories == 1) return;
  disk.capacity = draw_capacity(profile, apart);
  profile.config.index.blocks = 16'384;
  if (count == 1) return;
  if (apart.below(3) != 0) {
    constexpr std::uint32_t kAbsent[] = {10, 30, 60};
    profile.absent_percent = kAbsent[apart.below(3)];
    profile.leave_per_mille = static_cast<std::uint32_t>(4 * apart.below(3));
  }
  profile.deletes = apart.below(3) != 0;
}

void draw_faults(const ProfileRequest& request, Random& random, Profile& profile) {
  if (request.faults.bits == 0) return;
  const std::uint32_t rates[] = {2'000, 10'000, 50'000, 300'000};
  const std::uint32_t rate = rates[random.below(4)];
  const auto budget = static_cast<std::uint32_t>(1 + random.below(60));
  profile.has_faults = true;
  Random apart = random;
  const std::uint64_t only = profile.disks.size() == 1 ? 0 : apart.below(2 * profile.disks.size());  // or all of them
  for (std::size_t i = 0; i < profile.disks.size(); ++i) {
    if (only < profile.disks.size() && i != only) continue;
    profile.disks[i].faults = {.faults = request.faults, .per_million = rate, .budget = budget};
  }
}

}  // namespace

std::uint64_t draw_capacity(const Profile& profile, Random& random) {
  return (std::max<std::uint64_t>(2, profile.disks.size()) + random.below(3)) * kExtentBytes;
}

Profile draw_profile(const ProfileRequest& request, Random& random) {
  Profile profile;
  HostConfig& host = profile.config.host;
  host.capacity = (2 + random.below(2)) * kExtentBytes;
  host.huge_pages = HugePages::kOff;
  host.prefault = false;
  host.extent_bytes = kExtentBytes;
  host.min_slot_bytes = random.below(2) == 0 ? 4_KiB : 16_KiB;
  profile.config.index.blocks = 4096;
  profile.config.integrity.mode = random.below(3) == 0 ? IntegrityMode::kParanoid : IntegrityMode::kNormal;
  profile.config.limits.namespaces = 8;
  profile.config.limits.sessions = 16;
  profile.config.limits.pinned_percent = 30;
  profile.config.limits.handover_deadline = std::chrono::milliseconds(1 + random.below(500));
  if (request.disk) {
    profile.config.disk.capacity = (2 + random.below(3)) * kExtentBytes;
    profile.config.disk.depth = 1U << random.below(6);
    profile.config.disk.io_deadline = std::chrono::milliseconds(random.below(2) == 0 ? 10'000 : 500);
    profile.config.disk.probe_interval = std::chrono::milliseconds(random.below(2) == 0 ? 2'000 : 100);
    if (random.below(4) == 0) profile.config.disk.admission = Admission::kSecondSight;
    profile.resizes = random.below(4) == 0;
    const std::uint64_t disk_bytes = random.below(8) == 0 ? 16_MiB : 64_MiB;
    draw_directories(request, disk_bytes, random, profile);
    Random apart = random;  // what is drawn here changes nothing else of the run
    if (apart.below(3) == 0) profile.log_pages = 1;
  }
  if (profile.disks.empty()) profile.disks.emplace_back();
  const std::size_t models = 1 + random.below(3);
  for (std::size_t i = 0; i < models; ++i) profile.models.push_back(model(i, kBlockBytes[random.below(4)]));
  profile.tenants = {"default"};
  if (random.below(2) == 0) profile.tenants.emplace_back("other");
  profile.tree = {.conversations = 3 + random.below(12), .longest = 3 + random.below(12)};
  if (random.below(3) == 0) profile.habits.drop_block = 15, profile.habits.drop_namespace = 3;
  if (random.below(3) == 0) profile.habits.background = 15;    // everything stays in flight for long
  if (profile.log_pages != 0) profile.habits.drop_block = 60;  // fills the log time and again
  if (!profile.deletes) profile.habits.drop_block = profile.habits.drop_namespace = 0;
  draw_faults(request, random, profile);
  if (request.crashes) {
    profile.kills_only = random.below(3) == 0;
    profile.crash_per_mille = 3;
    profile.longest_to_crash = std::uint64_t{512} << random.below(3);
  }
  return profile;
}

CrashStyle draw_crash_style(const ProfileRequest& request, bool kills_only, Random& random) {
  const std::uint32_t chances[] = {0, 10, 50, 90, 100};
  return {.kind = kills_only || random.below(4) == 0 ? CrashStyle::Kind::kKill : CrashStyle::Kind::kPower,
          .keep_percent = chances[random.below(5)],
          .ordered = random.below(4) == 0,
          .tears = request.tears && random.below(2) == 0};
}

}  // namespace tiercel::sim
