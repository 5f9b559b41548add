#include "cli/bench_disk.h"

#include "cli/fio.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace tiercel::cli {
namespace {

using std::chrono::milliseconds;

/// What several rounds moved together.
void add(DiskSpeed& sum, const DiskSpeed& round) {
  sum.blocks += round.blocks;
  sum.bytes += round.bytes;
  sum.seconds += round.seconds;
  sum.cpu_seconds += round.cpu_seconds;
}

class Run {
 public:
  Run(const BenchDiskOptions& options, const BenchDiskProgress& progress, const std::atomic<bool>* cancel)
      : options_(options), progress_(progress), cancel_(cancel) {}

  Result<BenchDiskReport> all() {
    if (options_.fio.empty()) report_.without_fio = "not asked for";
    for (const std::uint64_t block_bytes : options_.blocks) {
      if (Status status = one_size(block_bytes); !status) return tl::unexpected<Error>(status.error());
    }
    return std::move(report_);
  }

 private:
  Status one_size(std::uint64_t block_bytes) {
    doing(fmt::format("writing the file, blocks of {}", format_bytes(block_bytes)));
    auto bench = DiskBench::create({.directory = options_.directory,
                                    .file_bytes = options_.file_bytes,
                                    .block_bytes = block_bytes,
                                    .depth = options_.depth,
                                    .io = options_.io,
                                    .huge_pages = options_.huge_pages,
                                    .register_memory = options_.register_memory,
                                    .cancel = cancel_});
    if (!bench) return tl::unexpected<Error>(bench.error());
    if (Status status = fill_fio(*bench, block_bytes); !status) return status;
    if (report_.io_engine.empty()) {
      report_.place = bench->place();
      report_.io_engine = bench->io_engine();
      report_.on_huge_pages = bench->on_huge_pages();
      report_.file_bytes = bench->block_bytes_total();
      if (progress_.started) progress_.started(report_);
    }
    for (const DiskDirection direction : options_.directions) {
      if (Status status = compare(*bench, block_bytes, direction); !status) return status;
    }
    for (const std::uint32_t in_flight : options_.loads) {
      if (in_flight > options_.depth) continue;
      if (Status status = compare_loads(*bench, block_bytes, in_flight); !status) return status;
    }
    return {};
  }

  [[nodiscard]] FioJob fio_job(const DiskBench& bench, std::uint64_t block_bytes) const {
    return {.program = options_.fio,
            .file = bench.directory() + "/fio.data",
            .engine = bench.io_engine() == "io_uring" ? "io_uring" : "libaio",
            .file_bytes = bench.block_bytes_total(),
            .block_bytes = block_bytes,
            .depth = options_.depth};
  }

  /// Writes fio's file in full. Without fio the run goes on, without its column.
  Status fill_fio(const DiskBench& bench, std::uint64_t block_bytes) {
    if (!report_.without_fio.empty()) return {};
    doing("writing fio's file");
    const auto filled = run_fio(fio_job(bench, block_bytes), cancel_);
    if (filled) return {};
    if (filled.error().code != ErrorCode::kNotFound) return tl::unexpected<Error>(filled.error());
    report_.without_fio = "fio is not installed (Debian package fio)";
    return {};
  }

  Status compare(DiskBench& bench, std::uint64_t block_bytes, DiskDirection direction) {
    DiskComparison comparison{.block_bytes = block_bytes, .direction = direction};
    FioJob job = fio_job(bench, block_bytes);
    job.direction = direction;
    job.duration = milliseconds(std::max<milliseconds::rep>(1, options_.duration.count() / options_.rounds));
    const bool with_fio = report_.without_fio.empty();
    if (with_fio) comparison.fio.emplace();
    for (std::uint32_t round = 0; round < options_.rounds; ++round) {
      DiskSpeed ours;
      DiskSpeed fio;
      // In turn, and each as often first as the other: what the device does over time meets both.
      for (const bool ours_now : {round % 2 == 0, round % 2 == 1}) {
        if (!ours_now && !with_fio) continue;
        doing(fmt::format("{} {}, round {} of {}: {}", format_bytes(block_bytes),
                          direction == DiskDirection::kRead ? "read" : "write", round + 1, options_.rounds,
                          ours_now ? "Tiercel" : "fio"));
        const auto speed = ours_now ? bench.measure(direction, job.duration) : run_fio(job, cancel_);
        if (!speed) return tl::unexpected<Error>(speed.error());
        (ours_now ? ours : fio) = *speed;
      }
      add(comparison.ours, ours);
      if (!with_fio) continue;
      add(*comparison.fio, fio);
      const double ratio = ours.bytes_per_second() / fio.bytes_per_second();
      comparison.lowest_ratio = round == 0 ? ratio : std::min(comparison.lowest_ratio, ratio);
      comparison.highest_ratio = std::max(comparison.highest_ratio, ratio);
    }
    if (progress_.compared) progress_.compared(comparison);
    report_.comparisons.push_back(comparison);
    return {};
  }

  Status compare_loads(DiskBench& bench, std::uint64_t block_bytes, std::uint32_t in_flight) {
    doing(fmt::format("{} loads, {} in flight, without and with writes", format_bytes(block_bytes), in_flight));
    auto alone = bench.load_latency(in_flight, false, options_.duration);
    if (!alone) return tl::unexpected<Error>(alone.error());
    auto beside = bench.load_latency(in_flight, true, options_.duration);
    if (!beside) return tl::unexpected<Error>(beside.error());
    report_.loads.push_back(
        {.block_bytes = block_bytes, .in_flight = in_flight, .alone = *alone, .beside_writes = *beside});
    if (progress_.loaded) progress_.loaded(report_.loads.back());
    return {};
  }

  void doing(const std::string& what) const {
    if (progress_.doing) progress_.doing(what);
  }

  const BenchDiskOptions& options_;
  const BenchDiskProgress& progress_;
  const std::atomic<bool>* const cancel_;
  BenchDiskReport report_;
};

}  // namespace

double DiskComparison::ratio() const {
  return fio && fio->bytes_per_second() > 0 ? ours.bytes_per_second() / fio->bytes_per_second() : 0;
}

double LoadComparison::p99_ratio() const {
  return alone.p99_ns > 0 ? static_cast<double>(beside_writes.p99_ns) / static_cast<double>(alone.p99_ns) : 0;
}

double cpu_budget(const DiskPlace& place) { return place.bus == "nvme" ? 0.15 : 0.3; }

Result<BenchDiskReport> bench_disk(const BenchDiskOptions& options, const BenchDiskProgress& progress,
                                   const std::atomic<bool>* cancel) {
  return Run(options, progress, cancel).all();
}

}  // namespace tiercel::cli
