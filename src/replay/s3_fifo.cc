#include "replay/s3_fifo.h"

#include <algorithm>

namespace tiercel {

S3Fifo::S3Fifo(std::uint64_t capacity, std::uint32_t blocks, std::uint8_t further_uses)
    : ReplayPolicy(capacity),
      queues_(blocks),
      small_capacity_(std::max<std::uint64_t>(capacity / 10, 1)),
      further_uses_(further_uses) {}

void S3Fifo::use(const Request& request) {
  for (auto block = request.blocks.rbegin(); block != request.blocks.rend(); ++block) touch(*block);
  while (held() > capacity()) {
    if (queues_.size(kSmall) > small_capacity_ || queues_.size(kMain) == 0) {
      step_small();
    } else {
      step_main();
    }
  }
}

void S3Fifo::touch(WorkloadBlock block) {
  std::uint8_t& uses = queues_.mark(block);
  if (holds(block)) {
    uses = std::min<std::uint8_t>(uses + 1, kMostUses);
    return;
  }
  uses = 0;
  queues_.push(queues_.queue_of(block) == kGhosts ? kMain : kSmall, block);
}

void S3Fifo::step_small() {
  const WorkloadBlock block = queues_.pop(kSmall);
  std::uint8_t& uses = queues_.mark(block);
  if (uses >= further_uses_) {
    uses = 0;
    queues_.push(kMain, block);
    return;
  }
  queues_.push(kGhosts, block);
  if (queues_.size(kGhosts) > capacity() - std::min(capacity(), small_capacity_)) (void)queues_.pop(kGhosts);
}

void S3Fifo::step_main() {
  const WorkloadBlock block = queues_.pop(kMain);
  std::uint8_t& uses = queues_.mark(block);
  if (uses == 0) return;
  --uses;
  queues_.push(kMain, block);
}

}  // namespace tiercel
