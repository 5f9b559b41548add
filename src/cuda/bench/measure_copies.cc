#include "cuda/bench/copy_methods.h"
#include "cuda/bench/measurements.h"
#include "cuda/bench/stopwatch.h"
#include "cuda/testing/stage_options.h"

#include <fmt/format.h>

#include <functional>
#include <map>

namespace tiercel::gpu {
namespace {

using Direction = CopyDirection;

/// One copy of so many bytes a direction; both at once where both are asked for.
double contiguous_seconds(const PoolMemory& memory, const DirectionStreams& streams, std::uint64_t bytes, bool store,
                          bool load) {
  return seconds_of([&] {
    // Loads beside stores use the upper halves, so that the two do not share memory.
    std::byte* gpu = memory.gpu.data() + (store ? memory.gpu_bytes / 2 : 0);
    const std::byte* host = memory.arena.data() + (store ? memory.arena_bytes / 2 : 0);
    if (store)
      bench_must(cudaMemcpyAsync(memory.arena.data(), memory.gpu.data(), bytes, cudaMemcpyDeviceToHost,
                                 streams.of(Direction::kStore)));
    if (load) bench_must(cudaMemcpyAsync(gpu, host, bytes, cudaMemcpyHostToDevice, streams.of(Direction::kLoad)));
    bench_must(streams.wait());
  });
}

int repetitions(std::uint64_t bytes) {
  return bytes > (std::uint64_t{1} << 30U) ? 3 : bytes > (64U << 20U) ? 5 : bytes > (4U << 20U) ? 15 : 60;
}

double median_of(int count, const std::function<double()>& measure) {
  (void)measure();
  std::vector<double> seconds;
  for (int i = 0; i < count; ++i) seconds.push_back(measure());
  return median(seconds);
}

constexpr GpuCopyOptions kFullSpeed{.store_bytes_per_second = 0, .store_floor_percent = 100};

GpuCopyOptions with_path(CopyPath path) {
  GpuCopyOptions options = kFullSpeed;
  options.path = path;
  return options;
}

}  // namespace

void BenchOutput::line(const std::string& text) const {
  std::puts(text.c_str());
  std::fflush(stdout);
}
void BenchOutput::row(const std::string& text) const {
  if (csv != nullptr) std::fprintf(csv, "%s\n", text.c_str());
}

void measure_settings(const PoolMemory& memory, const BenchOutput& output) {
  constexpr std::size_t kBlocks = 512;
  const PagedPool pool(memory, PoolLayout::kNhd);
  const DirectionStreams streams = DirectionStreams::make().value();
  const std::uint64_t bytes = pool.plan(0, kBlocks).bytes();
  const double bound_store = median_of(5, [&] { return contiguous_seconds(memory, streams, bytes, true, false); });
  const double bound_load = median_of(5, [&] { return contiguous_seconds(memory, streams, bytes, false, true); });
  output.line(fmt::format("settings: {} of {} blocks; one contiguous copy {:.2f} / {:.2f} GB/s",
                          layout_name(PoolLayout::kNhd), kBlocks, static_cast<double>(bytes) / bound_store / 1e9,
                          static_cast<double>(bytes) / bound_load / 1e9));
  const auto measure = [&](const char* name, const GpuCopyOptions& options) {
    BenchEngine engine(options);
    const auto share = [&](Direction direction, double bound) {
      return bound / median_of(5, [&] { return engine.run({{direction, pool.plan(0, kBlocks)}}).first; }) * 100;
    };
    const auto one = [&](Direction direction) {
      return median_of(60, [&] { return engine.run({{direction, pool.plan(7, 1)}}).first; }) * 1e6;
    };
    output.line(fmt::format("  {:<60} store {:5.1f} %  load {:5.1f} %  one block {:6.1f} / {:6.1f} us", name,
                            share(Direction::kStore, bound_store), share(Direction::kLoad, bound_load),
                            one(Direction::kStore), one(Direction::kLoad)));
  };
  const auto vary = [&](const StageOptions& stages, const std::function<void(GpuCopyOptions&)>& change = {}) {
    GpuCopyOptions o = with_path(CopyPath::kStaged);
    if (stages.stage_bytes != 0) o = with_stages(stages, o);
    if (change) change(o);
    measure(
        fmt::format("{} / {} MiB, chunks {} / {} KiB in {} / {} queues, {} CTAs{}{}", o.store_stage_bytes >> 20U,
                    o.load_stage_bytes >> 20U, o.store_chunk_bytes >> 10U, o.load_chunk_bytes >> 10U, o.store_queues,
                    o.load_queues, o.kernel_blocks, o.poll_ns != 0 ? ", polls" : "", o.linger_ns == 0 ? ", sleeps" : "")
            .c_str(),
        o);
  };
  vary({});
  vary({}, [](GpuCopyOptions& o) { o.linger_ns = 0; });
  vary({}, [](GpuCopyOptions& o) { o.poll_ns = 5000; });
  for (const std::uint64_t mib : {1U, 2U, 4U, 8U, 16U}) {
    for (const std::uint32_t queues : {1U, 2U}) {
      vary({.stage_bytes = 16U << 20U, .stages = 2, .chunk_bytes = mib << 20U},
           [&](GpuCopyOptions& o) { o.store_queues = o.load_queues = queues; });
    }
  }
  for (const std::uint64_t mib : {2U, 4U, 8U})
    vary({.stage_bytes = mib << 20U, .stages = static_cast<std::uint32_t>(32 / mib), .chunk_bytes = mib << 20U});
  for (const std::uint32_t blocks : {16U, 64U, 264U}) vary({}, [&](GpuCopyOptions& o) { o.kernel_blocks = blocks; });
  const double one_store =
      median_of(60, [&] { return contiguous_seconds(memory, streams, pool.plan(0, 1).bytes(), true, false); });
  const double one_load =
      median_of(60, [&] { return contiguous_seconds(memory, streams, pool.plan(0, 1).bytes(), false, true); });
  output.line(
      fmt::format("  {:<60} one block {:6.1f} / {:6.1f} us", "one contiguous copy", one_store * 1e6, one_load * 1e6));
}

void measure_copies(const PoolMemory& memory, const BenchOutput& output) {
  const DirectionStreams streams = DirectionStreams::make().value();
  BenchEngine staged(with_path(CopyPath::kStaged));
  BenchEngine bulk(
      with_stages({.stage_bytes = 16U << 20U, .stages = 2, .chunk_bytes = 16U << 20U}, with_path(CopyPath::kStaged)));
  BenchEngine merged(with_path(CopyPath::kMerged));
  BenchEngine automatic(with_path(CopyPath::kAuto));
  output.row("layout,blocks,bytes,direction,way,gb_per_s,share_of_contiguous,over_contiguous_us,submit_us");
  for (const PoolLayout layout :
       {PoolLayout::kHnd, PoolLayout::kNhd, PoolLayout::kHeads, PoolLayout::kCrossLayer, PoolLayout::kLatent}) {
    const PagedPool pool(memory, layout);
    output.line(fmt::format(
        "\n{}: GB/s (share of one contiguous copy of the same bytes, time over it); slots and pages in random order",
        layout_name(layout)));
    for (std::size_t count : {1U, 4U, 16U, 64U, 256U, 1024U, 4096U}) {
      count = std::min(count, pool.blocks());
      for (const auto& [store, load] : {std::pair{true, false}, std::pair{false, true}, std::pair{true, true}}) {
        const std::size_t each = store && load ? std::max<std::size_t>(1, count / 2) : count;
        if (store && load && count == 1) continue;
        const std::uint64_t bytes = pool.plan(0, each).bytes();
        const std::uint64_t moved = bytes * (store && load ? 2 : 1);
        const double bound = median_of(
            repetitions(moved), [&, s = store, l = load] { return contiguous_seconds(memory, streams, bytes, s, l); });
        const std::string direction = store && load ? "both" : store ? "store" : "load";
        std::string text = fmt::format("  {:>5} {:<5} {:6.2f}", each * (store && load ? 2 : 1), direction,
                                       static_cast<double>(moved) / bound / 1e9);
        const auto report = [&](const char* way, double seconds, double submit) {
          const double share = bound / seconds * 100;
          text += fmt::format(" | {} {:6.2f} ({:5.1f} %, {:+6.0f} us)", way, static_cast<double>(moved) / seconds / 1e9,
                              share, (seconds - bound) * 1e6);
          output.row(fmt::format("{},{},{},{},{},{:.3f},{:.4f},{:.2f},{:.2f}", layout_name(layout), count, moved,
                                 direction, way, static_cast<double>(moved) / seconds / 1e9, share / 100,
                                 (seconds - bound) * 1e6, submit * 1e6));
        };
        const auto plans = [&, s = store, l = load] {
          std::vector<std::pair<Direction, CopyPlan>> list;
          if (s) list.emplace_back(Direction::kStore, pool.plan(0, each));
          if (l) list.emplace_back(Direction::kLoad, pool.plan(s ? each : 0, each));
          return list;
        };
        const auto ours = [&](const char* way, BenchEngine& engine) {
          std::vector<double> submits;
          const double seconds = median_of(repetitions(moved), [&] {
            const auto [all, submit] = engine.run(plans());
            submits.push_back(submit);
            return all;
          });
          report(way, seconds, median(submits));
          return median(submits);
        };
        const double submit = ours("auto", automatic);
        ours("staged", staged);
        if (store && count >= 256) ours("bulk", bulk);
        if (layout != PoolLayout::kNhd && (layout == PoolLayout::kCrossLayer || count <= 256)) ours("merged", merged);
        if (layout != PoolLayout::kNhd && count <= 1024 && !(store && load)) {
          const Direction way = store ? Direction::kStore : Direction::kLoad;
          PieceList list = PieceList::of(pool.plan(0, each), way);
          report("batch",
                 median_of(std::min(5, repetitions(moved)),
                           [&] {
                             return seconds_of([&] {
                               bench_must(copy_as_batch(list, streams.of(way)));
                               bench_must(streams.wait());
                             });
                           }),
                 0);
        }
        text += fmt::format(" | submit {:.1f} us", submit * 1e6);
        output.line(text);
      }
      if (count == pool.blocks()) break;
    }
  }
}

}  // namespace tiercel::gpu
