// Optimum: Belady's choice with the whole workload known. Keeps the blocks with the nearest next use, the shallower on
// ties, and what is never used again not at all.
//
// A block's parent is used whenever the block is, so next uses never come nearer down a sequence: what is held of the
// blocks whose next use is request r is a run of r's sequence, the end of all that is held of it. A number for each
// request says how long that run is, and no block needs to be named: O(1) a use. What is held is prefix-closed, so this
// is the optimum of hits under the rules of a replay. Memory: 4 bytes a use.
#pragma once

#include "replay/replay_policy.h"

#include <queue>
#include <vector>

namespace tiercel {

/// For each block use of a workload the number of the next request that uses the block; UINT32_MAX: none.
[[nodiscard]] std::vector<std::uint32_t> next_uses(const Workload& workload);

class Optimum final : public ReplayPolicy {
 public:
  /// `next_uses` of the workload whose requests are then served in order; both outlive the object.
  Optimum(std::uint64_t capacity, const Workload& workload, const std::vector<std::uint32_t>& next_uses);

  /// Not answered: it knows numbers of blocks only. False.
  [[nodiscard]] bool holds(WorkloadBlock /*block*/) const override { return false; }
  [[nodiscard]] std::uint64_t held() const override { return held_; }

 private:
  [[nodiscard]] std::uint64_t leading_held(std::span<const WorkloadBlock> blocks) const override;
  void use(const Request& request) override;

  const Workload& workload_;
  const std::vector<std::uint32_t>& next_uses_;
  std::vector<std::uint32_t> held_for_;        // by request: blocks whose next use that is
  std::priority_queue<std::uint32_t> latest_;  // requests for which any are held, and some for which none are any more
  std::uint64_t held_ = 0;
  std::size_t at_ = 0;
};

}  // namespace tiercel
