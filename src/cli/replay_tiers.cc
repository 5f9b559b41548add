#include "cli/replay_tiers.h"

#include "cli/arguments.h"
#include "cli/commands.h"
#include "workload/read_workload.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <charconv>
#include <fstream>
#include <utility>

namespace tiercel::cli {
namespace {

constexpr double kSecondsADay = 86'400;

struct Flags {
  std::string trace;
  TieredOptions options{.token_bytes = 147'456, .ram_bytes = std::uint64_t{64} << 30U, .ssd_latency_seconds = 1e-4};
  std::string engine = "h100";
  std::string read = "6.9GB/s";
  std::string write = "5GB/s";
  std::string bus = "55GB/s";
  std::string json_file;
  SessionLayout layout;
  bool help = false;
};

Arguments bind(Flags& flags) {
  Arguments arguments("tiercel replay --tiers TRACE [flags]",
                      "Runs a recorded workload through an engine, RAM and an SSD on a virtual clock, with the load "
                      "planner, and prints hits and times to first token (docs/replay.md).");
  CLI::App& app = arguments.app();
  app.add_option("TRACE", flags.trace, "file: requests or sessions as JSON lines, plain or zstd");
  arguments.add_bytes("--ram", flags.options.ram_bytes, "of the cache (64GiB)");
  arguments.add_bytes("--ssd", flags.options.ssd_bytes, "of the cache; 0: none (0)");
  app.add_option("--ssd-read", flags.read, "its speed (6.9GB/s)");
  app.add_option("--ssd-write", flags.write, "its speed (5GB/s)");
  app.add_option("--ssd-latency", flags.options.ssd_latency_seconds, "seconds, of a read (0.0001)");
  app.add_option("--bus", flags.bus, "between RAM and the engine's memory (55GB/s)");
  arguments.add_bytes("--token-bytes", flags.options.token_bytes, "of KV, over all layers (147456: Qwen3-8B)");
  app.add_option("--block-tokens", flags.options.block_tokens, "of the trace's blocks (what its prompts say)");
  app.add_option("--engine", flags.engine, "h100, or what a prompt takes: 4096:98.6ms,32768:1.23s (h100)");
  app.add_option("--policy", flags.options.policies,
                 fmt::format("of {}; LRU and the optimum are always run", fmt::join(replay_policy_names(), ", ")))
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--time-scale", flags.options.time_scale, "requests come so many times as far apart (1)");
  app.add_option("--seed", flags.options.seed, "of policies that sample (1)");
  app.add_option("--session-seed", flags.layout.seed, "how sessions without a common clock overlap (1)");
  app.add_option("--json", flags.json_file, "writes the figures to a file too; - is the standard output instead");
  return arguments;
}

Result<TieredOptions> read_flags(std::span<const std::string> words, Flags& flags) {
  Arguments arguments = bind(flags);
  if (Status status = arguments.parse(words, flags.help); !status) return tl::unexpected<Error>(status.error());
  if (flags.help) return flags.options;
  if (flags.trace.empty()) {
    return fail(ErrorCode::kInvalidArgument, "replay what? Give the file of a trace: tiercel replay --tiers TRACE");
  }
  auto engine = parse_engine(flags.engine);
  if (!engine) return tl::unexpected<Error>(engine.error());
  flags.options.engine = *std::move(engine);
  for (const auto& [flag, text, to] :
       {std::tuple{"--ssd-read", &flags.read, &flags.options.ssd_read_bytes_per_second},
        std::tuple{"--ssd-write", &flags.write, &flags.options.ssd_write_bytes_per_second},
        std::tuple{"--bus", &flags.bus, &flags.options.bus_bytes_per_second}}) {
    const auto speed = parse_speed(flag, *text);
    if (!speed) return tl::unexpected<Error>(speed.error());
    *to = *speed;
  }
  return flags.options;
}

double percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(whole);
}

double written_a_day(const TieredReport& report, const TieredRun& run) {
  return report.trace_seconds > 0 ? static_cast<double>(run.ssd_written_bytes) * kSecondsADay / report.trace_seconds
                                  : 0;
}

}  // namespace

Result<double> parse_speed(std::string_view flag, std::string_view text) {
  const std::string_view bytes = text.ends_with("/s") ? text.substr(0, text.size() - 2) : text;
  const auto parsed = parse_bytes(bytes);
  if (!parsed || *parsed == 0) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{} {}: is no speed such as 6.9GB/s", flag, text));
  }
  return static_cast<double>(*parsed);
}

