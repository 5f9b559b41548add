// What every part of the benchmark measures with: an engine whose completions cost nothing, times, medians.
#pragma once

#include "base/check.h"
#include "base/executor.h"
#include "cuda/bench/paged_pool.h"
#include "cuda/calibration.h"
#include "cuda/cuda_device.h"
#include "cuda/staged_copy_engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace tiercel::gpu {

/// Runs a completion where it is found: on the feeder's thread.
class InlineExecutor final : public Executor {
 public:
  bool submit(Task task) override {
    task();
    return true;
  }
  bool wait_until(const std::function<bool()>& ready, std::uint64_t) override {
    while (!ready()) {
    }
    return true;
  }
  void wake() noexcept override {}
  [[nodiscard]] std::size_t concurrency() const noexcept override { return 1; }
};

class BenchEngine {
 public:
  explicit BenchEngine(GpuCopyOptions options) {
    auto device = CudaDevice::open(options);
    TIERCEL_CHECK(device.has_value(), "no GPU engine");
    std::optional<PathCosts> costs;
    if (options.path == CopyPath::kAuto) costs = calibrated(**device, options);
    engine_.emplace(executor_, clock_, std::move(*device), options, costs);
  }
  [[nodiscard]] StagedCopyEngine& operator*() { return *engine_; }
  void wait() {
    while (engine_->in_flight() != 0) {
    }
  }
  /// Seconds from before the first submit until the last completion, and of the submits alone. `waited_for`: loads go
  /// as those that a step waits for, while nothing else runs.
  std::pair<double, double> run(std::vector<std::pair<CopyDirection, CopyPlan>> plans, bool waited_for = false) {
    std::vector<CopyJob> jobs;
    for (auto& [direction, plan] : plans) {
      const bool ahead = waited_for && direction == CopyDirection::kLoad;
      jobs.push_back({.work = std::move(plan),
                      .direction = direction,
                      .ahead = ahead ? std::make_shared<QueuedAhead>() : nullptr});
    }
    const auto begin = std::chrono::steady_clock::now();
    for (CopyJob& job : jobs) TIERCEL_CHECK(engine_->submit(std::move(job)), "the engine is busy");
    const auto submitted = std::chrono::steady_clock::now();
    wait();
    const auto end = std::chrono::steady_clock::now();
    using Seconds = std::chrono::duration<double>;
    return {Seconds(end - begin).count(), Seconds(submitted - begin).count()};
  }

 private:
  /// As the library does it when it opens a GPU.
  std::optional<PathCosts> calibrated(CudaDevice& device, const GpuCopyOptions& options) {
    std::optional<PathCosts> costs;
    std::thread([&] {
      const Status begun = device.begin_thread();
      const auto measured = measure_path_costs(device, clock_, options);
      if (begun && measured) costs = *measured;
    }).join();
    return costs;
  }
  SteadyClock clock_;
  InlineExecutor executor_;
  std::optional<StagedCopyEngine> engine_;
};

template <class F>
double seconds_of(F&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

inline double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}
inline double median(std::vector<double> values) { return percentile(std::move(values), 0.5); }

inline void bench_must(const Status& status) {
  if (status) return;
  std::fprintf(stderr, "error: %s\n", status.error().message.c_str());
  std::abort();
}
inline void bench_must(cudaError_t error) { bench_must(cuda_check(error, "CUDA")); }

}  // namespace tiercel::gpu
