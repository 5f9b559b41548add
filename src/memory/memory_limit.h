// How much host memory this process may still use: the smaller of what the machine has available and what every memory
// control group above the process leaves (cgroup v2 and v1). File cache that the kernel can drop counts as free.
#pragma once

#include <cstdint>
#include <string>

namespace tiercel {

/// Bytes. `root` is "" on a real system; tests put a small tree of /proc and /sys files there. 0 where nothing is
/// known.
[[nodiscard]] std::uint64_t available_memory_bytes(const std::string& root = "");

}  // namespace tiercel
