// tiercel-sim: runs the cache on a simulated machine from a seed, or from many, and says at which one it was wrong.
#include "base/log.h"
#include "sim/campaign.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <string>

namespace tiercel::sim {
namespace {

struct Arguments {
  CampaignOptions campaign;
  std::string faults = "none";
  std::string plant = "none";
  bool trace = false;
  bool verbose = false;
};

void add_options(CLI::App& app, Arguments& arguments) {
  CampaignOptions& campaign = arguments.campaign;
  SimulationOptions& run = campaign.run;
  app.add_option("--seed", run.seed, "the run, or the first of them")->capture_default_str();
  app.add_option("--runs", campaign.runs, "how many seeds, one after the other")->capture_default_str();
  app.add_option("--steps", run.steps, "what engines do in a run")->capture_default_str();
  app.add_option("--jobs", campaign.jobs, "runs at a time")->capture_default_str();
  app.add_option("--crash-points", campaign.crash_points, "end when there were so many crashes over all runs");
  app.add_option("--full-logs", campaign.full_logs, "fail unless so many tombstone logs were filled over all runs");
  app.add_option("--seconds", campaign.seconds, "end after this time, whatever --runs says");
  app.add_option(
         "--faults", arguments.faults,
         "of the disk: none, honest, lying, all, or names: error, delay, stall, again, short, torn, flip_read, full, "
         "read_only, dead, frozen, lost_write, misdirected, flip_rest")
      ->capture_default_str();
  app.add_flag("--crashes", run.request.crashes, "the machine or the process stops at random IOs");
  app.add_flag("--tears", run.request.tears, "a crash may tear pages into 512-byte sectors");
  app.add_flag("--disk,!--no-disk", run.request.disk, "with the disk tier")->capture_default_str();
  app.add_option("--directories", run.request.directories, "of the disk tier, at most; the seed decides")
      ->check(CLI::Range(1, 8))
      ->capture_default_str();
  app.add_option("--late-disks", campaign.late_disks, "fail unless so many disks came to a process that ran without");
  app.add_option(
      "--plant", arguments.plant,
      "answer wrongly on purpose: wrong_bytes, mixed_block, resurrected, late, orphan, older_disk, empty_disk");
  app.add_flag("--trace", arguments.trace, "print every event of the run (with one run)");
  app.add_flag("--log", arguments.verbose, "show the cache's own log lines");
}

int run(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"Runs the cache on a simulated clock, disk and scheduler, and checks every answer."};
  add_options(app, arguments);
  CLI11_PARSE(app, argc, argv);
  SimulationOptions& one = arguments.campaign.run;
  const auto faults = parse_faults(arguments.faults);
  const auto plant = parse_plant(arguments.plant);
  if (!faults || !plant) {
    std::fputs(fmt::format("error: {}\n", !faults ? faults.error().message : plant.error().message).c_str(), stderr);
    return 2;
  }
  one.request.faults = *faults;
  one.plant = *plant;
  one.live_trace = arguments.trace && arguments.campaign.runs == 1 ? stdout : nullptr;
  if (one.live_trace != nullptr) (void)std::setvbuf(stdout, nullptr, _IOLBF, 0);  // also when a check ends the process
  if (!arguments.verbose) set_log_sink([](LogLevel, std::string_view) {});
  const CampaignResult result = run_campaign(arguments.campaign);
  const bool well = passed(arguments.campaign, result);
  std::fputs(describe(arguments.campaign, result).c_str(), well ? stdout : stderr);
  return well ? 0 : 1;
}

}  // namespace
}  // namespace tiercel::sim

int main(int argc, char** argv) {
  try {
    return tiercel::sim::run(argc, argv);
  } catch (const std::exception& error) {
    std::fputs(fmt::format("tiercel-sim: {}\n", error.what()).c_str(), stderr);
    return 2;
  }
}
