// World: one simulated machine: its clock, its disks, and the process with the cache that runs on it, boot after boot.
//
// boot() opens the real cache over the simulated executor, copies and files; close() and end() end it in peace,
// wind_down() lets a process that crashed run out without effect. Sessions and handles of a boot are dropped before
// wind_down() or end(). One thread.
#pragma once

#include "cache/core.h"
#include "sim/disk_driver.h"
#include "sim/scheduler.h"
#include "sim/sim_copy_engine.h"
#include "sim/sim_file_system.h"
#include "sim/trace.h"

#include <tiercel/cache.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::sim {

class World {
 public:
  struct Options {
    std::vector<SimDisk::Options> disks;
    std::uint32_t log_pages = 0;  ///< of the tombstone log; 0: as many as usual
    std::uint64_t seed = 1;
    std::FILE* live_trace = nullptr;
  };
  explicit World(const Options& options);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  /// `crash`: the machine stops at that event of the device after the start.
  struct CrashPlan {
    std::uint64_t events = 1;
    CrashStyle style;
  };
  Status boot(const Config& config, const std::optional<CrashPlan>& crash = std::nullopt);
  /// Closes the cache and lets its drivers end, all within the deadline; the process goes on until end().
  Status close(std::chrono::nanoseconds deadline);
  /// The process ends by itself.
  void end();
  /// After a crash: lets the process that is gone run out.
  void wind_down();
  /// Runs until the tiers have read what they have, at most `limit_ns`. False: they have not.
  bool recover(std::uint64_t limit_ns);

  [[nodiscard]] bool running() const noexcept { return process_ != nullptr; }
  [[nodiscard]] Cache& cache() { return process_->cache; }
  [[nodiscard]] detail::CacheCore& core() { return *process_->core; }
  [[nodiscard]] Scheduler& scheduler() { return process_->scheduler; }
  [[nodiscard]] SimFileSystem& files() noexcept { return files_; }
  [[nodiscard]] ManualClock& clock() noexcept { return clock_; }
  [[nodiscard]] Trace& trace() noexcept { return trace_; }
  /// True from the moment of a crash until wind_down().
  [[nodiscard]] bool crashed() const noexcept { return files_.crashed(); }
  /// Runs what can run without time passing.
  void settle() { process_->scheduler.settle(); }
  /// What went on without an end, or nothing.
  [[nodiscard]] std::string violation();

 private:
  struct Process {
    Process(World& world, std::uint64_t seed);
    ~Process();
    Scheduler scheduler;
    SimCopyEngine copies;
    std::shared_ptr<detail::CacheCore> core;
    Cache cache{nullptr, nullptr};
    std::vector<std::unique_ptr<DiskDriver>> drivers;  // one a directory
  };

  const std::uint64_t seed_;
  const std::uint32_t log_pages_;
  ManualClock clock_;
  Trace trace_;
  SimFileSystem files_;
  std::uint64_t boots_ = 0;
  std::unique_ptr<Process> process_;
};

}  // namespace tiercel::sim
