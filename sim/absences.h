// Absences: which disks of a simulated machine are missing: at a boot, for a while or until it ends, and in the middle
// of it. One thread.
#pragma once

#include "sim/profile.h"
#include "sim/world.h"

#include <cstdint>
#include <vector>

namespace tiercel::sim {

class Absences {
 public:
  Absences(World& world, const ProfileRequest& request, const Profile& profile, std::uint64_t seed);

  /// Before the process starts. `all`: every disk is there.
  void begin_boot(bool all);
  /// A step later: a disk may leave or come back.
  void step();
  /// All are there from now on.
  void end();

  using Set = std::vector<bool>;  ///< a flag a disk
  /// Those that were there at any moment of this boot: on them may lie what the process knows.
  [[nodiscard]] const Set& were_there() const noexcept { return were_there_; }
  /// Are all of `disks` there?
  [[nodiscard]] bool has(const Set& disks) const;
  /// Boots at which a disk was missing, and disks that came to a process that had begun without them.
  [[nodiscard]] std::uint64_t boots_without() const noexcept { return boots_without_; }
  [[nodiscard]] std::uint64_t late() const noexcept { return late_; }

 private:
  void leave(std::size_t disk);
  void come_back(std::size_t disk);

  SimFileSystem& files_;
  Trace& trace_;
  const ProfileRequest& request_;
  const Profile& profile_;
  Random random_;
  std::vector<std::uint64_t> left_;  ///< steps until a disk that is missing comes back
  Set were_there_;
  std::uint64_t boots_without_ = 0;
  std::uint64_t late_ = 0;
};

}  // namespace tiercel::sim
