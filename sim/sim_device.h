// SimDevice: the simulated machine below the files of one boot, over all its disks: how long an operation takes, which
// one fails, and at which one the machine stops.
//
// Shared by a SimFileSystem and the backends that it opened, which may outlive it: after the crash, or when the process
// has ended, `gone()` is true, every operation ends with EIO and changes nothing. One thread at a time.
#pragma once

#include "base/clock.h"
#include "base/random.h"
#include "sim/sim_disk.h"
#include "sim/trace.h"

#include <cstdint>
#include <functional>
#include <string>

namespace tiercel::sim {

struct DeviceLatency {
  std::uint64_t least_ns = 20'000;
  std::uint64_t spread_ns = 200'000;
  std::uint64_t slow_spread_ns = 5'000'000;  ///< one operation in 32
  std::uint64_t delay_ns = 3'000'000'000;    ///< at most, of Fault::kDelay
};

class SimDevice {
 public:
  SimDevice(ManualClock& clock, Trace& trace, Random& random) : clock_(clock), trace_(trace), random_(random) {}

  // For the backends.
  /// Something reaches the device. At the planned one the machine stops; then it is gone.
  void event();
  [[nodiscard]] bool gone() const noexcept { return gone_; }
  [[nodiscard]] Fault fault_of(SimDisk& disk, IoKind kind);
  /// When an operation that begins now ends; UINT64_MAX: never.
  [[nodiscard]] std::uint64_t due_ns(const SimDisk& disk, Fault fault);
  /// A driver waits in an IO call: time passes for it until `until_ns`.
  void block(std::uint64_t until_ns);

  // For the simulation.
  /// The machine stops at the `events`-th event from now on, and `stop` decides what is left.
  void plan_crash(std::uint64_t events, std::function<void()> stop);
  void set_gone() noexcept { gone_ = true; }
  [[nodiscard]] std::uint64_t events() const noexcept { return events_; }
  /// Virtual time that passed inside IO calls: while a driver blocks, nothing else runs in a simulation.
  [[nodiscard]] std::uint64_t blocked_ns() const noexcept { return blocked_ns_; }
  /// Not empty: a driver waited for something that could never come.
  [[nodiscard]] const std::string& violation() const noexcept { return violation_; }

  [[nodiscard]] ManualClock& clock() noexcept { return clock_; }
  [[nodiscard]] Trace& trace() noexcept { return trace_; }
  [[nodiscard]] Random& random() noexcept { return random_; }

 private:
  ManualClock& clock_;
  Trace& trace_;
  Random& random_;
  DeviceLatency latency_;
  std::uint64_t events_ = 0;
  std::uint64_t crash_at_ = UINT64_MAX;
  std::function<void()> stop_;
  std::uint64_t blocked_ns_ = 0;
  std::uint32_t blocks_in_a_row_ = 0;
  std::string violation_;
  bool gone_ = false;
};

}  // namespace tiercel::sim
