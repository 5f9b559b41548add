// Arc: adaptive replacement (Megiddo, Modha: "ARC: a self-tuning, low overhead replacement cache", FAST 2003). Blocks
// used once and blocks used again have a queue each, both least recently used, and a queue of names of what went from
// them; a use of such a name moves the border between the two. Within a request the blocks that are held are used
// before the others are admitted.
#pragma once

#include "replay/block_queues.h"
#include "replay/replay_policy.h"

#include <vector>

namespace tiercel {

class Arc final : public ReplayPolicy {
 public:
  Arc(std::uint64_t capacity, std::uint32_t blocks) : ReplayPolicy(capacity), queues_(blocks) {}

  [[nodiscard]] bool holds(WorkloadBlock block) const override { return queues_.queue_of(block) <= kAgain; }
  [[nodiscard]] std::uint64_t held() const override { return queues_.size(kOnce) + queues_.size(kAgain); }

 private:
  static constexpr std::uint8_t kOnce = 0;
  static constexpr std::uint8_t kAgain = 1;
  static constexpr std::uint8_t kOnceGhosts = 2;
  static constexpr std::uint8_t kAgainGhosts = 3;

  void use(const Request& request) override;
  void admit(WorkloadBlock block);
  void forget_a_ghost();
  void evict();

  BlockQueues<4> queues_;
  double once_goal_ = 0;  // blocks that kOnce should have
  std::vector<WorkloadBlock> missing_;
};

}  // namespace tiercel
