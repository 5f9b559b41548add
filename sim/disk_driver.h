// DiskDriver: the driver of one directory of the disk tier as an actor of the scheduler: what a thread does in
// production happens here a turn at a time, at moments that the seed picks. One thread.
#pragma once

#include "cache/core.h"
#include "sim/scheduler.h"
#include "sim/sim_file_system.h"

#include <cstddef>
#include <cstdint>

namespace tiercel::sim {

class DiskDriver final : public Actor {
 public:
  DiskDriver(detail::CacheCore& core, std::size_t index, SimFileSystem& files)
      : core_(core), index_(index), files_(files) {}

  [[nodiscard]] bool runnable() override { return turns_ > 0 && !ended_; }
  bool run() override;
  void look_again() override { turns_ = kTurns; }
  [[nodiscard]] std::uint64_t next_due_ns() override { return ended_ ? UINT64_MAX : files_.next_due_ns(); }
  [[nodiscard]] bool has_timers() override { return !ended_; }

  /// The tier is closed and nothing of it is in flight.
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  /// After a crash: every operation ends with an error, so a closed tier comes to its end.
  void run_out();

 private:
  static constexpr int kTurns = 2;  // one may only take the mail that the next one works on

  detail::CacheCore& core_;
  const std::size_t index_;
  SimFileSystem& files_;
  int turns_ = kTurns;
  bool ended_ = false;
};

}  // namespace tiercel::sim
