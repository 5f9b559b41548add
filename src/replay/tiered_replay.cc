#include "replay/tiered_replay.h"

#include "policy/load_planner.h"
#include "replay/optimum.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <functional>
#include <limits>
#include <queue>
#include <utility>

namespace tiercel {
namespace {

constexpr std::size_t kRam = 0;
constexpr std::size_t kSsd = 1;
constexpr double kNsPerSecond = 1e9;
constexpr double kRamBytesPerSecond = 400e9;  // to find and hold a block: a microsecond for 400 KB

Status check_positive(std::string_view what, double value) {
  if (value > 0 && std::isfinite(value)) return {};
  return fail(ErrorCode::kInvalidArgument, fmt::format("{}: {} is not above 0", what, value));
}

Status check(const Workload& workload, const TieredOptions& options) {
  const auto known = replay_policy_names();
  for (const std::string& name : options.policies) {
    if (std::ranges::find(known, name) == known.end()) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{} is no policy; there are {}", name, fmt::join(known, ", ")));
    }
  }
  for (const auto& [what, value] : {std::pair<std::string_view, double>{"token_bytes", options.token_bytes},
                                    {"ram_bytes", options.ram_bytes},
                                    {"bus_bytes_per_second", options.bus_bytes_per_second},
                                    {"time_scale", options.time_scale}}) {
    if (Status status = check_positive(what, value); !status) return status;
  }
  if (options.ssd_bytes > 0) {
    if (Status s = check_positive("ssd_read_bytes_per_second", options.ssd_read_bytes_per_second); !s) return s;
    if (Status s = check_positive("ssd_write_bytes_per_second", options.ssd_write_bytes_per_second); !s) return s;
  }
  if (options.engine.empty()) return fail(ErrorCode::kInvalidArgument, "engine: not one point of its speed is known");
  for (const PrefillPoint& point : options.engine) {
    if (Status s = check_positive("engine tokens", point.tokens); !s) return s;
    if (Status s = check_positive("engine seconds", point.seconds); !s) return s;
  }
  if (workload.block_uses.empty()) {
    return fail(ErrorCode::kInvalidArgument, "the trace has no blocks, only times and lengths; nothing can be a hit");
  }
  return {};
}

/// Leading blocks that a tier holds when each request comes.
std::vector<std::uint32_t> leading_hits(const Workload& workload, ReplayPolicy& policy) {
  std::vector<std::uint32_t> hits;
  hits.reserve(workload.requests.size());
  for (const WorkloadRequest& request : workload.requests) {
    hits.push_back(static_cast<std::uint32_t>(policy.serve({.blocks = workload.blocks_of(request),
                                                            .now_ns = request.arrival_ns,
                                                            .output_tokens = request.output_tokens})));
  }
  return hits;
}

/// The same for an LRU tier, RAM, SSD and engine, whatever decides about loads.
class Line {
 public:
  Line(const Workload& workload, const TieredOptions& options, const PrefillModel& truth, std::uint32_t block_tokens)
      : workload_(workload),
        options_(options),
        truth_(truth),
        block_tokens_(block_tokens),
        block_bytes_(options.token_bytes * block_tokens) {}

  TieredRun run(TieredMode mode, const std::vector<std::uint32_t>& in_ram, const std::vector<std::uint32_t>& on_ssd) {
    TieredRun run{.mode = mode};
    first_tokens_.clear();
    first_tokens_.reserve(workload_.requests.size());
    for (std::size_t i = 0; i < workload_.requests.size(); ++i) admit(workload_.requests[i], in_ram[i], on_ssd[i], run);
    run_until(std::numeric_limits<double>::infinity());
    run.first_tokens = summary();
    run.busy_share = engine_free_ns_ > 0 ? busy_ns_ / engine_free_ns_ : 0;
    return run;
  }

 private:
  /// A request on its way to the engine.
  struct Prompt {
    double arrival_ns = 0;
    double there_ns = 0;  ///< its loaded blocks are in the engine's memory
    PrefillSpan span;
    std::uint64_t written_bytes = 0;
    [[nodiscard]] bool operator>(const Prompt& other) const noexcept { return there_ns > other.there_ns; }
  };

