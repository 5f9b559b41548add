// DelayedBackend: holds operations back from another backend until a test releases them or a clock says so, or for
// ever.
//
// What is held has not begun: its bytes move when it is released, which may be long after its deadline, so whoever gave
// its buffers away by then is found out. DelayGate is the test's handle, shared, safe from any thread, and outlives
// nothing: backends enter and leave it. A reap that waits ends early, with 0, when a delay is over.
#pragma once

#include "base/clock.h"
#include "base/mutex.h"
#include "io/decorator.h"

#include <array>
#include <cstddef>
#include <deque>
#include <memory>
#include <set>

namespace tiercel {

class DelayedBackend;

class DelayGate {
 public:
  /// `clock` outlives the gate; it is what delays are measured by.
  explicit DelayGate(const Clock& clock) : clock_(clock) {}

  /// Operations of the kind that start from now on are held until they are released.
  void hold(IoKind kind);
  void hold_all();
  /// Operations of the kind that start from now on begin so much later; 0: at once.
  void delay(IoKind kind, std::uint64_t delay_ns);
  /// Operations of the kind that start from now on begin when the bytes of those before them and their own have passed
  /// at so many bytes a second, and their delay after that; 0: without a limit. As a device of that speed would.
  void limit(IoKind kind, std::uint64_t bytes_per_second);
  /// Lets `count` held operations go, the oldest first, also ones that are not there yet; the hold stays.
  void release(std::size_t count);
  /// Lets all go and ends the hold. Delays stay.
  void release_all();
  /// Operations that have been started and have not begun.
  [[nodiscard]] std::size_t held() const;

 private:
  friend class DelayedBackend;
  struct Decision {
    bool held = false;
    std::uint64_t due_ns = 0;
  };
  [[nodiscard]] Decision enter(IoKind kind, std::uint64_t bytes);
  [[nodiscard]] bool may_go(IoKind kind, const Decision& decision);
  void went();
  void add(DelayedBackend* backend);
  void remove(DelayedBackend* backend);
  void wake_all() TIERCEL_REQUIRES(mutex_);

  const Clock& clock_;
  mutable Mutex mutex_;
  std::array<bool, 3> holding_ TIERCEL_GUARDED_BY(mutex_){};
  std::array<std::uint64_t, 3> delay_ns_ TIERCEL_GUARDED_BY(mutex_){};
  std::array<std::uint64_t, 3> bytes_per_second_ TIERCEL_GUARDED_BY(mutex_){};
  std::array<std::uint64_t, 3> busy_until_ns_ TIERCEL_GUARDED_BY(mutex_){};  // by the bytes that have been let in
  std::size_t tickets_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::size_t held_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::set<DelayedBackend*> backends_ TIERCEL_GUARDED_BY(mutex_);
};

class DelayedBackend final : public IoDecorator {
 public:
  DelayedBackend(std::unique_ptr<IoBackend> inner, std::shared_ptr<DelayGate> gate);
  DelayedBackend(const DelayedBackend&) = delete;
  DelayedBackend& operator=(const DelayedBackend&) = delete;
  ~DelayedBackend() override;

  [[nodiscard]] bool start(const IoOperation& operation) override;
  [[nodiscard]] std::size_t reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) override;

 private:
  struct Held {
    IoOperation operation;
    DelayGate::Decision decision;
  };

  void start_what_may_go();
  [[nodiscard]] std::uint64_t until_next_due() const;

  const std::shared_ptr<DelayGate> gate_;
  std::deque<Held> held_;
};

}  // namespace tiercel
