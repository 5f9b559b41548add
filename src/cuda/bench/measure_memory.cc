#include "cuda/bench/copy_methods.h"
#include "cuda/bench/measurements.h"
#include "cuda/bench/stopwatch.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

namespace tiercel::gpu {
namespace {

enum class Pages { kOrdinary, kHuge };

/// Of the memory that begins here, in percent; -1: the system does not say.
double percent_huge(const void* memory, std::uint64_t bytes) {
  std::ifstream maps("/proc/self/smaps");
  const std::string begin = fmt::format("{:x}-", reinterpret_cast<std::uintptr_t>(memory));
  bool mine = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.starts_with(begin)) mine = true;
    if (!mine || !line.starts_with("AnonHugePages:")) continue;
    return std::strtod(line.c_str() + std::strlen("AnonHugePages:"), nullptr) * 1024 / static_cast<double>(bytes) * 100;
  }
  return -1;
}

/// First touch by all cores, so that registration is measured and not the kernel's clearing of pages.
void touch(std::byte* memory, std::uint64_t bytes) {
  const std::uint64_t cores = std::max(1U, std::thread::hardware_concurrency());
  const std::uint64_t part = bytes / cores;
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < cores; ++i) {
    threads.emplace_back([=] {
      for (std::uint64_t at = i * part; at < (i + 1) * part; at += 4096) memory[at] = std::byte{1};
    });
  }
  for (std::thread& thread : threads) thread.join();
}

struct Case {
  std::uint64_t bytes = 0;
  Pages pages = Pages::kHuge;
  std::uint64_t piece_bytes = GpuCopyOptions{}.register_piece_bytes;
  bool touched = true;  ///< else registration is what provides the pages
};

void measure_one(const Case& which, const BenchOutput& output) {
  const auto& [bytes, pages, piece_bytes, is_touched] = which;
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return output.line("registration: no address space");
  (void)madvise(mapped, bytes, pages == Pages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  auto* memory = static_cast<std::byte*>(mapped);
  const double touched = is_touched ? seconds_of([&] { touch(memory, bytes); }) : 0;
  const double huge = percent_huge(memory, bytes);
  const CudaStream stream = CudaStream::make(StreamPriority::kNormal).value();
  const auto launch_us = [&] { return seconds_of([&] { bench_must(launch_nothing(stream.get())); }) * 1e6; };
  std::vector<double> idle;
  for (int i = 0; i < 2000; ++i) idle.push_back(launch_us());
  bench_must(cudaStreamSynchronize(stream.get()));
  std::vector<double> beside;
  double seconds = 0;
  double first = 0;
  {
    BenchEngine engine({.register_piece_bytes = piece_bytes});
    const auto begin = std::chrono::steady_clock::now();
    const auto passed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
    (*engine).register_memory(memory, bytes);
    for (std::uint64_t i = 0; (*engine).registered_bytes() < bytes && passed() < 120; ++i) {
      if (first == 0 && (*engine).registered_bytes() > 0) first = passed();
      beside.push_back(launch_us());
      if (i % 64 == 63) bench_must(cudaStreamSynchronize(stream.get()));
    }
    seconds = passed();
  }
  bench_must(cudaStreamSynchronize(stream.get()));
  munmap(mapped, bytes);
  const char* name = pages == Pages::kHuge ? "huge" : "ordinary";
  output.line(fmt::format(
      "  {:>3} GiB, {:<8} pages, pieces of {:>3} MiB: {:6.2f} s ({:5.1f} GiB/s), first piece after {:5.1f} ms, touched "
      "in {:4.1f} s{}, {:.0f} % huge; launches meanwhile p50 {:4.1f} p99 {:6.1f} max {:7.1f} us (before: {:.1f} / "
      "{:.1f} / {:.1f})",
      bytes >> 30U, name, piece_bytes >> 20U, seconds, static_cast<double>(bytes) / seconds / (1U << 30U), first * 1e3,
      touched, is_touched ? "" : " (by registering)", huge, median(beside), percentile(beside, 0.99),
      percentile(beside, 1), median(idle), percentile(idle, 0.99), percentile(idle, 1)));
  output.row(fmt::format("registration,{},{},{},{:.4f},{:.2f},{:.2f}", bytes, name, piece_bytes, seconds,
                         percentile(beside, 0.99), percentile(beside, 1)));
}

}  // namespace

void measure_registration(std::uint64_t bytes, const BenchOutput& output) {
  output.line("\nregistration of host memory, by one thread, beside launches of another");
  const std::uint64_t small = std::min<std::uint64_t>(bytes, std::uint64_t{8} << 30U);
  for (const std::uint64_t piece : {2U, 8U, 16U, 64U}) {
    measure_one({.bytes = small, .piece_bytes = piece << 20U}, output);
  }
  for (const std::uint64_t piece : {2U, 8U, 64U}) {
    measure_one({.bytes = small, .pages = Pages::kOrdinary, .piece_bytes = piece << 20U}, output);
  }
  measure_one({.bytes = small, .pages = Pages::kOrdinary, .touched = false}, output);
  if (bytes <= small) return;
  // The first of these also meets memory that the machine has never given to anybody.
  for (const std::uint64_t piece : {8U, 8U, 16U, 64U})
    measure_one({.bytes = bytes, .piece_bytes = piece << 20U}, output);
}

}  // namespace tiercel::gpu
