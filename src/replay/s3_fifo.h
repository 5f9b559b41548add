// S3Fifo: three queues (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023).
// New blocks enter a small queue of a tenth of the capacity; what was used again there moves to the main queue, the
// rest is remembered by name alone for as many blocks as the main queue has room. A block of those enters the main
// queue.
#pragma once

#include "replay/block_queues.h"
#include "replay/replay_policy.h"

namespace tiercel {

class S3Fifo final : public ReplayPolicy {
 public:
  /// `further_uses`: how many uses after the first take a block from the small queue to the main queue.
  S3Fifo(std::uint64_t capacity, std::uint32_t blocks, std::uint8_t further_uses);

  [[nodiscard]] bool holds(WorkloadBlock block) const override { return queues_.queue_of(block) <= kMain; }
  [[nodiscard]] std::uint64_t held() const override { return queues_.size(kSmall) + queues_.size(kMain); }

 private:
  static constexpr std::uint8_t kSmall = 0;
  static constexpr std::uint8_t kMain = 1;
  static constexpr std::uint8_t kGhosts = 2;
  static constexpr std::uint8_t kMostUses = 3;

  void use(const Request& request) override;
  void touch(WorkloadBlock block);
  void step_small();
  void step_main();

  BlockQueues<3> queues_;  // a block's mark: uses since it entered its queue
  std::uint64_t small_capacity_;
  std::uint8_t further_uses_;
};

}  // namespace tiercel
