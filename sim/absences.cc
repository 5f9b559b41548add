#include "sim/absences.h"

#include <algorithm>

namespace tiercel::sim {
namespace {

constexpr std::uint64_t kNotInThisBoot = UINT64_MAX;
constexpr std::uint64_t kMostSteps = 100;  // of an absence that ends in the boot

}  // namespace

Absences::Absences(World& world, const ProfileRequest& request, const Profile& profile, std::uint64_t seed)
    : files_(world.files()),
      trace_(world.trace()),
      request_(request),
      profile_(profile),
      random_(seed),
      left_(profile.disks.size(), 0),
      were_there_(profile.disks.size()) {}

void Absences::begin_boot(bool all) {
  bool missing = false;
  for (std::size_t i = 0; i < left_.size(); ++i) {
    const bool absent = profile_.absent_percent > 0 && random_.below(100) < profile_.absent_percent && !all;
    were_there_[i] = !absent;
    if (!absent) {
      files_.disk(i).come_back();
      continue;
    }
    trace_.event("disk {} is missing at the boot", {i});
    files_.disk(i).go_away();
    left_[i] = random_.below(2) == 0 ? kNotInThisBoot : 1 + random_.below(kMostSteps);
    missing = true;
  }
  boots_without_ += missing ? 1 : 0;
}

void Absences::leave(std::size_t disk) {
  left_[disk] = 1 + random_.below(kMostSteps);
  if (random_.below(2) == 0 && !profile_.kills_only) {
    return files_.pull_out(disk, draw_crash_style(request_, false, random_));
  }
  trace_.event("disk {} goes away", {disk});
  files_.disk(disk).go_away();
}

void Absences::come_back(std::size_t disk) {
  if (files_.disk(disk).is_there()) return;
  trace_.event("disk {} is there again", {disk});
  files_.disk(disk).come_back();
  were_there_[disk] = true;
  ++late_;
}

void Absences::step() {
  for (std::size_t i = 0; i < left_.size(); ++i) {
    if (files_.disk(i).is_there() || left_[i] == kNotInThisBoot) continue;
    if (--left_[i] == 0) come_back(i);
  }
  if (profile_.leave_per_mille == 0 || random_.below(1000) >= profile_.leave_per_mille) return;
  const std::size_t disk = random_.below(left_.size());
  if (files_.disk(disk).is_there()) leave(disk);
}

void Absences::end() {
  for (std::size_t i = 0; i < left_.size(); ++i) come_back(i);
}

bool Absences::has(const Set& disks) const {
  for (std::size_t i = 0; i < disks.size(); ++i) {
    if (disks[i] && !files_.disk(i).is_there()) return false;
  }
  return true;
}

}  // namespace tiercel::sim