  void admit(const WorkloadRequest& request, std::uint32_t in_ram, std::uint32_t on_ssd, TieredRun& run) {
    const double now_ns = static_cast<double>(request.arrival_ns) * options_.time_scale;
    run_until(now_ns);
    const std::array runs{LoadPlanner::Run{.tier = kRam, .blocks = in_ram},
                          LoadPlanner::Run{.tier = kSsd, .blocks = on_ssd > in_ram ? on_ssd - in_ram : 0}};
    const std::uint64_t matched = runs[0].blocks + runs[1].blocks;
    const std::uint64_t loaded = decide(request, runs, now_ns, run.mode);
    const std::uint64_t from_ram = std::min(loaded, runs[0].blocks);
    const std::uint64_t from_ssd = loaded - from_ram;
    const std::uint64_t context = std::min<std::uint64_t>(loaded * block_tokens_, tokens_of(request) - 1);
    Prompt prompt{.arrival_ns = now_ns,
                  .there_ns = load(from_ram, from_ssd, now_ns),
                  .span = {.context = context, .tokens = tokens_of(request) - context}};
    if (options_.ssd_bytes > 0)
      prompt.written_bytes = (request.block_count - std::min(request.block_count, on_ssd)) * block_bytes_;
    run.ram_blocks += from_ram;
    run.ssd_blocks += from_ssd;
    run.left_blocks += matched - loaded;
    run.computed_tokens += prompt.span.tokens;
    run.ssd_written_bytes += prompt.written_bytes;
    loading_.push(prompt);
  }

  /// The engine takes prompts in the order in which they are ready, those that can begin by then.
  void run_until(double now_ns) {
    for (;;) {
      while (!loading_.empty() && (loading_.top().there_ns <= now_ns)) {
        ready_.push_back(loading_.top());
        loading_.pop();
      }
      if (ready_.empty() || std::max(engine_free_ns_, ready_.front().there_ns) > now_ns) return;
      prefill(ready_.front());
      ready_.pop_front();
    }
  }

  void prefill(const Prompt& prompt) {
    const double start_ns = std::max(prompt.there_ns, engine_free_ns_);
    const double takes_ns = truth_.predict_ns(prompt.span);
    engine_.add(prompt.span, static_cast<std::uint64_t>(takes_ns));
    engine_free_ns_ = start_ns + takes_ns;
    busy_ns_ += takes_ns;
    first_tokens_.push_back((engine_free_ns_ - prompt.arrival_ns) / kNsPerSecond);
    if (prompt.written_bytes > 0) {  // while the engine computes
      ssd_free_ns_ = std::max(ssd_free_ns_, start_ns) +
                     static_cast<double>(prompt.written_bytes) * kNsPerSecond / options_.ssd_write_bytes_per_second;
    }
  }

  [[nodiscard]] std::uint64_t decide(const WorkloadRequest& request, std::span<const LoadPlanner::Run> runs,
                                     double now_ns, TieredMode mode) {
    const std::uint64_t matched = runs[0].blocks + runs[1].blocks;
    if (mode == TieredMode::kAlwaysCompute || matched == 0) return 0;
    if (mode == TieredMode::kAlwaysLoad) return matched;
    const double queued = std::max(0.0, ssd_free_ns_ - now_ns) * options_.ssd_read_bytes_per_second / kNsPerSecond;
    LoadPlanner::Question question{.runs = runs.first(runs[1].blocks > 0 ? 2 : 1),
                                   .block_bytes = block_bytes_,
                                   .block_tokens = block_tokens_,
                                   .prompt_tokens = tokens_of(request),
                                   .waiting = ready_.size(),
                                   .copy_bytes_per_second = options_.bus_bytes_per_second};
    question.queued_bytes[kSsd] = static_cast<std::uint64_t>(queued);
    return planner_.plan(engine_, question, static_cast<std::uint64_t>(now_ns)).blocks;
  }

  /// When the blocks are in the engine's memory.
  double load(std::uint64_t from_ram, std::uint64_t from_ssd, double now_ns) {
    double ns = now_ns;
    if (from_ram > 0) {
      const double takes = static_cast<double>(from_ram * block_bytes_) * kNsPerSecond / kRamBytesPerSecond;
      planner_.add({.tier = kRam, .bytes = from_ram * block_bytes_, .ns = 1 + static_cast<std::uint64_t>(takes)});
      ns += takes;
    }
    if (from_ssd > 0) {
      const double queue_ns = std::max(0.0, ssd_free_ns_ - now_ns);
      const auto bytes = static_cast<double>(from_ssd * block_bytes_);
      ssd_free_ns_ = std::max(now_ns, ssd_free_ns_) + options_.ssd_latency_seconds * kNsPerSecond +
                     bytes * kNsPerSecond / options_.ssd_read_bytes_per_second;
      planner_.add(
          {.tier = kSsd,
           .bytes = from_ssd * block_bytes_,
           .other_bytes = static_cast<std::uint64_t>(queue_ns * options_.ssd_read_bytes_per_second / kNsPerSecond),
           .ns = static_cast<std::uint64_t>(ssd_free_ns_ - now_ns)});
      ns = std::max(ns, ssd_free_ns_);
    }
    return ns +
           static_cast<double>((from_ram + from_ssd) * block_bytes_) * kNsPerSecond / options_.bus_bytes_per_second;
  }

  [[nodiscard]] std::uint64_t tokens_of(const WorkloadRequest& request) const noexcept {
    return std::max<std::uint64_t>(request.input_tokens, 1);
  }

