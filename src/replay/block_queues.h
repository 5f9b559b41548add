// BlockQueues: a few queues of blocks, each block in at most one of them. 12 bytes a block number; all calls O(1). One
// thread.
#pragma once

#include "base/check.h"
#include "workload/workload.h"

#include <array>
#include <cstdint>
#include <vector>

namespace tiercel {

template <std::size_t kQueues>
class BlockQueues {
 public:
  static constexpr std::uint8_t kNowhere = kQueues;

  explicit BlockQueues(std::uint32_t blocks) : nodes_(blocks) { ends_.fill({}); }

  /// The queue that a block is in, or kNowhere.
  [[nodiscard]] std::uint8_t queue_of(WorkloadBlock block) const { return nodes_[block].queue; }
  [[nodiscard]] std::uint64_t size(std::uint8_t queue) const { return ends_[queue].size; }
  /// A number that a policy keeps with the block; 0 at first.
  [[nodiscard]] std::uint8_t& mark(WorkloadBlock block) { return nodes_[block].mark; }

  /// To the newest end of `queue`, from wherever it is.
  void push(std::uint8_t queue, WorkloadBlock block) {
    remove(block);
    Ends& ends = ends_[queue];
    Node& node = nodes_[block];
    node.queue = queue;
    node.older = ends.newest;
    node.newer = kNoWorkloadBlock;
    (ends.newest == kNoWorkloadBlock ? ends.oldest : nodes_[ends.newest].newer) = block;
    ends.newest = block;
    ++ends.size;
  }
  /// Takes the oldest out of a queue that is not empty.
  WorkloadBlock pop(std::uint8_t queue) {
    const WorkloadBlock block = ends_[queue].oldest;
    TIERCEL_CHECK(block != kNoWorkloadBlock, "the queue is not empty");
    remove(block);
    return block;
  }
  void remove(WorkloadBlock block) {
    Node& node = nodes_[block];
    if (node.queue == kNowhere) return;
    Ends& ends = ends_[node.queue];
    (node.older == kNoWorkloadBlock ? ends.oldest : nodes_[node.older].newer) = node.newer;
    (node.newer == kNoWorkloadBlock ? ends.newest : nodes_[node.newer].older) = node.older;
    --ends.size;
    node.queue = kNowhere;
  }

 private:
  struct Node {
    WorkloadBlock older = kNoWorkloadBlock;
    WorkloadBlock newer = kNoWorkloadBlock;
    std::uint8_t queue = kNowhere;
    std::uint8_t mark = 0;
  };
  struct Ends {
    WorkloadBlock oldest = kNoWorkloadBlock;
    WorkloadBlock newest = kNoWorkloadBlock;
    std::uint64_t size = 0;
  };

  std::vector<Node> nodes_;
  std::array<Ends, kQueues> ends_;
};

}  // namespace tiercel
