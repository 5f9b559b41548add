// Profile: what a run is made of, drawn from its seed: sizes of the cache, models, how often what is done, which faults
// the disk shows and how the machine crashes. Values.
#pragma once

#include "base/random.h"
#include "sim/conversations.h"
#include "sim/sim_disk.h"
#include "sim/virtual_file.h"

#include <tiercel/config.h>
#include <tiercel/session.h>

#include <cstdint>
#include <vector>

namespace tiercel::sim {

/// What of a run is asked for; the seed decides the rest.
struct ProfileRequest {
  FaultSet faults;
  bool disk = false;
  bool crashes = false;
  bool tears = false;
  std::uint32_t directories = 1;  ///< of the disk tier, at most; the seed decides
};

/// Chances of what a client does next, out of their sum.
struct Habits {
  std::uint32_t begin_store = 30;
  std::uint32_t end_store = 30;
  std::uint32_t begin_load = 30;
  std::uint32_t end_load = 30;
  std::uint32_t match = 5;
  std::uint32_t pin = 3;
  std::uint32_t unpin = 3;
  std::uint32_t end_copy = 6;
  std::uint32_t drop_block = 3;
  std::uint32_t drop_namespace = 1;
  std::uint32_t reopen = 1;
  std::uint32_t background = 60;  ///< some tasks, copies and IO
  std::uint32_t pause = 20;       ///< time passes
};

struct Profile {
  Config config;
  std::vector<SessionOptions> models;
  std::vector<std::string> tenants;
  TreeShape tree;
  Habits habits;
  std::vector<SimDisk::Options> disks;  ///< one a directory
  bool has_faults = false;
  bool deletes = true;                  ///< before the end
  std::uint32_t log_pages = 0;          ///< of the tombstone log; 0: as many as usual
  std::uint32_t absent_percent = 0;     ///< chance of a disk to be missing at a boot
  std::uint32_t leave_per_mille = 0;    ///< disks that go away or come back, a step
  bool resizes = false;                 ///< the disk's capacity changes between boots
  std::uint32_t restart_per_mille = 2;  ///< clean restarts, a step
  bool kills_only = false;              ///< no power cut: what was acknowledged must always be there
  std::uint32_t crash_per_mille = 0;    ///< crashes between two calls, a step; others come at an IO
  std::uint64_t longest_to_crash = 0;   ///< IO events from boot to crash, at most; 0: none planned
};

/// The disk's capacity at a boot where that changes.
[[nodiscard]] std::uint64_t draw_capacity(const Profile& profile, Random& random);
[[nodiscard]] Profile draw_profile(const ProfileRequest& request, Random& random);
[[nodiscard]] CrashStyle draw_crash_style(const ProfileRequest& request, bool kills_only, Random& random);

}  // namespace tiercel::sim
