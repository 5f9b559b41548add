// The planner over grids of speeds, latencies, lengths and queues: how much longer requests take than with the better
// of "always load" and "always compute", and what a change of a tier's speed costs.
#include "policy/testing/planner_world.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace tiercel {
namespace {

using testing::PlannerWorld;
using testing::Truth;

double at_share(std::vector<double> values, double share) {
  std::ranges::sort(values);
  return values[std::min(values.size() - 1, static_cast<std::size_t>(share * static_cast<double>(values.size())))];
}

std::vector<Truth> grid(double noise) {
  std::vector<Truth> points;
  for (const double gb : {0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 25.0}) {
    for (const double latency_ms : {0.05, 1.0, 5.0, 20.0, 100.0}) {
      for (const double tokens : {1024.0, 4096.0, 8192.0, 16384.0, 32768.0}) {
        for (const double queued : {0.0, 0.3, 1.0, 3.0}) {
          points.push_back({.latency_ns = latency_ms * 1e6,
                            .bytes_per_second = gb * 1e9,
                            .queued_requests = queued,
                            .tokens = tokens,
                            .noise = noise});
        }
      }
    }
  }
  return points;
}

struct Ratios {
  std::vector<double> totals;   ///< of all first tokens, a point
  std::vector<double> medians;  ///< of the median first token, a point
  std::vector<double> errors;   ///< of predicted loads
};

Ratios run_grid(double noise) {
  constexpr int kRequests = 100;
  Ratios ratios;
  std::uint64_t seed = 1;
  for (const Truth& truth : grid(noise)) {
    PlannerWorld world(truth, seed++);
    std::vector<double> planned;
    std::vector<double> load;
    std::vector<double> compute;
    for (int i = 0; i < kRequests; ++i) {
      const auto times = world.serve();
      planned.push_back(times.planned);
      load.push_back(times.load);
      compute.push_back(times.compute);
    }
    const auto sum = [](const std::vector<double>& of) {
      double total = 0;
      for (const double one : of) total += one;
      return total;
    };
    ratios.totals.push_back(sum(planned) / std::min(sum(load), sum(compute)));
    ratios.medians.push_back(at_share(planned, 0.5) / std::min(at_share(load, 0.5), at_share(compute, 0.5)));
  }
  return ratios;
}

class PlannerGrid : public ::testing::TestWithParam<double> {};

TEST_P(PlannerGrid, never_much_slower_than_the_better_way) {
  const Ratios ratios = run_grid(GetParam());
  ASSERT_GE(ratios.totals.size(), 1000U);
  for (const auto& [name, values] : {std::pair{"total", ratios.totals}, std::pair{"median", ratios.medians}}) {
    std::printf("%s time to first token over the better way: median %.4f, p99 %.4f, worst %.4f\n", name,
                at_share(values, 0.5), at_share(values, 0.99), at_share(values, 1));
    EXPECT_LE(at_share(values, 0.5), 1.03) << name;
    EXPECT_LE(at_share(values, 0.99), 1.10) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(noise, PlannerGrid, ::testing::Values(0.0, 0.1, 0.3), [](const auto& noise) {
  return noise.param == 0 ? std::string("as_measured")
                          : "lognormal_" + std::to_string(static_cast<int>(noise.param * 100));
});

/// What the requests after a step of the tier's speed take beyond the way that is better in expectation.
struct StepRegret {
  double requests =
      0;               ///< in first tokens of the way that is worse after the step: what a request served wrongly takes
  double choices = 0;  ///< in differences of the two ways, which are small near the break-even
};

StepRegret step(Truth truth, double factor, std::uint64_t seed) {
  constexpr int kAfter = 50;
  PlannerWorld world(truth, seed);
  for (int i = 0; i < 50; ++i) (void)world.serve();
  truth.bytes_per_second *= factor;
  world.set_truth(truth);
  double regret = 0;
  double worse = 0;
  double difference = 0;
  for (int i = 0; i < kAfter; ++i) {
    const auto times = world.serve();
    regret += times.planned - (times.expected_load < times.expected_compute ? times.load : times.compute);
    worse += std::max(times.expected_load, times.expected_compute) / kAfter;
    difference += std::abs(times.expected_load - times.expected_compute) / kAfter;
  }
  return {.requests = regret / worse, .choices = regret / difference};
}

TEST(PlannerSteps, a_step_of_the_speed_costs_at_most_five_requests) {
  std::vector<double> requests;
  std::vector<double> choices;
  std::uint64_t seed = 1;
  for (const double gb : {0.5, 1.0, 2.0, 3.0, 8.0, 12.0, 25.0}) {
    for (const double factor : {1.0 / 16, 1.0 / 8, 1.0 / 4, 4.0, 8.0, 16.0}) {
      for (const double tokens : {4096.0, 16384.0}) {
        for (int repeat = 0; repeat < 25; ++repeat) {
          const auto regret = step({.latency_ns = 1e6, .bytes_per_second = gb * 1e9, .tokens = tokens}, factor, seed++);
          requests.push_back(regret.requests);
          choices.push_back(regret.choices);
        }
      }
    }
  }
  const auto over = std::ranges::count_if(choices, [](double one) { return one > 5; });
  std::printf("%zu steps: median %.2f, p99 %.2f, worst %.2f requests; %td cost more than five wrong choices\n",
              requests.size(), at_share(requests, 0.5), at_share(requests, 0.99), at_share(requests, 1), over);
  EXPECT_LE(at_share(requests, 1), 5);
  EXPECT_LE(over, static_cast<std::ptrdiff_t>(choices.size() / 50)) << "near the break-even, where little is at stake";
}

}  // namespace
}  // namespace tiercel