  [[nodiscard]] FirstTokens summary() {
    if (first_tokens_.empty()) return {};
    double sum = 0;
    for (const double one : first_tokens_) sum += one;
    std::ranges::sort(first_tokens_);
    const auto at = [&](double share) {
      const auto place = static_cast<std::size_t>(std::ceil(share * static_cast<double>(first_tokens_.size())));
      return first_tokens_[std::max<std::size_t>(place, 1) - 1];
    };
    return {.mean = sum / static_cast<double>(first_tokens_.size()), .p50 = at(0.5), .p95 = at(0.95), .p99 = at(0.99)};
  }

  const Workload& workload_;
  const TieredOptions& options_;
  const PrefillModel& truth_;
  const std::uint32_t block_tokens_;
  const std::uint64_t block_bytes_;
  LoadPlanner planner_;
  PrefillModel engine_;  // as the engine reports it
  double engine_free_ns_ = 0;
  double busy_ns_ = 0;
  double ssd_free_ns_ = 0;
  std::priority_queue<Prompt, std::vector<Prompt>, std::greater<>> loading_;
  std::deque<Prompt> ready_;  // for the engine
  std::vector<double> first_tokens_;
};

}  // namespace

std::string_view tiered_mode_name(TieredMode mode) noexcept {
  switch (mode) {
    case TieredMode::kPlanned:
      return "planned";
    case TieredMode::kAlwaysLoad:
      return "always load";
    case TieredMode::kAlwaysCompute:
      return "always compute";
  }
  return "unknown";
}

const TieredRun* TieredReport::run_of(std::string_view policy, TieredMode mode) const {
  const auto found =
      std::ranges::find_if(runs, [&](const TieredRun& run) { return run.policy == policy && run.mode == mode; });
  return found == runs.end() ? nullptr : &*found;
}

std::uint32_t block_tokens_of(const Workload& workload) {
  double tokens = 0;
  double blocks = 0;
  for (const WorkloadRequest& request : workload.requests) {
    if (request.block_count == 0) continue;
    tokens += request.input_tokens;
    blocks += request.block_count;
  }
  if (!(tokens > blocks)) return 1;
  return static_cast<std::uint32_t>(std::exp2(std::round(std::log2(std::min(tokens / blocks, 1e6)))));
}

PrefillModel prefill_of(const std::vector<PrefillPoint>& points) {
  PrefillModel model;
  for (int round = 0; round < 50; ++round) {
    for (const PrefillPoint& point : points) {
      model.add({.tokens = static_cast<std::uint64_t>(point.tokens)},
                static_cast<std::uint64_t>(point.seconds * kNsPerSecond));
    }
  }
  return model;
}

Result<TieredReport> tiered_replay(const Workload& workload, const TieredOptions& options) {
  if (Status status = check(workload, options); !status) return tl::unexpected<Error>(status.error());
  TieredReport report{.requests = workload.requests.size(),
                      .block_uses = workload.block_uses.size(),
                      .block_tokens = options.block_tokens > 0 ? options.block_tokens : block_tokens_of(workload)};
  for (const WorkloadRequest& request : workload.requests) report.prompt_tokens += request.input_tokens;
  if (!workload.requests.empty()) {
    report.trace_seconds = static_cast<double>(workload.requests.back().arrival_ns) * options.time_scale / kNsPerSecond;
  }
  const std::uint64_t block_bytes = options.token_bytes * report.block_tokens;
  const auto capacity = [&](std::uint64_t bytes) {
    return ReplayCapacity{.blocks = std::max<std::uint64_t>(1, bytes / block_bytes)}.of(workload);
  };
  report.ram_capacity_blocks = capacity(options.ram_bytes);
  report.ssd_capacity_blocks = options.ssd_bytes > 0 ? capacity(options.ssd_bytes) : 0;

  const PrefillModel truth = prefill_of(options.engine);
  const auto uses = next_uses(workload);
  const auto names = replay_policy_names();
  for (const std::string_view name : names) {
    const bool asked = std::ranges::find(options.policies, name) != options.policies.end();
    if (!asked && name != names.front() && name != names.back()) continue;
    const auto hits = [&](std::uint64_t blocks) {
      if (blocks == 0) return std::vector<std::uint32_t>(workload.requests.size(), 0);
      return leading_hits(workload, *make_replay_policy(name, blocks, workload, uses, options.seed));
    };
    const auto in_ram = hits(report.ram_capacity_blocks);
    const auto on_ssd = hits(report.ssd_capacity_blocks);
    for (const TieredMode mode : {TieredMode::kPlanned, TieredMode::kAlwaysLoad, TieredMode::kAlwaysCompute}) {
      if (mode == TieredMode::kAlwaysCompute && name != names.front()) continue;  // it is the same for all
      TieredRun run = Line(workload, options, truth, report.block_tokens).run(mode, in_ram, on_ssd);
      run.policy = name;
      report.runs.push_back(std::move(run));
    }
  }
  return report;
}

}  // namespace tiercel
