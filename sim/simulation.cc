#include "sim/simulation.h"

#include "sim/absences.h"
#include "sim/bounds.h"
#include "sim/workload.h"
#include "sim/world.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

namespace tiercel::sim {
namespace {

constexpr std::chrono::seconds kCloseDeadline{5};
constexpr std::uint64_t kRecoveryLimitNs = 60'000'000'000;
constexpr std::uint64_t kLongPauseNs = 120'000'000'000;  // more than any breaker needs to look again
constexpr std::uint64_t kStepsPerBoundsCheck = 32;
constexpr std::uint64_t kAbsences = 0x6162'7365'6E74'0000;  // a stream of random numbers of its own

class Run {
 public:
  explicit Run(const SimulationOptions& options)
      : options_(options),
        random_(options.seed),
        profile_(draw_profile(options.request, random_)),
        world_({.disks = profile_.disks,
                .log_pages = profile_.log_pages,
                .seed = random_.next(),
                .live_trace = options.live_trace}),
        history_(world_.trace()),
        workload_(world_, history_, profile_, options.plant, random_.next()),
        absences_(world_, options_.request, profile_, Random(options.seed ^ kAbsences).next()) {}

  Outcome run() {
    history_.set_device_lied([this] { return world_.files().has_lied(); });
    start();
    for (; outcome_.steps < options_.steps && going(); ++outcome_.steps) step();
    if (going()) finish();
    return conclude();
  }

 private:
  [[nodiscard]] bool going() { return !history_.failed() && outcome_.crashes < options_.crash_points; }

  void start() {
    std::optional<World::CrashPlan> crash;
    if (profile_.longest_to_crash != 0) {
      // As many crashes while it starts as there are long after.
      crash = {.events = 1 + random_.below(profile_.longest_to_crash >> (2 * random_.below(4))),
               .style = draw_crash_style(options_.request, profile_.kills_only, random_)};
    }
    Config config = profile_.config;
    if (profile_.resizes && outcome_.boots > 0) config.disk.capacity = draw_capacity(profile_, random_);
    ++outcome_.boots;
    absences_.begin_boot(kept_ && outcome_.boots % 2 == 0);
    kept_waited_ = kept_waited_ || !absences_.has(kept_on_);
    plant();
    if (const Status booted = world_.boot(config, crash); !booted) {
      return history_.fail("the cache did not start: " + booted.error().message);
    }
    if (const Status opened = workload_.open(); !opened) {
      return history_.fail("a session did not open: " + opened.error().message);
    }
    if (outcome_.boots > 1) after_restart();
  }

  /// Recovery is over, or the device does not let it be: what is there is a set of runs from the root.
  void after_restart() {
    if (!kept_ && random_.below(3) == 0) return;  // serving while indexing
    workload_.pause();  // what is stored meanwhile may lose its parent: that is no orphan of the restart
    const bool settled = world_.recover(kRecoveryLimitNs);
    if (settled && !world_.crashed()) check_what_was_found();
    if (!world_.crashed() && !ends_quietly_) {
      kept_.reset();  // not settled: what is found later was perhaps deleted or evicted meanwhile
      workload_.go_on();
    }
  }

  void check_what_was_found() {
    outcome_.disk_blocks_found += world_.cache().stats().tiers[static_cast<std::size_t>(TierId::kDisk)].blocks;
    const bool waits = kept_ && !absences_.has(kept_on_);
    if (kept_ && !waits) check_kept();
    if (all_answer(world_)) workload_.check_runs();
    world_.settle();
    if (waits && !history_.failed() && !world_.crashed()) wait_for_the_missing();
  }

  void check_kept() {
    workload_.check_kept(*kept_, kept_by_, kept_waited_);
    if (world_.crashed()) return;
    if (kept_waited_) ++outcome_.kept_through_absence;
    kept_.reset();
  }

  /// Of what must be found, a part is on a disk that is missing. Nothing is stored or deleted until it comes, in this
  /// boot or a later one: then all of it is there, but for namespaces in which something was deleted (docs/disk.md).
  void wait_for_the_missing() {
    ends_quietly_ = random_.below(2) == 0;
    if (ends_quietly_) return;
    plant_empty_disks();
    absences_.end();
    (void)world_.scheduler().wait_until([this] { return all_on(world_); },
                                        deadline_after(world_.clock().now_ns(), kLongPauseNs));
    if (world_.crashed()) return;
    check_directories(world_, history_);
    if (history_.failed()) return;
    check_kept();
    workload_.check_runs();
  }

  /// Errors of the machine that never happen, for tests of the checks: as if a disk had lost what it had synced.
  void plant() {
    if (options_.plant != Plant::kOlderDisk || world_.files().disks() < 2) return;
    const std::size_t disk = random_.below(world_.files().disks());
    if (older_) world_.files().put_state(older_->first, older_->second);
    older_.emplace(disk, world_.files().state_of(disk));
  }

  void plant_empty_disks() {
    if (options_.plant != Plant::kEmptyDisk) return;
    for (std::size_t i = 0; i < world_.files().disks(); ++i) {
      if (!world_.files().disk(i).is_there()) world_.files().put_state(i, {});
    }
  }

