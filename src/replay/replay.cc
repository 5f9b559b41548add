#include "replay/replay.h"

#include "replay/arc.h"
#include "replay/hit_density_replay.h"
#include "replay/lru_replay.h"
#include "replay/optimum.h"
#include "replay/s3_fifo.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace tiercel {
namespace {

constexpr std::string_view kLru = "lru";
constexpr std::string_view kOptimum = "optimum";
constexpr std::array<std::string_view, 6> kNames = {kLru, "s3-fifo", "s3-fifo-1", "arc", "hit-density", kOptimum};

Status check(const Workload& workload, const ReplayOptions& options) {
  for (const std::string& name : options.policies) {
    if (std::ranges::find(kNames, name) == kNames.end()) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{} is no policy; there are {}", name, fmt::join(kNames, ", ")));
    }
  }
  if (options.capacities.empty()) return fail(ErrorCode::kInvalidArgument, "no capacity to replay with");
  if (workload.block_uses.empty()) {
    return fail(ErrorCode::kInvalidArgument, "the trace has no blocks, only times and lengths; nothing can be a hit");
  }
  return {};
}

}  // namespace

std::span<const std::string_view> replay_policy_names() { return kNames; }

std::uint64_t ReplayCapacity::of(const Workload& workload) const {
  const std::uint64_t wanted =
      share > 0 ? static_cast<std::uint64_t>(std::floor(share * static_cast<double>(workload.unique_blocks) + 1e-9))
                : blocks;
  return std::clamp<std::uint64_t>(wanted, 1, std::max(workload.unique_blocks, 1U));  // more is of no use
}

std::unique_ptr<ReplayPolicy> make_replay_policy(std::string_view name, std::uint64_t capacity,
                                                 const Workload& workload, const std::vector<std::uint32_t>& next_uses,
                                                 std::uint64_t seed) {
  const std::uint32_t blocks = workload.unique_blocks;
  if (name == kLru) return std::make_unique<LruReplay>(capacity, blocks);
  if (name == "s3-fifo") return std::make_unique<S3Fifo>(capacity, blocks, std::uint8_t{2});
  if (name == "s3-fifo-1") return std::make_unique<S3Fifo>(capacity, blocks, std::uint8_t{1});
  if (name == "arc") return std::make_unique<Arc>(capacity, blocks);
  if (name == "hit-density") return std::make_unique<HitDensityReplay>(capacity, seed);
  if (name == kOptimum) return std::make_unique<Optimum>(capacity, workload, next_uses);
  return nullptr;
}

std::uint64_t serve_all(const Workload& workload, ReplayPolicy& policy, ReplayHints hints) {
  std::uint64_t hits = 0;
  for (const WorkloadRequest& request : workload.requests) {
    hits += policy.serve({.blocks = workload.blocks_of(request),
                          .now_ns = request.arrival_ns,
                          .output_tokens = request.output_tokens,
                          .session = hints.session_end ? request.session : UINT32_MAX,
                          .ends_session = hints.session_end && request.ends_session});
  }
  return hits;
}

Result<ReplayReport> replay(const Workload& workload, const ReplayOptions& options) {
  if (Status status = check(workload, options); !status) return tl::unexpected<Error>(status.error());
  ReplayReport report{.requests = workload.requests.size(),
                      .block_uses = workload.block_uses.size(),
                      .unique_blocks = workload.unique_blocks};
  const std::vector<std::uint32_t> next = next_uses(workload);
  for (const ReplayCapacity& asked : options.capacities) {
    ReplayCell cell{.asked = asked, .capacity = asked.of(workload)};
    for (const std::string_view name : kNames) {
      if (name != kLru && name != kOptimum && std::ranges::find(options.policies, name) == options.policies.end()) {
        continue;
      }
      const std::uint64_t start_ns = thread_cpu_ns();
      SliceTimer timer;
      const auto policy = make_replay_policy(name, cell.capacity, workload, next, options.seed);
      policy->time_slices(timer);
      const std::uint64_t hits = serve_all(workload, *policy, options.hints);
      cell.runs.push_back({.policy = std::string(name),
                           .hits = hits,
                           .cpu_seconds = static_cast<double>(thread_cpu_ns() - start_ns) * 1e-9,
                           .slices = timer.times(),
                           .state = policy->state(),
                           .fell_back = policy->fell_back()});
    }
    report.cells.push_back(std::move(cell));
  }
  return report;
}

const ReplayRun* ReplayCell::run_of(std::string_view policy) const {
  const auto found = std::ranges::find(runs, policy, &ReplayRun::policy);
  return found == runs.end() ? nullptr : &*found;
}

double ReplayReport::ratio(std::uint64_t hits) const {
  return block_uses == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(block_uses);
}

double ReplayReport::infinite_ratio() const { return ratio(block_uses - unique_blocks); }

std::optional<double> closure_of(const ReplayReport& report, const ReplayCell& cell, std::string_view policy) {
  const ReplayRun* run = cell.run_of(policy);
  const double lru = report.ratio(cell.run_of(kLru)->hits);
  const double gap = report.ratio(cell.run_of(kOptimum)->hits) - lru;
  if (run == nullptr || gap < kLeastGap) return std::nullopt;
  return (report.ratio(run->hits) - lru) / gap;
}

ReplayScore score_of(std::span<const ReplayReport> reports, std::string_view policy) {
  ReplayScore score;
  double gains = 0;
  double gaps = 0;
  for (const ReplayReport& report : reports) {
    for (const ReplayCell& cell : report.cells) {
      const auto closure = closure_of(report, cell, policy);
      if (!closure) continue;
      const double gap = report.ratio(cell.run_of(kOptimum)->hits) - report.ratio(cell.run_of(kLru)->hits);
      gains += *closure * gap;
      gaps += gap;
      score.mean_closure += *closure;
      ++score.cells;
    }
  }
  if (score.cells == 0) return score;
  score.score = gains / gaps;
  score.mean_closure /= static_cast<double>(score.cells);
  return score;
}

}  // namespace tiercel
