// Scheduler: the executor of a simulated process, and the order in which everything in it happens.
//
// Tasks of the executor and actors (the copy engine, the drivers of the disk tier) run one at a time, picked by the
// seed; time moves when nothing can run, and now and then before that, as if a thread had been slow. wait_until() runs
// the others meanwhile, and the clients of the hook, so that a call that waits meets what other threads do. One thread.
#pragma once

#include "base/clock.h"
#include "base/executor.h"
#include "base/random.h"
#include "sim/trace.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tiercel::sim {

/// Something besides tasks that the scheduler runs.
class Actor {
 public:
  virtual ~Actor() = default;
  [[nodiscard]] virtual bool runnable() = 0;
  /// True: it did something that may bring more.
  virtual bool run() = 0;
  /// Time passed, or others did something: there may be work now.
  virtual void look_again() {}
  /// When something ends by itself; UINT64_MAX: nothing does.
  [[nodiscard]] virtual std::uint64_t next_due_ns() { return UINT64_MAX; }
  /// Has timers that next_due_ns() does not tell, so that time passes in small steps.
  [[nodiscard]] virtual bool has_timers() { return false; }
};

class Scheduler final : public Executor {
 public:
  struct Options {
    std::size_t queue_capacity = 256;
    std::uint64_t first_tick_ns = 1'000'000;     ///< time passes in random steps up to this, and up to twice as much
    std::uint64_t most_tick_ns = 2'000'000'000;  ///< each time that nothing happened, but no more than this
    std::uint32_t slow_one_in = 24;              ///< time passes although something could run
  };
  Scheduler(const Options& options, ManualClock& clock, Trace& trace, std::uint64_t seed)
      : options_(options), clock_(clock), trace_(trace), random_(seed) {}
  ~Scheduler() override;

  [[nodiscard]] bool submit(Task task) override;
  bool wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns) override;
  void wake() noexcept override {}
  [[nodiscard]] std::size_t concurrency() const noexcept override { return 1; }

  /// The actor outlives its stay here.
  void add(Actor& actor) { actors_.push_back(&actor); }
  void remove(Actor& actor) { std::erase(actors_, &actor); }
  /// True: the process has stopped; no wait lasts any longer.
  void set_stopped(std::function<bool()> stopped) { stopped_ = std::move(stopped); }
  /// Called now and then while a call waits, never inside itself: another client does something that does not wait.
  void set_other_clients(std::function<void()> hook) { other_clients_ = std::move(hook); }

  /// Runs at most `most` things, without letting time pass.
  void run_some(std::size_t most);
  /// Runs until nothing can, without letting time pass; at most `most` things.
  void settle(std::size_t most = 100'000);
  /// Lets time pass until `until_ns`, and runs what that brings.
  void run_for(std::uint64_t duration_ns);
  [[nodiscard]] bool stopped() const { return stopped_ && stopped_(); }
  /// Not empty: something went on and on.
  [[nodiscard]] const std::string& violation() const noexcept { return violation_; }

 private:
  /// Runs one thing. False: there is none.
  bool run_one();
  void look_again();
  void advance(std::uint64_t until_ns);
  [[nodiscard]] std::uint64_t next_due_ns();

  const Options options_;
  ManualClock& clock_;
  Trace& trace_;
  Random random_;
  std::vector<Task> tasks_;
  std::vector<Actor*> actors_;
  std::function<bool()> stopped_;
  std::function<void()> other_clients_;
  bool in_hook_ = false;
  std::uint64_t tick_ns_ = 0;
  std::string violation_;
};

}  // namespace tiercel::sim
