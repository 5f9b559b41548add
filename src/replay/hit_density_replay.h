// HitDensityReplay: the HitDensityPolicy under the rules of a replay, with as many ghosts as blocks.
#pragma once

#include "policy/hit_density.h"
#include "replay/replay_policy.h"

#include <cstdint>
#include <vector>

namespace tiercel {

class HitDensityReplay final : public ReplayPolicy {
 public:
  HitDensityReplay(std::uint64_t capacity, std::uint64_t seed)
      : ReplayPolicy(capacity), policy_({.capacity = capacity, .ghosts = capacity, .seed = seed}) {}

  [[nodiscard]] bool holds(WorkloadBlock block) const override { return policy_.holds(block); }
  [[nodiscard]] std::uint64_t held() const override { return policy_.held(); }
  [[nodiscard]] const HitDensityPolicy& policy() const noexcept { return policy_; }

 private:
  void use(const Request& request) override {
    names_.assign(request.blocks.begin(), request.blocks.end());
    policy_.use({.blocks = names_, .now_ns = request.now_ns, .output_tokens = request.output_tokens});
  }

  HitDensityPolicy policy_;
  std::vector<std::uint64_t> names_;
};

}  // namespace tiercel