  void step() {
    if (std::exchange(ends_quietly_, false) && !world_.crashed()) {
      if (random_.below(2) == 0) return restart();
      world_.files().crash(draw_crash_style(options_.request, true, random_));
      return recover_from_crash();
    }
    absences_.step();
    workload_.step();
    if (const std::string wrong = world_.violation(); !wrong.empty()) return history_.fail(wrong);
    if (!world_.crashed() && random_.below(1000) < profile_.crash_per_mille) {
      world_.files().crash(draw_crash_style(options_.request, profile_.kills_only, random_));
    }
    if (world_.crashed()) return recover_from_crash();
    if (random_.below(1000) < profile_.restart_per_mille) return restart();
    if (outcome_.steps % kStepsPerBoundsCheck == 0) check_bounds(world_, history_);
  }

  /// Of the boot that ends.
  void count_boot() {
    outcome_.io_events += world_.files().device().events();
    if (world_.running()) outcome_.full_logs += world_.core().disk_full_logs();
  }

  void recover_from_crash() {
    ++outcome_.crashes;
    // A process that is killed on healthy disks of the same size loses nothing that was acknowledged.
    if (profile_.kills_only && !profile_.has_faults && !profile_.resizes && !kept_) {
      kept_ = workload_.leading_to_keep();
      kept_by_ = history_.process();
      kept_on_ = absences_.were_there();
      kept_waited_ = false;
      ++outcome_.kills_checked;
    }
    count_boot();
    workload_.leave();
    world_.wind_down();
    history_.restart();
    if (going()) start();
  }

  void restart() {
    count_boot();
    if (random_.below(2) == 0) workload_.leave();
    const std::uint64_t began_ns = world_.clock().now_ns();
    const Status closed = world_.close(kCloseDeadline);
    if (!world_.crashed()) {
      history_.check_wait("close", world_.clock().now_ns(),
                          began_ns + static_cast<std::uint64_t>(std::chrono::nanoseconds(kCloseDeadline).count()));
    }
    workload_.leave();
    world_.end();
    history_.restart();
    if (going()) start();
  }

  /// Faults end; the cache comes back by itself, and nothing has leaked.
  void finish() {
    world_.files().heal();
    absences_.end();
    world_.files().cancel_crash();
    workload_.finish_all();
    if (world_.crashed() || history_.failed()) return;
    world_.scheduler().run_for(kLongPauseNs);
    check_bounds(world_, history_);
    if (workload_.probe() == 0 && !history_.failed()) {
      const Stats stats = world_.cache().stats();
      history_.fail(
          fmt::format("the cache is of no use any more: nothing that is stored can be loaded ({} copy pins, {} logical "
                      "pins, {} slots "
                      "in quarantine, {} of {} bytes used, {} of {} extents free, {} hand-overs failed, {} extents "
                      "skipped as pinned)",
                      stats.copy_pins, stats.logical_pins, stats.tiers[0].quarantined_slots, stats.tiers[0].used_bytes,
                      stats.tiers[0].capacity_bytes, stats.extents_free, stats.extents, stats.handovers_failed,
                      stats.handover_pinned_skips));
    }
    if (history_.failed()) return;
    workload_.finish_all();
    world_.scheduler().run_for(kLongPauseNs);
    check_nothing_held(world_, history_);
    if (!world_.files().has_lied()) check_directories(world_, history_);
    workload_.drop_everything();
    world_.scheduler().run_for(kLongPauseNs);
    check_empty(world_, history_);
    if (const std::string wrong = world_.violation(); !wrong.empty()) history_.fail(wrong);
  }

  Outcome conclude() {
    count_boot();
    workload_.leave();
    if (world_.running()) world_.wind_down();
    outcome_.ok = !history_.failed();
    outcome_.violation = history_.violation();
    if (!outcome_.ok) outcome_.last_events = world_.trace().last();
    outcome_.trace_hash = world_.trace().hash();
    outcome_.events = world_.trace().events();
    outcome_.faults = world_.files().faults_given();
    outcome_.stored_blocks = workload_.stored_blocks();
    outcome_.loaded_blocks = workload_.loaded_blocks();
    outcome_.loaded_from_before = history_.blocks_from_before();
    outcome_.deletes = history_.deletes();
    outcome_.boots_without = absences_.boots_without();
    outcome_.late_disks = absences_.late();
    return std::move(outcome_);
  }

  const SimulationOptions options_;
  Random random_;
  const Profile profile_;
  World world_;
  History history_;
  Workload workload_;
  Absences absences_;
  std::optional<std::vector<std::size_t>> kept_;                       // what must be found again
  std::uint64_t kept_by_ = 0;                                          // the process that had it
  Absences::Set kept_on_;                                              // the disks that it may lie on
  bool kept_waited_ = false;                                           // for one that was missing at a boot since
  bool ends_quietly_ = false;                                          // the boot: nothing is stored in it
  std::optional<std::pair<std::size_t, SimFileSystem::State>> older_;  // planted: a disk as it was a boot ago
  Outcome outcome_;
};

}  // namespace

Outcome simulate(const SimulationOptions& options) { return Run(options).run(); }

}  // namespace tiercel::sim
