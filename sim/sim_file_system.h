// SimFileSystem: a FileSystem in memory that outlives the processes that run on it, and decides what a crash leaves.
//
// begin_boot() starts a process: what was open before is gone, locks with it. The process ends by crash() (at a planned
// event of the device or by hand) or by end_process(). Renames are durable at once, as the interface promises; names
// made or removed since the last rename may come back or vanish in a power cut. One thread at a time; a driver's thread
// and its callers are the same in a simulation.
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
  struct Options {
    std::string directory = "/disk";   ///< the one that exists; may not be the parent of another
    std::uint64_t bytes = UINT64_MAX;  ///< of the whole disk
    FaultPlan faults;
  };
  SimFileSystem(const Options& options, ManualClock& clock, Trace& trace, std::uint64_t seed);
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
  /// The disk is well from now on: no faults, and what stalled ends, well or with an error.
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
  [[nodiscard]] FaultDice& faults() noexcept { return faults_; }
  /// The file of a path, or null.
  [[nodiscard]] std::shared_ptr<OpenFile> find(const std::string& path) const;
  [[nodiscard]] std::uint64_t used_bytes() const noexcept;

 private:
  using Files = std::map<std::string, std::shared_ptr<OpenFile>>;
  class Lock;

  [[nodiscard]] Status check(const std::string& path, bool changes);
  void crash_names();

  const Options options_;
  ManualClock& clock_;
  Trace& trace_;
  Random random_;
  FaultDice faults_;
  std::shared_ptr<SimDevice> device_;
  Files files_;
  Files durable_names_;
  std::shared_ptr<std::set<std::string>> locks_;
};

}  // namespace tiercel::sim
