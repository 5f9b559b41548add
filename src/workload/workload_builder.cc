#include "workload/workload_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <unordered_set>
#include <utility>

namespace tiercel {

WorkloadBlock& WorkloadBuilder::number_of(std::uint64_t id) {
  if (id >= kTableIds) return large_ids_.try_emplace(id, kNoWorkloadBlock).first->second;
  if (id >= small_ids_.size()) small_ids_.resize(id + 1, kNoWorkloadBlock);
  return small_ids_[id];
}

Status WorkloadBuilder::add(WorkloadRequest request, std::span<const std::uint64_t> ids) {
  request.first_use = workload_.block_uses.size();
  request.block_count = static_cast<std::uint32_t>(ids.size());
  WorkloadBlock parent = kNoWorkloadBlock;
  for (const std::uint64_t id : ids) {
    WorkloadBlock& number = number_of(id);
    if (number == kNoWorkloadBlock || number < first_in_scope_) {
      if (workload_.unique_blocks == kNoWorkloadBlock) {
        return fail(ErrorCode::kInvalidArgument, "more than 4 billion different blocks");
      }
      number = workload_.unique_blocks++;
      parents_.push_back(parent);
    } else if (parents_[number] != parent) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("block id {} stands behind two different blocks; an id must name a block and all before "
                              "it",
                              id));
    }
    workload_.block_uses.push_back(number);
    parent = number;
  }
  workload_.requests.push_back(request);
  return {};
}

Workload WorkloadBuilder::finish(bool by_time) && {
  auto& requests = workload_.requests;
  if (by_time) {
    std::ranges::sort(requests, {}, [](const WorkloadRequest& request) {
      return std::tuple(request.arrival_ns, request.session, request.first_use);
    });
  }
  std::unordered_set<std::uint32_t> ended;
  for (auto request = requests.rbegin(); request != requests.rend(); ++request) {
    request->ends_session = request->session != UINT32_MAX && ended.insert(request->session).second;
  }
  workload_.block_uses.shrink_to_fit();
  return std::move(workload_);
}

}  // namespace tiercel
