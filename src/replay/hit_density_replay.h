// HitDensityReplay: the HitDensityPolicy under the rules of a replay, with as many ghosts as blocks. What there is to
// do is done in slices before the next request, as a cache would between its requests.
#pragma once

#include "policy/hit_density.h"
#include "replay/replay_policy.h"

#include <cstdint>
#include <string>
#include <vector>

namespace tiercel {

class HitDensityReplay final : public ReplayPolicy {
 public:
  HitDensityReplay(std::uint64_t capacity, std::uint64_t seed)
      : ReplayPolicy(capacity), policy_({.capacity = capacity, .ghosts = capacity, .seed = seed}) {}

  [[nodiscard]] bool holds(WorkloadBlock block) const override { return policy_.holds(block); }
  [[nodiscard]] std::uint64_t held() const override { return policy_.held(); }
  static constexpr std::uint64_t kSliceWork = 100;  ///< about 5 us: a cold or interrupted slice has room up to 50
  [[nodiscard]] std::string state() const override { return policy_.safety().text(); }
  [[nodiscard]] bool fell_back() const override { return policy_.safety().fell_back_at_use != 0; }
  [[nodiscard]] const HitDensityPolicy& policy() const noexcept { return policy_; }

 private:
  void use(const Request& request) override {
    names_.assign(request.blocks.begin(), request.blocks.end());
    bool more = true;
    run_slice([&] {
      policy_.begin({.blocks = names_,
                     .now_ns = request.now_ns,
                     .output_tokens = request.output_tokens,
                     .session = request.session == UINT32_MAX ? HitDensityPolicy::kNoSession : request.session,
                     .ends_session = request.ends_session});
    });
    while (more) {
      run_slice([&] {
        WorkBudget budget(kSliceWork);
        more = policy_.work(budget);
      });
    }
  }

  HitDensityPolicy policy_;
  std::vector<std::uint64_t> names_;
};

}  // namespace tiercel
