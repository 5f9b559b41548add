#include "replay/optimum.h"

#include <algorithm>

namespace tiercel {

std::vector<std::uint32_t> next_uses(const Workload& workload) {
  std::vector<std::uint32_t> next(workload.block_uses.size(), UINT32_MAX);
  std::vector<std::uint32_t> by_block(workload.unique_blocks, UINT32_MAX);
  for (std::size_t number = workload.requests.size(); number-- > 0;) {
    const WorkloadRequest& request = workload.requests[number];
    for (std::uint64_t use = request.first_use; use < request.first_use + request.block_count; ++use) {
      std::uint32_t& nearest = by_block[workload.block_uses[use]];
      next[use] = nearest;
      nearest = static_cast<std::uint32_t>(number);
    }
  }
  return next;
}

Optimum::Optimum(std::uint64_t capacity, const Workload& workload, const std::vector<std::uint32_t>& next_uses)
    : ReplayPolicy(capacity), workload_(workload), next_uses_(next_uses), held_for_(workload.requests.size(), 0) {}

std::uint64_t Optimum::leading_held(std::span<const WorkloadBlock> blocks) const {
  TIERCEL_CHECK(at_ < workload_.requests.size() && blocks.size() == workload_.requests[at_].block_count,
                "the requests of the workload are served in order");
  return held_for_[at_];
}

void Optimum::use(const Request& request) {
  const std::uint64_t first = workload_.requests[at_].first_use;
  held_ -= held_for_[at_];
  held_for_[at_] = 0;
  for (std::size_t i = 0; i < request.blocks.size(); ++i) {
    const std::uint32_t next = next_uses_[first + i];
    if (next == UINT32_MAX) break;  // nor is any behind it used again
    if (held_for_[next]++ == 0) latest_.push(next);
    ++held_;
  }
  while (held_ > capacity()) {
    std::uint32_t& least = held_for_[latest_.top()];
    const auto gone = static_cast<std::uint32_t>(std::min<std::uint64_t>(least, held_ - capacity()));
    least -= gone;
    held_ -= gone;
    if (least == 0) latest_.pop();
  }
  ++at_;
}

}  // namespace tiercel
