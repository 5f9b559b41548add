// LruReplay: the LruPolicy of a cache under the rules of a replay. Used tail first, the block used longest ago is
// always a leaf of what is held.
#pragma once

#include "policy/lru.h"
#include "replay/replay_policy.h"

#include <span>

namespace tiercel {

class LruReplay final : public ReplayPolicy {
 public:
  LruReplay(std::uint64_t capacity, std::uint32_t blocks) : ReplayPolicy(capacity), lru_(blocks) { lru_.add_list(0); }

  [[nodiscard]] bool holds(WorkloadBlock block) const override { return lru_.knows(block); }
  [[nodiscard]] std::uint64_t held() const override { return held_; }

 private:
  void use(const Request& request) override {
    for (auto block = request.blocks.rbegin(); block != request.blocks.rend(); ++block) {
      if (lru_.knows(*block)) {
        lru_.touch(std::span(&*block, 1), request.now_ns);
      } else {
        lru_.insert(*block, 0, request.now_ns);
        ++held_;
      }
    }
    for (; held_ > capacity(); --held_) lru_.erase(*lru_.victim(0, [](PolicyBlock) { return true; }));
  }

  LruPolicy lru_;
  std::uint64_t held_ = 0;
};

}  // namespace tiercel
