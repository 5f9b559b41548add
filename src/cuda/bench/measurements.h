// The parts of the benchmark: each measures, prints a table, and adds lines to the CSV. One thread; the GPU of device
// 0.
#pragma once

#include "cuda/bench/paged_pool.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace tiercel::gpu {

/// Where the lines go: stdout, and a CSV if there is one.
struct BenchOutput {
  std::FILE* csv = nullptr;
  void line(const std::string& text) const;
  void row(const std::string& text) const;
};

/// Stage, chunk, depth, thread blocks: what the defaults were chosen by.
void measure_settings(const PoolMemory& memory, const BenchOutput& output);
/// Layouts x blocks x {store, load, both} x ways, as a share of one contiguous copy of the same bytes.
void measure_copies(const PoolMemory& memory, const BenchOutput& output);
/// What copies cost a model's graph replays, and the copies it.
void measure_beside(const PoolMemory& memory, const BenchOutput& output, double seconds);
/// What the defaults are chosen by, beside models and foreign copies.
void measure_tuning(const PoolMemory& memory, const BenchOutput& output, double seconds);
/// How long a foreign 4 KiB copy takes beside full-speed transfers.
void measure_foreign_copies(const PoolMemory& memory, const BenchOutput& output);
/// Registration of `bytes` of host memory beside launches, on ordinary and on huge pages.
void measure_registration(std::uint64_t bytes, const BenchOutput& output);

struct GridArguments {
  std::string csv = "gpu_grid.csv";
  std::string svg;  ///< empty: no plot
  double budget_seconds = 420;
  std::uint64_t gpu_bytes = 0;
  std::uint64_t arena_bytes = 0;
  std::chrono::steady_clock::time_point begin;  ///< of the program
};
/// The whole grid, or what is left of it: progress to stderr, the tables to stdout.
[[nodiscard]] Status measure_grid(const GridArguments& arguments);

}  // namespace tiercel::gpu
