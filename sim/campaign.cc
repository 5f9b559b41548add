#include "sim/campaign.h"

#include "base/clock.h"
#include "base/mutex.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <thread>

namespace tiercel::sim {
namespace {

constexpr std::size_t kMostFailures = 3;

/// What the handler of SIGABRT prints: a check of the cache that failed says nothing of seeds.
thread_local std::array<char, 512> running{};

void print_running(int) {
  const std::size_t length = strnlen(running.data(), running.size());
  if (length > 0) (void)!::write(STDERR_FILENO, running.data(), length);
}

void add(Outcome& sum, const Outcome& run) {
  sum.trace_hash ^= run.trace_hash;
  sum.events += run.events;
  sum.steps += run.steps;
  sum.boots += run.boots;
  sum.crashes += run.crashes;
  sum.kills_checked += run.kills_checked;
  sum.boots_without += run.boots_without;
  sum.late_disks += run.late_disks;
  sum.kept_through_absence += run.kept_through_absence;
  sum.io_events += run.io_events;
  sum.faults += run.faults;
  sum.stored_blocks += run.stored_blocks;
  sum.loaded_blocks += run.loaded_blocks;
  sum.disk_blocks_found += run.disk_blocks_found;
  sum.loaded_from_before += run.loaded_from_before;
  sum.deletes += run.deletes;
  sum.full_logs += run.full_logs;
}

class Campaign {
 public:
  explicit Campaign(const CampaignOptions& options) : options_(options), began_ns_(clock_.now_ns()) {}

  CampaignResult run() {
    std::vector<std::thread> threads;
    for (std::uint32_t i = 1; i < options_.jobs; ++i) threads.emplace_back([this] { work(); });
    work();
    for (std::thread& thread : threads) thread.join();
    const MutexLock lock(mutex_);  // of nobody else any more
    std::ranges::sort(result_.failures, {}, &std::pair<std::uint64_t, Outcome>::first);
    return std::move(result_);
  }

 private:
  [[nodiscard]] bool over() {
    const MutexLock lock(mutex_);
    if (result_.failures.size() >= kMostFailures) return true;
    if (options_.crash_points != 0 && result_.sum.crashes >= options_.crash_points) return true;
    return options_.seconds != 0 && clock_.now_ns() - began_ns_ >= options_.seconds * 1'000'000'000U;
  }

  void work() {
    for (;;) {
      const std::uint64_t number = next_.fetch_add(1, std::memory_order_relaxed);
      if (number >= options_.runs || over()) return;
      SimulationOptions run = options_.run;
      run.seed += number;
      const std::string text = fmt::format("tiercel-sim: in seed {}; again: {}\n", run.seed, command_of(run, run.seed));
      std::copy_n(text.begin(), std::min(text.size(), running.size() - 1), running.begin());
      Outcome outcome = simulate(run);
      running = {};
      const MutexLock lock(mutex_);
      add(result_.sum, outcome);
      ++result_.runs;
      if (!outcome.ok) result_.failures.emplace_back(run.seed, std::move(outcome));
    }
  }

  const CampaignOptions options_;
  SteadyClock clock_;
  const std::uint64_t began_ns_;
  std::atomic<std::uint64_t> next_{0};  // relaxed: only uniqueness matters
  Mutex mutex_;
  CampaignResult result_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace

CampaignResult run_campaign(const CampaignOptions& options) {
  std::signal(SIGABRT, print_running);
  CampaignResult result = Campaign(options).run();
  std::signal(SIGABRT, SIG_DFL);
  return result;
}

std::string command_of(const SimulationOptions& run, std::uint64_t seed) {
  std::string command = fmt::format("tiercel-sim --seed {} --steps {}", seed, run.steps);
  std::string faults;
  for (std::size_t i = 1; i < kFaults; ++i) {
    const auto fault = static_cast<Fault>(i);
    if (run.request.faults.has(fault)) faults += fmt::format("{}{}", faults.empty() ? "" : ",", fault_name(fault));
  }
  if (run.request.faults.bits == FaultSet::honest().bits) faults = "honest";
  if (run.request.faults.bits == FaultSet::all().bits) faults = "all";
  if (!faults.empty()) command += " --faults " + faults;
  if (run.request.crashes) command += " --crashes";
  if (run.request.tears) command += " --tears";
  command += run.request.disk ? " --disk" : " --no-disk";
  if (run.request.directories > 1) command += fmt::format(" --directories {}", run.request.directories);
  if (run.plant != Plant::kNone) command += fmt::format(" --plant {}", plant_name(run.plant));
  return command + " --trace";
}

namespace {

/// What was asked for and not reached, or nothing.
std::string missing(const CampaignOptions& options, const CampaignResult& result) {
  std::string text;
  if (options.seconds == 0 && result.sum.crashes < options.crash_points)
    text += fmt::format("FAILED: {} crash points were asked for\n", options.crash_points);
  if (result.sum.late_disks < options.late_disks)
    text += fmt::format("FAILED: {} disks that come late were asked for\n", options.late_disks);
  if (result.sum.full_logs < options.full_logs)
    text += fmt::format("FAILED: {} full logs of tombstones were asked for\n", options.full_logs);
  return text;
}

}  // namespace

bool passed(const CampaignOptions& options, const CampaignResult& result) {
  return result.failures.empty() && missing(options, result).empty();
}

std::string describe(const CampaignOptions& options, const CampaignResult& result) {
  const Outcome& sum = result.sum;
  std::string text = fmt::format(
      "{} runs, {} steps, {} boots, {} crashes ({} kills that may lose nothing), {} IO events, {} faults\n"
      "{} blocks stored, {} loaded ({} of an earlier process), {} found on disk after restarts, {} deletes, {} full "
      "logs\n"
      "trace {:016x} of {} events\n",
      result.runs, sum.steps, sum.boots, sum.crashes, sum.kills_checked, sum.io_events, sum.faults, sum.stored_blocks,
      sum.loaded_blocks, sum.loaded_from_before, sum.disk_blocks_found, sum.deletes, sum.full_logs, sum.trace_hash,
      sum.events);
  if (options.run.request.directories > 1) {
    text += fmt::format(
        "up to {} directories: {} boots without one of them, {} that came later, {} kills checked after both\n",
        options.run.request.directories, sum.boots_without, sum.late_disks, sum.kept_through_absence);
  }
  if (result.failures.empty()) text += missing(options, result);
  for (const auto& [seed, outcome] : result.failures) {
    text += fmt::format("\n{}\nFAILED: seed {}: {}\nagain: {}\n", outcome.last_events, seed, outcome.violation,
                        command_of(options.run, seed));
  }
  return text;
}

}  // namespace tiercel::sim
