// Findings: what facts about machine and directories mean for a configuration. Pure functions, one an aspect.
#pragma once

#include "inspect/directory_facts.h"
#include "inspect/machine_facts.h"

#include <tiercel/config.h>
#include <tiercel/disk_bench.h>
#include <tiercel/doctor.h>

#include <cstdint>
#include <vector>

namespace tiercel::inspect {

/// Bytes that the arena will have.
[[nodiscard]] std::uint64_t arena_bytes(const Config& config, const MachineFacts& machine);
/// Bytes that the file in directory `index` will have, and a little more.
[[nodiscard]] std::uint64_t file_share(const Config& config, std::size_t index);

[[nodiscard]] Finding judge_io_uring(const Config& config, const MachineFacts& machine);
[[nodiscard]] Finding judge_memory(const Config& config, const MachineFacts& machine);
[[nodiscard]] Finding judge_huge_pages(const Config& config, const MachineFacts& machine);
[[nodiscard]] Finding judge_memlock(const Config& config, const MachineFacts& machine);
[[nodiscard]] Finding judge_numa(const MachineFacts& machine);

/// Everything about a directory but its speed. `wanted_bytes`: of its file.
[[nodiscard]] std::vector<Finding> judge_directory(const DirectoryFacts& directory, std::uint64_t wanted_bytes,
                                                   bool direct);
[[nodiscard]] Finding judge_speed(const DirectoryFacts& directory, const DiskSpeed& read, const DiskSpeed& write);

/// Several directories on one filesystem share its speed and fail together.
[[nodiscard]] std::vector<Finding> judge_together(const std::vector<DirectoryFacts>& directories);

/// "6.9 GB/s", "85 MB/s".
[[nodiscard]] std::string speed_text(double bytes_per_second);
/// "1.5 GiB": to read, where format_bytes is exact.
[[nodiscard]] std::string size_text(std::uint64_t bytes);

}  // namespace tiercel::inspect
