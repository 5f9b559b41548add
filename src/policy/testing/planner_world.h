// PlannerWorld: requests on a virtual clock whose loads and prefills take what a hidden truth says, planned by a
// LoadPlanner that learns from what it sees, as the cache and an engine use it. For tests of the planner.
#pragma once

#include "policy/load_planner.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace tiercel::testing {

/// Times of reads over their median: quantiles of 400 random reads of 16 MiB, O_DIRECT, from a virtual disk of
/// 3.8 GB/s beside builds on the same machine.
inline double measured_noise(std::mt19937_64& random) {
  struct Quantile {
    double share;
    double times;
  };
  static constexpr std::array kQuantiles{Quantile{0.00, 0.961}, Quantile{0.05, 0.970},  Quantile{0.25, 0.985},
                                         Quantile{0.50, 1.000}, Quantile{0.75, 1.014},  Quantile{0.85, 1.030},
                                         Quantile{0.90, 1.055}, Quantile{0.95, 1.373},  Quantile{0.98, 1.730},
                                         Quantile{0.99, 1.879}, Quantile{0.995, 2.092}, Quantile{0.999, 4.770},
                                         Quantile{1.00, 6.000}};
  const double at = std::uniform_real_distribution<double>(0, 1)(random);
  for (std::size_t i = 1; i < kQuantiles.size(); ++i) {
    if (at > kQuantiles[i].share) continue;
    const auto& low = kQuantiles[i - 1];
    const auto& high = kQuantiles[i];
    return low.times + (high.times - low.times) * (at - low.share) / (high.share - low.share);
  }
  return kQuantiles.back().times;
}

/// What things really take.
struct Truth {
  double latency_ns = 0;
  double bytes_per_second = 1e9;
  double queued_requests = 0;  ///< mean of what the tier has to do first, in loads of this request's size
  double tokens = 8192;        ///< of a prompt, on average; from half to one and a half of it
  double noise = 0;            ///< spread of a lognormal; 0: measured_noise

  static constexpr double kBytesPerToken = 147'456;  // Qwen3-8B
  /// On an H100: 6.1, 5.7, 5.0 and 3.9 GB/s of KV for 4k, 8k, 16k and 32k tokens.
  static double compute_ns(double context, double tokens) {
    return tokens <= 0 ? 0 : 2e6 + 22'000 * tokens + 0.46 * tokens * (context + tokens / 2);
  }
};

class PlannerWorld {
 public:
  /// The engine has computed one prompt: before that there is nothing to be loaded.
  PlannerWorld(const Truth& truth, std::uint64_t seed) : truth_(truth), random_(seed) {
    const auto tokens = static_cast<std::uint64_t>(truth.tokens * uniform(0.5, 1.5));
    engine_.add({.tokens = tokens}, static_cast<std::uint64_t>(Truth::compute_ns(0, static_cast<double>(tokens))));
  }

  struct Times {
    double planned = 0;
    double load = 0;           ///< all of the match was loaded
    double compute = 0;        ///< nothing was
    double expected_load = 0;  ///< without noise
    double expected_compute = 0;
    LoadPlanner::Plan plan{};
    [[nodiscard]] double better() const { return std::min(load, compute); }
  };

  void set_truth(const Truth& truth) { truth_ = truth; }
  [[nodiscard]] LoadPlanner& planner() { return planner_; }

  /// One request, from its arrival to its first token.
  Times serve() {
    const auto tokens = static_cast<std::uint64_t>(truth_.tokens * uniform(0.5, 1.5));
    const auto blocks = static_cast<std::uint64_t>(static_cast<double>(tokens) * uniform(0.6, 1.0)) / kBlockTokens;
    const auto queued = static_cast<std::uint64_t>(
        truth_.queued_requests > 0
            ? std::exponential_distribution<double>(1 / truth_.queued_requests)(random_) * bytes_of(blocks)
            : 0);
    const double noise = next_noise();
    const double prefill_noise = std::exp(std::normal_distribution<double>(0, 0.02)(random_));
    const auto compute = [&](std::uint64_t loaded) {
      const auto context = static_cast<double>(loaded * kBlockTokens);
      return prefill_noise * Truth::compute_ns(context, static_cast<double>(tokens) - context);
    };
    const LoadPlanner::Run run{.tier = 1, .blocks = blocks};
    const LoadPlanner::Question question{.runs = {&run, 1},
                                         .block_bytes = static_cast<std::uint64_t>(bytes_of(1)),
                                         .block_tokens = kBlockTokens,
                                         .prompt_tokens = tokens,
                                         .queued_bytes = {0, queued, 0}};
    Times times{.compute = compute(0), .plan = planner_.plan(engine_, question, now_ns_)};
    times.load = noise * read_ns(blocks, queued) + compute(blocks);
    times.expected_load = read_ns(blocks, queued) + compute(blocks);
    times.expected_compute = compute(0);

    std::uint64_t loaded = times.plan.blocks;
    double waited = 0;
    if (loaded > 0) wait(question, times.plan, noise * read_ns(loaded, queued), loaded, waited);
    times.planned = waited + compute(loaded);
    engine_.add({.context = loaded * kBlockTokens, .tokens = tokens - loaded * kBlockTokens},
                static_cast<std::uint64_t>(compute(loaded)));
    learn(times.plan.blocks, queued, noise);
    if (times.plan.probe_blocks > 0) learn(times.plan.probe_blocks, queued, next_noise());
    now_ns_ += static_cast<std::uint64_t>(times.planned);
    return times;
  }

 private:
  static constexpr std::uint64_t kBlockTokens = 64;
  static double bytes_of(std::uint64_t blocks) {
    return static_cast<double>(blocks) * kBlockTokens * Truth::kBytesPerToken;
  }
  [[nodiscard]] double read_ns(std::uint64_t blocks, std::uint64_t queued) const {
    return truth_.latency_ns + (bytes_of(blocks) + static_cast<double>(queued)) * 1e9 / truth_.bytes_per_second;
  }
  double uniform(double least, double most) { return std::uniform_real_distribution<double>(least, most)(random_); }
  double next_noise() {
    return truth_.noise > 0 ? std::exp(std::normal_distribution<double>(0, truth_.noise)(random_))
                            : measured_noise(random_);
  }
  void learn(std::uint64_t blocks, std::uint64_t queued, double noise) {
    planner_.add({.tier = 1,
                  .bytes = static_cast<std::uint64_t>(bytes_of(blocks)),
                  .other_bytes = queued,
                  .ns = static_cast<std::uint64_t>(noise * read_ns(blocks, queued))});
  }

  /// Blocks come one after the other, the last after `takes`.
  void wait(const LoadPlanner::Question& question, const LoadPlanner::Plan& plan, double takes, std::uint64_t& loaded,
            double& waited) const {
    double look = static_cast<double>(LoadPlanner::first_look_ns(question, plan));
    while (takes > look) {
      const auto ready = static_cast<std::uint64_t>(static_cast<double>(plan.blocks) * look / takes);
      const auto longer = LoadPlanner::go_on(
          engine_, question,
          {.asked_blocks = plan.blocks, .ready_blocks = ready, .elapsed_ns = static_cast<std::uint64_t>(look)});
      if (!longer) {
        loaded = ready;
        waited = look;
        return;
      }
      look += static_cast<double>(*longer);
    }
    waited = takes;
  }

  Truth truth_;
  std::mt19937_64 random_;
  LoadPlanner planner_;
  PrefillModel engine_;
  std::uint64_t now_ns_ = 0;
};

}  // namespace tiercel::testing
