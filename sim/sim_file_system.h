// SimFileSystem: a FileSystem in memory, over one disk or several, that outlives the processes that run on it, and
// decides what a crash leaves.
//
// Each disk holds one directory, has faults of its own and may be missing (sim_disk.h). begin_boot() starts a process:
// what was open before is gone, locks with it. The process ends by crash() (at a planned event of the device or by
// hand) or by end_process(). Renames are durable at once, as the interface promises; names made or removed since the
// last rename may come back or vanish in a power cut. One thread at a time; a driver's thread and its callers are the
// same in a simulation.
#pragma once

#include "io/file_system.h"
#include "sim/sim_backend.h"
#include "sim/sim_device.h"

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace tiercel::sim {

class SimFileSystem final : public FileSystem {
 public:
  SimFileSystem(const std::vector<SimDisk::Options>& disks, ManualClock& clock, Trace& trace, std::uint64_t seed);
  SimFileSystem(const SimFileSystem&) = delete;
  SimFileSystem& operator=(const SimFileSystem&) = delete;
  ~SimFileSystem() override;

  [[nodiscard]] Result<std::unique_ptr<IoBackend>> open(const std::string& path, const OpenOptions& options) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  [[nodiscard]] Result<bool> exists(const std::string& path) override;
  [[nodiscard]] Result<std::unique_ptr<FileLock>> lock(const std::string& path) override;
  [[nodiscard]] Result<FreeSpace> space(const std::string& directory) override;

  // For the simulation.
  void begin_boot();
  /// The machine or the process stops here: what is in flight is decided, nothing of this boot has any effect later.
  void crash(const CrashStyle& style);
  /// The same at the `events`-th event of the device from now on.
  void plan_crash(std::uint64_t events, const CrashStyle& style);
  /// The disks are well from now on: no faults, and what stalled ends, well or with an error.
  void heal();
  void cancel_crash() {
    device_->plan_crash(UINT64_MAX / 2, [] {});
  }
  /// The process ended by itself: what is in flight still is kept or not; nothing is lost that had ended.
  void end_process();
  [[nodiscard]] bool crashed() const noexcept { return device_->gone(); }

  /// When the next operation of any open file ends; UINT64_MAX: none will.
  [[nodiscard]] std::uint64_t next_due_ns() const noexcept;
  [[nodiscard]] SimDevice& device() noexcept { return *device_; }
  [[nodiscard]] std::size_t disks() const noexcept { return disks_.size(); }
  [[nodiscard]] SimDisk& disk(std::size_t index) noexcept { return *disks_[index]; }
  [[nodiscard]] const SimDisk& disk(std::size_t index) const noexcept { return *disks_[index]; }
  /// The disk is gone with what it has not synced, decided as by a crash; it can be mounted anew (come_back).
  void pull_out(std::size_t disk, const CrashStyle& style);
  /// Over all disks.
  [[nodiscard]] std::uint64_t faults_given() const noexcept;
  [[nodiscard]] bool has_lied() const noexcept;
  /// For planted errors: what a disk holds now, which never happens to change with another disk's past.
  using State = std::map<std::string, VirtualFile>;
  [[nodiscard]] State state_of(std::size_t disk) const;
  void put_state(std::size_t disk, const State& state);
  /// The file of a path, or null.
  [[nodiscard]] std::shared_ptr<OpenFile> find(const std::string& path) const;
  [[nodiscard]] std::uint64_t used_bytes() const noexcept;

 private:
  using Files = std::map<std::string, std::shared_ptr<OpenFile>>;
  class Lock;

  /// The disk that a path lies on, if it answers.
  [[nodiscard]] Result<std::shared_ptr<SimDisk>> check(const std::string& path, bool changes);
  void crash_files(const SimDisk& disk, const CrashStyle& style);
  [[nodiscard]] std::uint64_t used_bytes_of(const SimDisk& disk) const noexcept;

  ManualClock& clock_;
  Trace& trace_;
  Random random_;
  std::vector<std::shared_ptr<SimDisk>> disks_;
  std::shared_ptr<SimDevice> device_;
  Files files_;
  Files durable_names_;
  std::shared_ptr<std::set<std::string>> locks_;
};

}  // namespace tiercel::sim
