// PathChoice: how a plan crosses the bus, merged or staged, by what each would take on this GPU.
//
// Known are, of each direction and path, the time of one and of sixteen blocks of 1 MiB in pieces of four sizes
// (calibration.h); between the sizes a byte's cost is interpolated over the logarithm of the run. While running, what a
// plan took is compared with what was predicted, apart for a GPU that a step keeps waiting (idle) and for one at work,
// and corrects later predictions. Without costs the mean run decides (GpuCopyOptions::merge_bytes).
//
// Beside a model the shorter path is not the better one: a stage is read and written in the GPU's memory once more. At
// 50 GB/s staged loads slow decode by 7.0 % on an H200, merged ones by 3.9 %, which is what one contiguous copy does
// too; stores at 12 GB/s 0.90 and 0.22 %. So on a busy GPU runs of kQuietRun and more are merged: of loads unless that
// takes kQuietMost times as long, of stores that keep to a pace where it is well faster than the pace. Stores without a
// pace are for who wants them fast.
#pragma once

#include "transfer/copy_plan.h"
#include "transfer/gpu_copy_engine.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel::gpu {

inline constexpr std::array<std::uint64_t, 4> kCalibratedRuns = {16U << 10U, 64U << 10U, 256U << 10U, 1U << 20U};

/// From here on the copies of a plan are few enough that neither the engine's thread nor launches of others feel them.
inline constexpr std::uint64_t kQuietRun = 64U << 10U;
inline constexpr double kQuietMost = 1.10;
/// By how much merging is faster than the pace of stores, so that the pace alone says how fast they go.
inline constexpr double kAbovePace = 1.5;

/// Of plans of one direction, path and run: fixed + bytes * per_byte.
struct PathCost {
  std::uint64_t fixed_ns = 0;
  std::uint64_t femtoseconds_per_byte = 0;
  friend bool operator==(const PathCost&, const PathCost&) = default;
};

/// By direction, path and calibrated run.
struct PathCosts {
  std::array<std::array<std::array<PathCost, kCalibratedRuns.size()>, 2>, 2> of{};

  /// `path`: kMerged or kStaged.
  [[nodiscard]] PathCost& at(CopyDirection direction, CopyPath path, std::size_t run) noexcept {
    return of[static_cast<std::size_t>(direction)][path == CopyPath::kStaged ? 1 : 0][run];
  }
  [[nodiscard]] const PathCost& at(CopyDirection direction, CopyPath path, std::size_t run) const noexcept {
    return const_cast<PathCosts&>(*this).at(direction, path, run);
  }
  /// Of a plan of `bytes` in runs of `run_bytes` on average. Copies below the smallest size cost as much each, so a
  /// byte of a merged plan costs more the shorter they are.
  [[nodiscard]] double predict_ns(CopyDirection direction, CopyPath path, std::uint64_t bytes,
                                  std::uint64_t run_bytes) const noexcept;
  friend bool operator==(const PathCosts&, const PathCosts&) = default;
};

enum class GpuLoad : std::uint8_t { kIdle = 0, kBusy = 1 };

/// What was chosen for a plan, to be compared with what it took.
struct PathEstimate {
  CopyPath path = CopyPath::kMerged;
  GpuLoad load = GpuLoad::kBusy;
  std::size_t run = 0;      ///< of kCalibratedRuns, the nearest
  double predicted_ns = 0;  ///< uncorrected; 0: nothing was
};

class PathChoice {
 public:
  /// Of `options`: merge_bytes and the pace of stores.
  explicit PathChoice(const GpuCopyOptions& options, std::optional<PathCosts> costs = std::nullopt)
      : merge_bytes_(options.merge_bytes), pace_(options.store_bytes_per_second), costs_(costs) {
    for (auto& correction : corrections_) correction.store(1, std::memory_order_relaxed);
  }

  [[nodiscard]] PathEstimate choose(CopyDirection direction, std::uint64_t bytes, std::uint64_t run_bytes,
                                    GpuLoad load) const noexcept;
  /// That a plan of the estimate took so long, with the bus for itself.
  void record(CopyDirection direction, const PathEstimate& estimate, std::uint64_t measured_ns) noexcept;
  /// By what predictions are multiplied: 1 before the first plan.
  [[nodiscard]] double correction(CopyDirection direction, CopyPath path, std::size_t run,
                                  GpuLoad load) const noexcept {
    return corrections_[index(direction, path, run, load)].load(std::memory_order_relaxed);
  }
  /// The shortest run, a power of two, from which large loads are merged; UINT64_MAX: none is.
  [[nodiscard]] std::uint64_t merges_from() const noexcept;
  /// A table of costs and corrections, for people; one line if there are none.
  [[nodiscard]] std::string text() const;

 private:
  [[nodiscard]] static std::size_t index(CopyDirection direction, CopyPath path, std::size_t run,
                                         GpuLoad load) noexcept {
    const std::size_t way = 2 * static_cast<std::size_t>(direction) + (path == CopyPath::kStaged ? 1 : 0);
    return (way * kCalibratedRuns.size() + run) * 2 + static_cast<std::size_t>(load);
  }

  /// Whether merging, if it takes so long, is chosen over staging.
  [[nodiscard]] bool merges(CopyDirection direction, std::uint64_t bytes, std::uint64_t run_bytes, GpuLoad load,
                            double merged_ns, double staged_ns) const noexcept;

  const std::uint64_t merge_bytes_;
  const std::uint64_t pace_;  // bytes a second; 0: none
  const std::optional<PathCosts> costs_;
  std::array<std::atomic<float>, 2 * 2 * kCalibratedRuns.size() * 2> corrections_;
  std::atomic<std::uint64_t> recorded_{0};
};

/// Of a file, one line a cost.
[[nodiscard]] std::string to_text(const PathCosts& costs);
/// Nothing where a line is missing, surplus or out of range (more than 1 s fixed, less than 0.1 GB/s).
[[nodiscard]] std::optional<PathCosts> parse_costs(std::string_view text);

}  // namespace tiercel::gpu
