// BenchDisk: `tiercel bench disk`, without its printing: our disk path and fio in turn, in one run, on files in one
// directory that were both fully written before; then loads with and without a write load beside them.
//
// Blocking; one thread. Nothing of it stays in the directory.
#pragma once

#include <tiercel/disk_bench.h>
#include <tiercel/result.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::cli {

struct BenchDiskOptions {
  std::string directory;
  std::vector<std::uint64_t> blocks = {1_MiB, 2_MiB, 4_MiB};
  std::vector<DiskDirection> directions = {DiskDirection::kRead, DiskDirection::kWrite};
  std::vector<std::uint32_t> loads = {1, 4, 32};  ///< in flight, for the latencies
  std::uint32_t depth = 32;
  std::uint64_t file_bytes = 4_GiB;
  std::chrono::milliseconds duration{6000};  ///< of each side of a comparison, over all rounds
  std::uint32_t rounds = 3;
  DiskIo io = DiskIo::kAuto;
  HugePages huge_pages = HugePages::kAuto;
  bool register_memory = true;
  std::string fio = "fio";  ///< empty: without
};

/// One size and direction.
struct DiskComparison {
  std::uint64_t block_bytes = 0;
  DiskDirection direction = DiskDirection::kRead;
  DiskSpeed ours;
  std::optional<DiskSpeed> fio;
  double lowest_ratio = 0;  ///< of the rounds
  double highest_ratio = 0;
  [[nodiscard]] double ratio() const;
};

struct LoadComparison {
  std::uint64_t block_bytes = 0;
  std::uint32_t in_flight = 0;
  LoadLatency alone;
  LoadLatency beside_writes;
  [[nodiscard]] double p99_ratio() const;
};

struct BenchDiskReport {
  DiskPlace place;
  std::string io_engine;
  bool on_huge_pages = false;  ///< our memory; fio's never is
  std::uint64_t file_bytes = 0;
  std::string without_fio;  ///< why there is no fio column; empty if there is
  std::vector<DiskComparison> comparisons;
  std::vector<LoadComparison> loads;
};

/// What a run tells while it goes on; each member may be empty.
struct BenchDiskProgress {
  std::function<void(const std::string&)> doing;  ///< what it does now
  std::function<void(const BenchDiskReport&)> started;
  std::function<void(const DiskComparison&)> compared;
  std::function<void(const LoadComparison&)> loaded;
};

/// Seconds of CPU for a gigabyte that our side may take on this bus (docs/architecture.md, part 8).
[[nodiscard]] double cpu_budget(const DiskPlace& place);

[[nodiscard]] Result<BenchDiskReport> bench_disk(const BenchDiskOptions& options, const BenchDiskProgress& progress,
                                                 const std::atomic<bool>* cancel);

}  // namespace tiercel::cli
