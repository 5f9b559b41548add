// `tiercel doctor`: the findings of doctor.h as lines or JSON.
#include "cli/arguments.h"
#include "cli/commands.h"

#include <tiercel/doctor.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace tiercel::cli {
namespace {

struct Flags {
  bool no_measure = false;
  bool json = false;
};

Arguments bind(Flags& flags) {
  Arguments arguments(
      "tiercel doctor [--config FILE] [flags of the cache]",
      "Says whether this machine can run a cache with this configuration, and what to change. Exit status 0: "
      "all is well, 1: warnings, 2: failures.");
  arguments.app().add_flag("--no-measure", flags.no_measure, "do not write and read a file in each directory");
  arguments.app().add_flag("--json", flags.json, "one JSON object in place of lines");
  return arguments;
}

std::string text_of(const Finding& finding) {
  std::string text = fmt::format("{:<5} {}\n", severity_name(finding.severity), finding.text);
  if (!finding.advice.empty()) text += fmt::format("      -> {}\n", finding.advice);
  return text;
}

nlohmann::json json_of(const std::vector<Finding>& findings) {
  nlohmann::json json{{"findings", nlohmann::json::array()}};
  for (const Finding& finding : findings) {
    json["findings"].push_back({{"severity", severity_name(finding.severity)},
                                {"subject", finding.subject},
                                {"text", finding.text},
                                {"advice", finding.advice}});
  }
  return json;
}

}  // namespace

int run_doctor(std::span<const std::string> words) {
  Flags flags;
  Arguments arguments = bind(flags);
  Config config;
  bool help = false;
  if (Status status = arguments.parse_with_config(words, config, help); !status) {
    return complain(status.error(), kUsageStatus);
  }
  if (help) {
    say(arguments.help(true));
    return 0;
  }
  const std::vector<Finding> findings = examine(config, {.measure = !flags.no_measure, .cancel = &watch_interrupts()});
  const auto worst = std::ranges::max_element(findings, {}, &Finding::severity);
  if (flags.json) {
    say(json_of(findings).dump(2) + "\n");
  } else {
    for (const Finding& finding : findings) say(text_of(finding));
    if (config.disk.directories.empty())
      say("ok    no disk tier is configured (--disk-directories, --disk-capacity)\n");
  }
  return worst == findings.end() ? 0 : static_cast<int>(worst->severity);
}

}  // namespace tiercel::cli
