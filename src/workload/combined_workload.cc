#include "workload/combined_workload.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace tiercel {
namespace {

constexpr std::uint32_t kNoSession = UINT32_MAX;
constexpr std::uint64_t kPause_ns = 1'000'000'000;

std::uint64_t sessions_of(const Workload& workload) {
  std::uint64_t most = 0;
  for (const WorkloadRequest& request : workload.requests) {
    if (request.session != kNoSession) most = std::max<std::uint64_t>(most, std::uint64_t{request.session} + 1);
  }
  return most;
}

}  // namespace

Result<Workload> combine_workloads(std::span<const Workload> workloads, WorkloadOrder order) {
  Workload whole;
  std::uint64_t blocks = 0;
  std::uint64_t sessions = 0;
  std::uint64_t start_ns = 0;
  for (const Workload& part : workloads) {
    if (blocks + part.unique_blocks >= kNoWorkloadBlock || sessions + sessions_of(part) >= kNoSession) {
      return fail(ErrorCode::kLimit, "the traces have more than 4 billion blocks or sessions together");
    }
    const std::uint64_t first_use = whole.block_uses.size();
    for (const WorkloadBlock block : part.block_uses) {
      whole.block_uses.push_back(static_cast<WorkloadBlock>(blocks + block));
    }
    for (WorkloadRequest request : part.requests) {
      request.first_use += first_use;
      request.arrival_ns += start_ns;
      if (request.session != kNoSession) request.session = static_cast<std::uint32_t>(sessions + request.session);
      whole.requests.push_back(request);
    }
    blocks += part.unique_blocks;
    sessions += sessions_of(part);
    if (order == WorkloadOrder::kOneAfterAnother && !part.requests.empty()) {
      start_ns = whole.requests.back().arrival_ns + kPause_ns;
    }
  }
  whole.unique_blocks = static_cast<std::uint32_t>(blocks);
  // Each part is in order of time already; of two requests at once the earlier workload's comes first.
  std::ranges::sort(whole.requests, [](const WorkloadRequest& a, const WorkloadRequest& b) {
    return std::tie(a.arrival_ns, a.first_use, a.session) < std::tie(b.arrival_ns, b.first_use, b.session);
  });
  return whole;
}

}  // namespace tiercel