Result<std::vector<PrefillPoint>> parse_engine(std::string_view text) {
  // Qwen3-8B, vLLM 0.26, one H100 80GB: docs/replay.md.
  if (text == "h100") {
    return std::vector<PrefillPoint>{{4096, 0.0986}, {8192, 0.2107}, {16384, 0.4797}, {32768, 1.2335}};
  }
  std::vector<PrefillPoint> points;
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t comma = rest.find(',');
    const std::string_view point = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    PrefillPoint read;
    const auto [colon, tokens_error] = std::from_chars(point.begin(), point.end(), read.tokens);
    if (tokens_error != std::errc() || colon == point.end() || *colon != ':') break;
    const auto [unit, seconds_error] = std::from_chars(colon + 1, point.end(), read.seconds);
    const std::string_view name(unit, static_cast<std::size_t>(point.end() - unit));
    if (seconds_error != std::errc() || (name != "s" && name != "ms") || !(read.tokens > 0) || !(read.seconds > 0))
      break;
    if (name == "ms") read.seconds /= 1000;
    points.push_back(read);
    if (comma == std::string_view::npos) return points;
  }
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("--engine {}: neither h100 nor points such as 4096:98.6ms,32768:1.23s", text));
}

std::string tiers_table(const std::string& path, const TieredReport& report) {
  std::string text = fmt::format(
      "{}: {} requests in {:.0f} s, {} prompt tokens, {} block uses of {} tokens; RAM holds {} blocks, SSD {}\n\n"
      "{:<12} {:<15} {:>7} {:>7} {:>7} {:>9} | {:>8} {:>8} {:>8} {:>8} | {:>6} {:>12}\n",
      path, report.requests, report.trace_seconds, report.prompt_tokens, report.block_uses, report.block_tokens,
      report.ram_capacity_blocks, report.ssd_capacity_blocks, "policy", "loads", "RAM", "SSD", "left", "computed",
      "mean s", "p50", "p95", "p99", "busy", "SSD TB/day");
  for (const TieredRun& run : report.runs) {
    const bool any = run.mode != TieredMode::kAlwaysCompute;
    text += fmt::format(
        "{:<12} {:<15} {:>6.2f}% {:>6.2f}% {:>6.2f}% {:>8.2f}% | {:>8.3f} {:>8.3f} {:>8.3f} {:>8.3f} | {:>5.1f}% "
        "{:>12.2f}\n",
        any ? run.policy : "-", tiered_mode_name(run.mode), percent(run.ram_blocks, report.block_uses),
        percent(run.ssd_blocks, report.block_uses), percent(run.left_blocks, report.block_uses),
        percent(run.computed_tokens, report.prompt_tokens), run.first_tokens.mean, run.first_tokens.p50,
        run.first_tokens.p95, run.first_tokens.p99, 100 * run.busy_share,
        any ? written_a_day(report, run) / 1e12 : 0.0);
  }
  return text +
         "\nRAM, SSD, left: of all block uses, loaded from there, or there and left to be computed. busy: of the time, "
         "that "
         "the engine prefills.\n";
}

std::string tiers_json(const std::string& path, const TieredReport& report) {
  nlohmann::json json{{"trace", path},
                      {"requests", report.requests},
                      {"seconds", report.trace_seconds},
                      {"prompt_tokens", report.prompt_tokens},
                      {"block_uses", report.block_uses},
                      {"block_tokens", report.block_tokens},
                      {"ram_blocks", report.ram_capacity_blocks},
                      {"ssd_blocks", report.ssd_capacity_blocks},
                      {"runs", nlohmann::json::array()}};
  for (const TieredRun& run : report.runs) {
    json["runs"].push_back({{"policy", run.policy},
                            {"loads", tiered_mode_name(run.mode)},
                            {"ram_loaded_blocks", run.ram_blocks},
                            {"ssd_loaded_blocks", run.ssd_blocks},
                            {"left_blocks", run.left_blocks},
                            {"computed_tokens", run.computed_tokens},
                            {"first_token_s",
                             {{"mean", run.first_tokens.mean},
                              {"p50", run.first_tokens.p50},
                              {"p95", run.first_tokens.p95},
                              {"p99", run.first_tokens.p99}}},
                            {"busy_share", run.busy_share},
                            {"ssd_written_bytes", run.ssd_written_bytes},
                            {"ssd_written_bytes_a_day", written_a_day(report, run)}});
  }
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

int run_replay_tiers(std::span<const std::string> words) {
  Flags flags;
  const auto options = read_flags(words, flags);
  if (!options) return complain(options.error(), kUsageStatus);
  if (flags.help) {
    Flags defaults;
    say(bind(defaults).help());
    return 0;
  }
  const auto workload = read_workload(flags.trace, flags.layout);
  if (!workload) return complain(workload.error(), 1);
  const auto report = tiered_replay(*workload, *options);
  if (!report) return complain(report.error(), kUsageStatus);
  const bool table = flags.json_file != "-";
  say(table ? tiers_table(flags.trace, *report) : tiers_json(flags.trace, *report));
  if (table && !flags.json_file.empty()) {
    std::ofstream file(flags.json_file);
    file << tiers_json(flags.trace, *report);
    file.close();
    if (!file) return complain(Error{.code = ErrorCode::kIo, .message = flags.json_file + ": cannot be written"}, 1);
  }
  return 0;
}

}  // namespace tiercel::cli
