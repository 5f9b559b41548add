// WorkloadBuilder: gives raw block ids of a trace their numbers and holds them to the rules of a workload. One thread.
//
// Ids are names inside a scope: the whole trace, or one session of it (begin_scope()). Numbers grow, so a name that has
// one from before the scope has none in it, and a scope costs nothing to begin. Memory: 4 bytes a block use, 4 a block
// for its parent, 4 to 60 a block for its number (a table for ids below 2^22, a hash table above).
#pragma once

#include "workload/workload.h"

#include <tiercel/result.h>

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace tiercel {

class WorkloadBuilder {
 public:
  /// Ids seen so far mean nothing from here on.
  void begin_scope() noexcept { first_in_scope_ = workload_.unique_blocks; }
  /// Adds a request; its blocks and `first_use` are filled in. kInvalidArgument: an id stands behind another parent
  /// than before (or twice in the request, which is the same), or there are too many blocks. The message has no place
  /// in the file. After an error the builder is of no further use.
  [[nodiscard]] Status add(WorkloadRequest request, std::span<const std::uint64_t> ids);
  /// Marks the last request of each session and, with `by_time`, orders requests by arrival.
  [[nodiscard]] Workload finish(bool by_time) &&;

  [[nodiscard]] const Workload& so_far() const noexcept { return workload_; }

 private:
  static constexpr std::uint64_t kTableIds = 1U << 22U;

  [[nodiscard]] WorkloadBlock& number_of(std::uint64_t id);

  Workload workload_;
  WorkloadBlock first_in_scope_ = 0;
  std::vector<WorkloadBlock> parents_;
  std::vector<WorkloadBlock> small_ids_;
  std::unordered_map<std::uint64_t, WorkloadBlock> large_ids_;
};

}  // namespace tiercel
