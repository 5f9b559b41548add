// Workload: the requests of a recorded trace, in the order in which they are replayed, with dense block numbers.
//
// An owning value, made by read_workload() and not changed after that; any number of threads may read it. Block numbers
// are small integers in the order of first appearance. They form a forest: a block always stands behind the same
// parent, so that equal numbers mean equal prefixes (WorkloadBuilder refuses anything else).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tiercel {

using WorkloadBlock = std::uint32_t;
inline constexpr WorkloadBlock kNoWorkloadBlock = UINT32_MAX;

struct WorkloadRequest {
  std::uint64_t arrival_ns = 0;  ///< from the start of the trace
  std::uint64_t first_use = 0;   ///< its blocks are block_uses[first_use, first_use + block_count)
  std::uint32_t block_count = 0;
  std::uint32_t input_tokens = 0;
  std::uint32_t output_tokens = 0;
  std::uint32_t session = UINT32_MAX;  ///< UINT32_MAX: the trace does not say
  bool ends_session = false;           ///< the last request of its session in this trace
};

struct Workload {
  std::vector<WorkloadRequest> requests;
  std::vector<WorkloadBlock> block_uses;  ///< head first within a request
  std::uint32_t unique_blocks = 0;

  [[nodiscard]] std::span<const WorkloadBlock> blocks_of(const WorkloadRequest& request) const {
    return std::span(block_uses).subspan(request.first_use, request.block_count);
  }
};

}  // namespace tiercel
