#include "replay/arc.h"

#include <algorithm>

namespace tiercel {

void Arc::use(const Request& request) {
  missing_.clear();
  for (auto block = request.blocks.rbegin(); block != request.blocks.rend(); ++block) {
    if (holds(*block)) {
      queues_.push(kAgain, *block);
    } else {
      missing_.push_back(*block);
    }
  }
  for (const WorkloadBlock block : missing_) admit(block);
  while (held() > capacity()) evict();
}

void Arc::admit(WorkloadBlock block) {
  const auto once_ghosts = static_cast<double>(queues_.size(kOnceGhosts));
  const auto again_ghosts = static_cast<double>(queues_.size(kAgainGhosts));
  switch (queues_.queue_of(block)) {
    case kOnceGhosts:
      once_goal_ = std::min(once_goal_ + std::max(1.0, again_ghosts / once_ghosts), static_cast<double>(capacity()));
      queues_.push(kAgain, block);
      break;
    case kAgainGhosts:
      once_goal_ = std::max(once_goal_ - std::max(1.0, once_ghosts / again_ghosts), 0.0);
      queues_.push(kAgain, block);
      break;
    default:
      forget_a_ghost();
      queues_.push(kOnce, block);
  }
}

/// At most a capacity of names in the queues of blocks used once, two in all four; then one goes for the one that
/// comes.
void Arc::forget_a_ghost() {
  const std::uint64_t once = queues_.size(kOnce) + queues_.size(kOnceGhosts);
  const std::uint64_t all = once + queues_.size(kAgain) + queues_.size(kAgainGhosts);
  if (once >= capacity()) {
    if (queues_.size(kOnceGhosts) > 0) (void)queues_.pop(kOnceGhosts);
  } else if (all >= 2 * capacity() && queues_.size(kAgainGhosts) > 0) {
    (void)queues_.pop(kAgainGhosts);
  }
}

void Arc::evict() {
  const auto once = static_cast<double>(queues_.size(kOnce));
  const bool from_once = queues_.size(kOnce) > 0 && (once > once_goal_ || queues_.size(kAgain) == 0);
  const WorkloadBlock block = queues_.pop(from_once ? kOnce : kAgain);
  if (!from_once) {
    queues_.push(kAgainGhosts, block);
  } else if (queues_.size(kOnce) + queues_.size(kOnceGhosts) < capacity()) {
    queues_.push(kOnceGhosts, block);  // else it is forgotten: the names are full of blocks that are held
  }
}

}  // namespace tiercel
