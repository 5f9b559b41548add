#include "cuda/path_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <sstream>

namespace tiercel::gpu {
namespace {

constexpr std::array kDirections = {CopyDirection::kStore, CopyDirection::kLoad};
constexpr std::array kPaths = {CopyPath::kMerged, CopyPath::kStaged};
/// How long merging may take, of staging, where a step waits and nothing else runs. Where both are nearly alike, what
/// else they cost counts: short copies keep the engine's thread and the launches of others busy, and few per cent turn
/// the choice to and fro.
constexpr double shorter_by(std::uint64_t run_bytes) { return run_bytes < (256U << 10U) ? 0.92 : 1.02; }
constexpr double kWeight = 1.0 / 8;       // of a new measurement
constexpr double kForgetting = 1.0 / 64;  // of the path that is not taken, each time the other one is
constexpr double kMostCorrection = 4;     // and its inverse
constexpr std::uint64_t kMostFixedNs = 1'000'000'000;
constexpr std::uint64_t kMostPerByte = 10'000'000;  // 0.1 GB/s
constexpr std::uint64_t kLargePlan = 256U << 20U;

/// The nearest of the calibrated runs, by ratio.
std::size_t nearest_run(std::uint64_t run_bytes) noexcept {
  std::size_t nearest = 0;
  while (nearest + 1 < kCalibratedRuns.size() && run_bytes > kCalibratedRuns[nearest] * 2) ++nearest;
  return nearest;
}

const char* name(CopyDirection direction) { return direction == CopyDirection::kStore ? "store" : "load"; }
const char* name(CopyPath path) { return path == CopyPath::kStaged ? "staged" : "merged"; }

bool plausible(const PathCost& cost) {
  return cost.fixed_ns <= kMostFixedNs && cost.femtoseconds_per_byte > 0 && cost.femtoseconds_per_byte <= kMostPerByte;
}

}  // namespace

double PathCosts::predict_ns(CopyDirection direction, CopyPath path, std::uint64_t bytes,
                             std::uint64_t run_bytes) const noexcept {
  const auto of_run = [&](std::size_t run) {
    const PathCost& cost = at(direction, path, run);
    return static_cast<double>(cost.fixed_ns) +
           static_cast<double>(bytes) * static_cast<double>(cost.femtoseconds_per_byte) * 1e-6;
  };
  if (run_bytes >= kCalibratedRuns.back()) return of_run(kCalibratedRuns.size() - 1);
  if (run_bytes <= kCalibratedRuns.front()) {
    const double shorter =
        static_cast<double>(kCalibratedRuns.front()) / static_cast<double>(std::max<std::uint64_t>(run_bytes, 1));
    return of_run(0) * (path == CopyPath::kMerged ? shorter : 1);
  }
  std::size_t below = 0;
  while (run_bytes >= kCalibratedRuns[below + 1]) ++below;
  const auto low = static_cast<double>(kCalibratedRuns[below]);
  const double share = std::log2(static_cast<double>(run_bytes) / low) /
                       std::log2(static_cast<double>(kCalibratedRuns[below + 1]) / low);
  return of_run(below) * (1 - share) + of_run(below + 1) * share;
}

PathEstimate PathChoice::choose(CopyDirection direction, std::uint64_t bytes, std::uint64_t run_bytes,
                                GpuLoad load) const noexcept {
  PathEstimate merged{.path = CopyPath::kMerged, .load = load, .run = nearest_run(run_bytes)};
  PathEstimate staged = merged;
  staged.path = CopyPath::kStaged;
  if (!costs_) return run_bytes >= merge_bytes_ ? merged : staged;
  const auto corrected = [&](PathEstimate& estimate) {
    estimate.predicted_ns = costs_->predict_ns(direction, estimate.path, bytes, run_bytes);
    return estimate.predicted_ns * correction(direction, estimate.path, estimate.run, load);
  };
  return merges(direction, bytes, run_bytes, load, corrected(merged), corrected(staged)) ? merged : staged;
}

bool PathChoice::merges(CopyDirection direction, std::uint64_t bytes, std::uint64_t run_bytes, GpuLoad load,
                        double merged_ns, double staged_ns) const noexcept {
  if (merged_ns < staged_ns * shorter_by(run_bytes)) return true;
  if (load == GpuLoad::kIdle || run_bytes < kQuietRun) return false;
  if (direction == CopyDirection::kLoad) return merged_ns < staged_ns * kQuietMost;
  return pace_ > 0 && merged_ns * kAbovePace < static_cast<double>(bytes) / static_cast<double>(pace_) * 1e9;
}

void PathChoice::record(CopyDirection direction, const PathEstimate& estimate, std::uint64_t measured_ns) noexcept {
  if (estimate.predicted_ns <= 0) return;
  const auto move = [&](CopyPath path, double to, double weight) {
    auto& correction = corrections_[index(direction, path, estimate.run, estimate.load)];
    const double now = correction.load(std::memory_order_relaxed);
    correction.store(static_cast<float>(now + (to - now) * weight), std::memory_order_relaxed);
  };
  const double ratio = static_cast<double>(measured_ns) / estimate.predicted_ns;
  move(estimate.path, std::clamp(ratio, 1 / kMostCorrection, kMostCorrection), kWeight);
  move(estimate.path == CopyPath::kStaged ? CopyPath::kMerged : CopyPath::kStaged, 1, kForgetting);
  recorded_.fetch_add(1, std::memory_order_relaxed);
}

std::uint64_t PathChoice::merges_from() const noexcept {
  if (!costs_) return merge_bytes_;
  for (std::uint64_t run = 512; run <= kCalibratedRuns.back(); run *= 2) {
    if (choose(CopyDirection::kLoad, kLargePlan, run, GpuLoad::kBusy).path == CopyPath::kMerged) return run;
  }
  return UINT64_MAX;
}

std::string PathChoice::text() const {
  if (!costs_) return fmt::format("not calibrated: plans are merged from a mean run of {} bytes on", merge_bytes_);
  std::string text = fmt::format("{:<6}{:<8}{:>10}{:>12}{:>10}{:>12}{:>12}\n", "", "path", "run KiB", "fixed us",
                                 "GB/s", "idle x", "busy x");
  for (const CopyDirection direction : kDirections) {
    for (const CopyPath path : kPaths) {
      for (std::size_t run = 0; run < kCalibratedRuns.size(); ++run) {
        const PathCost& cost = costs_->at(direction, path, run);
        text += fmt::format("{:<6}{:<8}{:>10}{:>12.1f}{:>10.2f}{:>12.2f}{:>12.2f}\n", name(direction), name(path),
                            kCalibratedRuns[run] >> 10U, static_cast<double>(cost.fixed_ns) * 1e-3,
                            1e6 / static_cast<double>(cost.femtoseconds_per_byte),
                            correction(direction, path, run, GpuLoad::kIdle),
                            correction(direction, path, run, GpuLoad::kBusy));
      }
    }
  }
  return text + fmt::format("corrected by {} plans that had the bus for themselves", recorded_.load());
}

std::string to_text(const PathCosts& costs) {
  std::string text;
  for (const CopyDirection direction : kDirections) {
    for (const CopyPath path : kPaths) {
      for (std::size_t run = 0; run < kCalibratedRuns.size(); ++run) {
        const PathCost& cost = costs.at(direction, path, run);
        text += fmt::format("{} {} {} {} {}\n", name(direction), name(path), kCalibratedRuns[run], cost.fixed_ns,
                            cost.femtoseconds_per_byte);
      }
    }
  }
  return text;
}

std::optional<PathCosts> parse_costs(std::string_view text) {
  PathCosts costs;
  std::istringstream lines{std::string(text)};
  for (const CopyDirection direction : kDirections) {
    for (const CopyPath path : kPaths) {
      for (std::size_t run = 0; run < kCalibratedRuns.size(); ++run) {
        std::string way;
        std::string by;
        std::uint64_t bytes = 0;
        PathCost& cost = costs.at(direction, path, run);
        if (!(lines >> way >> by >> bytes >> cost.fixed_ns >> cost.femtoseconds_per_byte)) return std::nullopt;
        if (way != name(direction) || by != name(path) || bytes != kCalibratedRuns[run] || !plausible(cost)) {
          return std::nullopt;
        }
      }
    }
  }
  std::string surplus;
  if (lines >> surplus) return std::nullopt;
  return costs;
}

}  // namespace tiercel::gpu
