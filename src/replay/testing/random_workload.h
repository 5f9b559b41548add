// Random workloads of a small prefix forest, for property tests.
#pragma once

#include "base/check.h"
#include "base/random.h"
#include "workload/workload_builder.h"

#include <cstdint>
#include <utility>
#include <vector>

namespace tiercel::testing_replay {

/// `requests` random walks down a forest in which each block has up to `width` children.
inline Workload random_workload(std::uint64_t seed, std::uint64_t requests, std::uint64_t width, std::uint64_t depth) {
  Random random(seed);
  WorkloadBuilder builder;
  std::uint64_t now_ns = 0;
  for (std::uint64_t i = 0; i < requests; ++i) {
    std::vector<std::uint64_t> ids;
    std::uint64_t id = 0;
    for (std::uint64_t left = 1 + random.below(depth); left > 0; --left) {
      id = id * width + 1 + random.below(width);  // the nodes of a complete tree, numbered
      ids.push_back(id);
    }
    now_ns += random.below(3'000'000'000);
    TIERCEL_CHECK(
        builder.add({.arrival_ns = now_ns, .output_tokens = static_cast<std::uint32_t>(random.below(2000))}, ids),
        "a tree is a workload");
  }
  return std::move(builder).finish(false);
}

}  // namespace tiercel::testing_replay
