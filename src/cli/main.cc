// tiercel: finds the command that the first word names, and runs it.
#include "cli/commands.h"

#include <tiercel/config.h>

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::cli {
namespace {

struct Command {
  std::string_view name;
  std::string_view summary;
  int (*run)(std::span<const std::string>);
};

constexpr std::array kCommands = {
    Command{"serve", "one cache for all engines of this machine, with a live page and metrics", run_serve},
    Command{"status", "what a running service holds and does", run_status},
    Command{"top", "the same, live in the terminal", run_top},
    Command{"mode", "switches what engines may do: on, store_only, load_only, off", run_mode},
    Command{"drop", "deletes blocks of a running service, in every tier", run_drop},
    Command{"pin", "keeps a run of blocks in host memory for a time", run_pin},
    Command{"quota", "what tenants are promised and allowed, and what they hold", run_quota},
    Command{"log-level", "what a running service logs", run_log_level},
    Command{"reload", "a running service reads its configuration again", run_reload},
    Command{"doctor", "can this machine run a cache, and what should be changed first?", run_doctor},
    Command{"bench",
            "`bench disk`: the disk tier beside fio; `bench gpu`: copies to and from a GPU; `bench serving`: a server "
            "under load",
            run_bench},
    Command{"replay", "a recorded workload through eviction policies, beside LRU and the optimum", run_replay},
    Command{"fsck", "verifies a file of the disk tier", run_fsck},
};

std::string help() {
  std::string text = "usage: tiercel COMMAND [flags]\n\n";
  for (const Command& command : kCommands) text += fmt::format("  {:<9} {}\n", command.name, command.summary);
  return text + "\n`tiercel COMMAND --help` says more; `tiercel --version` which version this is.\n";
}

/// What the library logs for a service is noise between the lines of an answer, which say it too.
void quieten_log() {
  auto logger = spdlog::stderr_logger_mt("tiercel");
  logger->set_level(spdlog::level::err);
  logger->set_pattern("%l: %v");
}

int run(const std::vector<std::string>& arguments) {
  const std::string name = arguments.empty() ? "--help" : arguments.front();
  if (name == "--help" || name == "-h" || name == "help") {
    std::fputs(help().c_str(), arguments.empty() ? stderr : stdout);
    return arguments.empty() ? kUsageStatus : 0;
  }
  if (name == "--version") {
    say("tiercel " TIERCEL_VERSION "\n");
    return 0;
  }
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    if (command.name == name) return command.run(std::span(arguments).subspan(1));
    names.emplace_back(command.name);
  }
  return complain({.message = fmt::format("unknown command {}{}", name, did_you_mean(name, names))}, kUsageStatus);
}

}  // namespace

}  // namespace tiercel::cli

int main(int argc, char** argv) {
  try {
    tiercel::cli::quieten_log();
    return tiercel::cli::run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::fputs(fmt::format("error: {}\n", error.what()).c_str(), stderr);
    return 70;  // sysexits.h: an error of the program
  }
}
