#include "cli/replay_text.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <charconv>
#include <utility>

namespace tiercel::cli {
namespace {

constexpr std::string_view kLru = "lru";
constexpr std::string_view kOptimum = "optimum";

Result<ReplayCapacity> parse_capacity(std::string_view text) {
  const auto wrong = [text] {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("--capacity {}: neither a share such as 5% nor a number of blocks", text));
  };
  if (text.ends_with('%')) {
    double percent = 0;
    const std::string_view number = text.substr(0, text.size() - 1);
    const auto [end, error] = std::from_chars(number.begin(), number.end(), percent);
    if (error != std::errc() || end != number.end() || !(percent > 0 && percent <= 100)) return wrong();
    return ReplayCapacity{.share = percent / 100};
  }
  std::uint64_t blocks = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), blocks);
  if (error != std::errc() || end != text.end() || blocks == 0) return wrong();
  return ReplayCapacity{.blocks = blocks};
}

std::string capacity_text(const ReplayCell& cell) {
  return cell.asked.share > 0 ? fmt::format("{:g}% = {}", cell.asked.share * 100, cell.capacity)
                              : fmt::format("{}", cell.capacity);
}

/// Policies between LRU and the optimum.
std::vector<std::string> compared(std::span<const ReplayedTrace> traces) {
  std::vector<std::string> names;
  if (traces.empty() || traces.front().report.cells.empty()) return names;
  for (const ReplayRun& run : traces.front().report.cells.front().runs) {
    if (run.policy != kLru && run.policy != kOptimum) names.push_back(run.policy);
  }
  return names;
}

std::vector<ReplayReport> reports_of(std::span<const ReplayedTrace> traces) {
  std::vector<ReplayReport> reports;
  for (const ReplayedTrace& trace : traces) reports.push_back(trace.report);
  return reports;
}

nlohmann::json cell_json(const ReplayReport& report, const ReplayCell& cell) {
  nlohmann::json json{{"capacity", cell.capacity}, {"policies", nlohmann::json::array()}};
  if (cell.asked.share > 0) json["share"] = cell.asked.share;
  for (const ReplayRun& run : cell.runs) {
    nlohmann::json line{{"policy", run.policy},
                        {"hits", run.hits},
                        {"hit_ratio", report.ratio(run.hits)},
                        {"cpu_seconds", run.cpu_seconds}};
    const auto closure = closure_of(report, cell, run.policy);
    if (closure) line["closure"] = *closure;
    if (run.slices.slices > 0) {
      line["ns_per_block_use"] = run.cpu_seconds * 1e9 / static_cast<double>(report.block_uses);
      line["slices"] = {{"count", run.slices.slices},
                        {"longest_us", static_cast<double>(run.slices.longest_ns) * 1e-3},
                        {"p9999_us", static_cast<double>(run.slices.p9999_ns) * 1e-3},
                        {"over_50_us", run.slices.over_50_us}};
    }
    if (!run.state.empty()) line["state"] = run.state;
    json["policies"].push_back(std::move(line));
  }
  return json;
}

}  // namespace

Result<std::vector<ReplayCapacity>> parse_capacities(std::string_view text) {
  std::vector<ReplayCapacity> capacities;
  for (;;) {
    const std::size_t comma = text.find(',');
    const auto capacity = parse_capacity(text.substr(0, comma));
    if (!capacity) return tl::unexpected<Error>(capacity.error());
    capacities.push_back(*capacity);
    if (comma == std::string_view::npos) return capacities;
    text.remove_prefix(comma + 1);
  }
}

std::string replay_table(const ReplayedTrace& trace) {
  const ReplayReport& report = trace.report;
  std::string text =
      fmt::format("{}: {} requests, {} block uses, {} blocks; a cache without bounds hits {:.4f}\n{:<14}", trace.path,
                  report.requests, report.block_uses, report.unique_blocks, report.infinite_ratio(), "");
  if (report.cells.empty()) return text + "\n";
  for (const ReplayCell& cell : report.cells) text += fmt::format(" {:>18}", capacity_text(cell));
  text += "\n";
  for (const ReplayRun& line : report.cells.front().runs) {
    text += fmt::format("{:<14}", line.policy);
    for (const ReplayCell& cell : report.cells) {
      std::string ratio = fmt::format("{:.4f}", report.ratio(cell.run_of(line.policy)->hits));
      const bool bound = line.policy == kLru || line.policy == kOptimum;
      const auto closure = bound ? std::nullopt : closure_of(report, cell, line.policy);
      ratio += closure ? fmt::format(" ({:+.3f})", *closure) : std::string(9, ' ');
      text += fmt::format(" {:>18}", ratio);
    }
    text += "\n";
  }
  for (const ReplayCell& cell : report.cells) {
    for (const ReplayRun& run : cell.runs) {
      if (run.fell_back) text += fmt::format("{} with {} blocks {}\n", run.policy, cell.capacity, run.state);
    }
  }
  return text + "\n";
}

std::string replay_score_table(std::span<const ReplayedTrace> traces) {
  const auto reports = reports_of(traces);
  std::string text = fmt::format("{:<14} {:>8} {:>13}\n", "", "score", "mean closure");
  std::size_t cells = 0;
  for (const std::string& policy : compared(traces)) {
    const ReplayScore score = score_of(reports, policy);
    cells = score.cells;
    text += fmt::format("{:<14} {:>8.3f} {:>13.3f}\n", policy, score.score, score.mean_closure);
  }
  double read = 0;
  double replayed = 0;
  for (const ReplayedTrace& trace : traces) {
    read += trace.read_seconds;
    for (const ReplayCell& cell : trace.report.cells) {
      for (const ReplayRun& run : cell.runs) replayed += run.cpu_seconds;
    }
  }
  return text +
         fmt::format(
             "over {} cells in which the optimum is at least {} above LRU; {:.1f} s of one core to read, {:.1f} s "
             "to replay\n",
             cells, kLeastGap, read, replayed);
}

std::string replay_json(std::span<const ReplayedTrace> traces) {
  nlohmann::json json{{"traces", nlohmann::json::array()}, {"scores", nlohmann::json::array()}};
  for (const ReplayedTrace& trace : traces) {
    const ReplayReport& report = trace.report;
    nlohmann::json line{{"trace", trace.path},
                        {"requests", report.requests},
                        {"block_uses", report.block_uses},
                        {"unique_blocks", report.unique_blocks},
                        {"infinite_hit_ratio", report.infinite_ratio()},
                        {"read_cpu_seconds", trace.read_seconds},
                        {"cells", nlohmann::json::array()}};
    for (const ReplayCell& cell : report.cells) line["cells"].push_back(cell_json(report, cell));
    json["traces"].push_back(std::move(line));
  }
  const auto reports = reports_of(traces);
  for (const std::string& policy : compared(traces)) {
    const ReplayScore score = score_of(reports, policy);
    json["scores"].push_back({{"policy", policy},
                              {"score", score.score},
                              {"mean_closure", score.mean_closure},
                              {"cells", score.cells},
                              {"least_gap", kLeastGap}});
  }
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";  // a path may be any bytes
}

}  // namespace tiercel::cli
