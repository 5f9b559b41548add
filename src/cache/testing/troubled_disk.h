// TroubledDisk: a DiskWorld whose files can be held back and made to fail, for tests that derive from it.
//
// put_faults() closes the world and opens it again over files that ask `gate_` and `faults_`; what was stored before
// stays. Waits are short (impatient), and pass() lets time go by in steps of a probe interval.
#pragma once

#include "cache/testing/disk_world.h"
#include "io/faulty_backend.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>

namespace tiercel::testing {

inline Config impatient(Config config = DiskWorld::config()) {
  config.disk.io_deadline = std::chrono::milliseconds(1000);
  config.disk.probe_interval = std::chrono::milliseconds(100);
  return config;
}

class TroubledDisk : public ::testing::Test {
 protected:
  static constexpr std::size_t kOn = static_cast<std::size_t>(DiskDirectoryState::kOn);
  static constexpr std::size_t kOff = static_cast<std::size_t>(DiskDirectoryState::kOff);

  explicit TroubledDisk(const Config& config = impatient()) : world_(config) {}

  /// On the files whose path begins with `under`.
  void put_faults(const std::string& under = "/") {
    world_.stop();
    world_.wrap([this, under](const std::string& path, std::unique_ptr<IoBackend> file) -> std::unique_ptr<IoBackend> {
      if (!path.starts_with(under)) return file;
      return std::make_unique<DelayedBackend>(std::make_unique<FaultyBackend>(std::move(file), faults_), gate_);
    });
    world_.start();
    world_.settle();
  }
  void pass(int turns = 20) {
    for (int i = 0; i < turns; ++i) {
      world_.advance(std::chrono::milliseconds(100));
      world_.settle(20);
    }
  }
  void restart_after_crash() {
    world_.crash();
    world_.start();
    world_.settle();
  }
  /// Starts the world again while its only file is in a directory that is not there yet: /late.
  void start_before_it_is_mounted() {
    world_.stop();
    world_.configuration().disk.directories = {"/late"};
    world_.start();
    pass(2);
  }
  void mount() {
    world_.memory().make_directory("/late");
    ASSERT_TRUE(world_.memory().rename("/disk/tiercel.kv", "/late/tiercel.kv"));
    pass();
  }
  std::size_t matched(std::size_t blocks, TokenId seed) {
    return world_.session().match(world_.chain(blocks, seed)).blocks();
  }
  std::uint64_t directories(std::size_t state) { return world_.stats().disk_directories[state]; }
  DiskReport report(std::size_t directory = 0) { return world_.core().disk_reports().at(directory); }

  DiskWorld world_;
  std::shared_ptr<FaultPlan> faults_ = std::make_shared<FaultPlan>();
  std::shared_ptr<DelayGate> gate_ = std::make_shared<DelayGate>(world_.clock());
};

}  // namespace tiercel::testing
