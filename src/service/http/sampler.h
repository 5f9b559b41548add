// Sampler: once a second it takes the figures of the service and keeps what the page plots, ten minutes of it.
//
// One tick makes one Snapshot, which /status and every live stream then share: what they cost does not grow with who
// asks, and a page shows exactly what /status says under the same tick. The ring is bounded (600 samples of 24
// numbers). start() runs a thread of its own; tests call tick() themselves, with a clock that they turn. Safe from any
// thread.
#pragma once

#include "base/clock.h"
#include "base/mutex.h"
#include "service/http/sample.h"
#include "service/view.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace tiercel::service {

/// The figures of one tick. Immutable.
struct Snapshot {
  std::uint64_t tick = 0;  ///< 1, 2, ... of this instance
  std::string json;        ///< what /status answers
};

class Sampler {
 public:
  static constexpr std::size_t kSamples = 600;
  /// The figures that people read as "now" are taken over so many ticks: calm enough to be read.
  static constexpr std::size_t kWindow = 10;

  Sampler(const ServiceView& view, const Clock& clock);
  ~Sampler();

  void start();
  /// Wakes everybody who waits; nothing is taken any more.
  void stop();
  void tick();

  /// Null before the first tick.
  [[nodiscard]] std::shared_ptr<const Snapshot> latest() const;
  /// Waits for a snapshot later than `tick`. Null: stopped, or `patience` is over.
  [[nodiscard]] std::shared_ptr<const Snapshot> wait_after(std::uint64_t tick,
                                                           std::chrono::milliseconds patience) const;
  [[nodiscard]] bool stopped() const;
  /// What /history answers: every column, oldest first, as JSON.
  [[nodiscard]] std::string history() const;

 private:
  struct Point {
    std::uint64_t tick = 0;
    Sample sample{};
  };
  void run();

  const ServiceView& view_;
  const Clock& clock_;
  Mutex ticking_;  // one tick at a time; before mutex_
  std::deque<std::pair<std::uint64_t, Stats>> recent_ TIERCEL_GUARDED_BY(ticking_);  // time and figures, kWindow + 1
  mutable Mutex mutex_;
  mutable std::condition_variable changed_;
  std::deque<Point> ring_ TIERCEL_GUARDED_BY(mutex_);
  std::shared_ptr<const Snapshot> latest_ TIERCEL_GUARDED_BY(mutex_);
  std::uint64_t ticks_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace tiercel::service
