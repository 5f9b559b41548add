// `tiercel replay`: recorded workloads through eviction policies; replay_text.h prints them.
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/replay_text.h"
#include "cli/replay_tiers.h"
#include "workload/combined_workload.h"
#include "workload/read_workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <utility>
#include <vector>

namespace tiercel::cli {
namespace {

constexpr const char* kSeparate = "separate";
constexpr const char* kOneAfterAnother = "one-after-another";
constexpr const char* kMixed = "mixed";
constexpr const char* kSessionEnd = "session-end";

struct Flags {
  std::vector<std::string> traces;
  std::vector<std::string> policies;
  std::string capacities = "1%,5%,10%";
  std::string json_file;
  std::uint64_t seed = 1;
  SessionLayout layout;
  std::string order = kSeparate;
  std::vector<std::string> hints;
  bool help = false;
};

Arguments bind(Flags& flags) {
  Arguments arguments("tiercel replay TRACE... [flags]",
                      "Runs recorded workloads through eviction policies of one tier on the trace's own clock, and "
                      "prints hit ratios beside LRU and the optimum of the same run. With --tiers: through an engine, "
                      "RAM and an SSD (tiercel replay --tiers --help; docs/replay.md).");
  CLI::App& app = arguments.app();
  app.add_option("TRACE", flags.traces, "files: requests or sessions as JSON lines, plain or zstd");
  app.add_option("--policy", flags.policies,
                 fmt::format("of {}; LRU and the optimum are always run (all)", fmt::join(replay_policy_names(), ", ")))
      ->delimiter(',')
      ->allow_extra_args(false);  // else the words behind it would be policies too
  app.add_option("--capacity", flags.capacities, "shares of the trace's blocks, or numbers of blocks (1%,5%,10%)");
  app.add_option("--seed", flags.seed, "of policies that sample (1)");
  app.add_option("--session-seed", flags.layout.seed, "how sessions without a common clock overlap (1)");
  app.add_option("--order", flags.order,
                 fmt::format("of several traces: {} replays, or {}, or {}, as one ({})", kSeparate, kOneAfterAnother,
                             kMixed, kSeparate))
      ->check(CLI::IsMember({kSeparate, kOneAfterAnother, kMixed}));
  app.add_option("--hints", flags.hints,
                 "what policies are told: session-end, that a request is the last of its session (nothing)")
      ->check(CLI::IsMember({kSessionEnd}));
  app.add_option("--json", flags.json_file,
                 "writes the figures to a file too; - is the standard output, in place of the table");
  return arguments;
}

Result<ReplayOptions> read_flags(std::span<const std::string> words, Flags& flags) {
  Arguments arguments = bind(flags);
  if (Status status = arguments.parse(words, flags.help); !status) return tl::unexpected<Error>(status.error());
  if (flags.help) return ReplayOptions{};
  if (flags.traces.empty()) {
    return fail(ErrorCode::kInvalidArgument, "replay what? Give the file of a trace: tiercel replay TRACE");
  }
  const auto known = replay_policy_names();
  const std::vector<std::string> names(known.begin(), known.end());
  for (const std::string& policy : flags.policies) {
    if (std::ranges::find(names, policy) == names.end()) {
      const std::string near = did_you_mean(policy, names);
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("unknown policy {}{}", policy,
                              near.empty() ? fmt::format("; there are {}", fmt::join(names, ", ")) : near));
    }
  }
  auto capacities = parse_capacities(flags.capacities);
  if (!capacities) return tl::unexpected<Error>(capacities.error());
  return ReplayOptions{.policies = flags.policies.empty() ? names : flags.policies,
                       .capacities = *std::move(capacities),
                       .seed = flags.seed,
                       .hints = {.session_end = !flags.hints.empty()}};
}

/// The files as one workload, in this order.
Result<Workload> read_together(std::span<const std::string> paths, const Flags& flags) {
  std::vector<Workload> parts;
  for (const std::string& path : paths) {
    auto workload = read_workload(path, flags.layout);
    if (!workload) return workload;
    parts.push_back(*std::move(workload));
  }
  if (parts.size() == 1) return std::move(parts.front());
  return combine_workloads(parts, flags.order == kMixed ? WorkloadOrder::kMixed : WorkloadOrder::kOneAfterAnother);
}

Result<ReplayedTrace> replay_files(std::span<const std::string> paths, const ReplayOptions& options,
                                   const Flags& flags) {
  const std::clock_t start = std::clock();
  const auto workload = read_together(paths, flags);
  if (!workload) return tl::unexpected<Error>(workload.error());
  ReplayedTrace trace{.path = fmt::format("{}", fmt::join(paths, flags.order == kMixed ? " with " : ", then ")),
                      .read_seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC};
  auto report = replay(*workload, options);
  if (!report) return fail(report.error().code, fmt::format("{}: {}", trace.path, report.error().message));
  trace.report = *std::move(report);
  return trace;
}

Status write_file(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "wbe");
  if (file == nullptr) return fail(ErrorCode::kIo, fmt::format("{}: {}", path, std::strerror(errno)), errno);
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (std::fclose(file) != 0 || !written) {
    return fail(ErrorCode::kIo, fmt::format("{}: {}", path, std::strerror(errno)), errno);
  }
  return {};
}

}  // namespace

int run_replay(std::span<const std::string> words) {
  if (const auto tiers = std::ranges::find(words, "--tiers"); tiers != words.end()) {
    std::vector<std::string> rest(words.begin(), tiers);
    rest.insert(rest.end(), tiers + 1, words.end());
    return run_replay_tiers(rest);
  }
  Flags flags;
  const auto options = read_flags(words, flags);
  if (!options) return complain(options.error(), kUsageStatus);
  if (flags.help) {
    Flags defaults;
    say(bind(defaults).help());
    return 0;
  }
  const bool table = flags.json_file != "-";
  std::vector<ReplayedTrace> traces;
  const std::size_t together = flags.order == kSeparate ? 1 : flags.traces.size();
  for (std::size_t i = 0; i < flags.traces.size(); i += together) {
    auto trace = replay_files(std::span(flags.traces).subspan(i, together), *options, flags);
    if (!trace) return complain(trace.error(), 1);
    if (table) say(replay_table(*trace));
    traces.push_back(*std::move(trace));
  }
  if (table) say(replay_score_table(traces));
  if (!table) say(replay_json(traces));
  if (table && !flags.json_file.empty()) {
    if (Status status = write_file(flags.json_file, replay_json(traces)); !status) return complain(status.error(), 1);
  }
  return 0;
}

}  // namespace tiercel::cli
