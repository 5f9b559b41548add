#include "cuda/bench/busy_model.h"
#include "cuda/bench/copy_methods.h"
#include "cuda/bench/measurements.h"
#include "cuda/bench/stopwatch.h"
#include "cuda/bench/traffic.h"
#include "cuda/testing/stage_options.h"

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <tuple>

namespace tiercel::gpu {
namespace {

using Direction = CopyDirection;
constexpr std::size_t kBlocks = 512;

class Traffics {
 public:
  explicit Traffics(const PoolMemory& memory)
      : pool_(memory, PoolLayout::kNhd), straight_(memory, PoolLayout::kHnd), memory_(memory) {
    stream_ = CudaStream::make(StreamPriority::kNormal).value();
    add_engine("tiercel store, paced 12 GB/s", {.path = CopyPath::kStaged}, true, false);
    const GpuCopyOptions full{.store_bytes_per_second = 0, .store_floor_percent = 100, .path = CopyPath::kStaged};
    add_engine("tiercel store, full speed", full, true, false);
    add_engine("tiercel store, 16 MiB chunks",
               with_stages({.stage_bytes = 16U << 20U, .stages = 2, .chunk_bytes = 16U << 20U}, full), true, false);
    add_engine("tiercel load, full speed", full, false, true);
    add_engine("tiercel both, full speed", full, true, true);
    GpuCopyOptions sleeping = full;
    sleeping.poll_ns = 5000;
    add_engine("tiercel load, thread sleeps 5 us", sleeping, false, true);
    GpuCopyOptions merged = full;
    merged.path = CopyPath::kMerged;
    add_engine("tiercel store, merged, 12 GB/s", {.path = CopyPath::kMerged}, true, false, straight_);
    add_engine("tiercel store, merged", merged, true, false, straight_);
    add_engine("tiercel load, merged", merged, false, true, straight_);
    const std::uint64_t bytes = straight_.plan(0, kBlocks).bytes();
    traffics_.push_back({"one contiguous copy out", bytes, [this, bytes] {
                           bench_must(cudaMemcpyAsync(memory_.arena.data(), memory_.gpu.data(), bytes,
                                                      cudaMemcpyDeviceToHost, stream_.get()));
                           bench_must(cudaStreamSynchronize(stream_.get()));
                         }});
    traffics_.push_back({"one contiguous copy in", bytes, [this, bytes] {
                           bench_must(cudaMemcpyAsync(memory_.gpu.data(), memory_.arena.data(), bytes,
                                                      cudaMemcpyHostToDevice, stream_.get()));
                           bench_must(cudaStreamSynchronize(stream_.get()));
                         }});
    for (const Direction direction : {Direction::kStore, Direction::kLoad}) {
      const char* way = direction == Direction::kStore ? "out" : "in";
      auto list = std::make_shared<PieceList>(PieceList::of(straight_.plan(0, kBlocks), direction));
      traffics_.push_back({fmt::format("driver's batch copy {}", way), bytes, [this, list] {
                             bench_must(copy_as_batch(*list, stream_.get()));
                             bench_must(cudaStreamSynchronize(stream_.get()));
                           }});
      auto kernel = std::make_shared<MappedKernel>(MappedKernel::make(*list).value());
      traffics_.push_back({fmt::format("kernel on host memory {}, 8 CTAs", way), bytes, [this, kernel] {
                             bench_must(kernel->run(8, stream_.get()));
                             bench_must(cudaStreamSynchronize(stream_.get()));
                           }});
    }
  }
  [[nodiscard]] const std::vector<Traffic>& all() const { return traffics_; }

 private:
  void add_engine(const std::string& name, const GpuCopyOptions& options, bool store, bool load) {
    add_engine(name, options, store, load, pool_);
  }
  void add_engine(const std::string& name, const GpuCopyOptions& options, bool store, bool load,
                  const PagedPool& pool) {
    auto engine = std::make_shared<BenchEngine>(options);
    const std::uint64_t bytes = pool.plan(0, kBlocks).bytes() * (store && load ? 2 : 1);
    traffics_.push_back({name, bytes, [&pool, engine, store, load] {
                           std::vector<std::pair<Direction, CopyPlan>> plans;
                           if (store) plans.emplace_back(Direction::kStore, pool.plan(0, kBlocks));
                           if (load) plans.emplace_back(Direction::kLoad, pool.plan(kBlocks, kBlocks));
                           (void)engine->run(std::move(plans));
                         }});
  }
  PagedPool pool_;
  PagedPool straight_;
  const PoolMemory& memory_;
  CudaStream stream_;
  std::vector<Traffic> traffics_;
};

}  // namespace

void measure_beside(const PoolMemory& memory, const BenchOutput& output, double seconds) {
  const Traffics traffics(memory);
  output.row("model,traffic,p50_ms,p99_ms,slower_p50,slower_p99,replays_lost,gb_per_s");
  for (const ModelKind kind : {ModelKind::kDecode, ModelKind::kPrefill}) {
    const char* name = kind == ModelKind::kDecode ? "decode" : "prefill";
    auto model = BusyModel::make(kind);
    if (!model) {
      output.line(fmt::format("beside {}: not measured: {}", name, model.error().message));
      continue;
    }
    (void)(*model)->replay(0.5);  // clocks settle
    ReplayTimes alone = (*model)->replay(seconds).value();
    output.line(fmt::format("\nbeside {}: replays of {:.3f} ms (p50), {:.3f} (p99), {:.0f} a second alone", name,
                            alone.percentile(0.5), alone.percentile(0.99), alone.per_second));
    for (const Traffic& traffic : traffics.all()) {
      Beside beside(traffic);
      const ReplayTimes times = (*model)->replay(seconds).value();
      const double rate = beside.stop();
      // Alone again, right after: the card's clock is not the same all the time.
      const ReplayTimes again = (*model)->replay(seconds / 2).value();
      const double base50 = (alone.percentile(0.5) + again.percentile(0.5)) / 2;
      const double base99 = (alone.percentile(0.99) + again.percentile(0.99)) / 2;
      const double base_rate = (alone.per_second + again.per_second) / 2;
      const double slower50 = (times.percentile(0.5) / base50 - 1) * 100;
      const double slower99 = (times.percentile(0.99) / base99 - 1) * 100;
      const double lost = (1 - times.per_second / base_rate) * 100;
      output.line(
          fmt::format("  {:<34} slower by {:6.2f} % (p50) {:6.2f} % (p99), replays lost {:6.2f} %, copies {:6.2f} GB/s",
                      traffic.name, slower50, slower99, lost, rate / 1e9));
      output.row(fmt::format("{},{},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f},{:.3f}", name, traffic.name,
                             times.percentile(0.5), times.percentile(0.99), slower50 / 100, slower99 / 100, lost / 100,
                             rate / 1e9));
      alone = again;
    }
  }
}

void measure_foreign_copies(const PoolMemory& memory, const BenchOutput& output) {
  constexpr double kSeconds = 0.35;
  const Traffics traffics(memory);
  const CudaStream stream = CudaStream::make(StreamPriority::kNormal).value();
  const DeviceMemory gpu = DeviceMemory::make(4096).value();
  const PinnedMemory host = PinnedMemory::make(4096).value();
  const auto measure = [&](const std::string& name) {
    const auto out = small_copies(stream, gpu.data(), host.data(), kSeconds, SmallCopies::kOut);
    const auto in = small_copies(stream, gpu.data(), host.data(), kSeconds, SmallCopies::kIn);
    std::vector<double> launches;
    for (const auto begin = std::chrono::steady_clock::now();
         std::chrono::steady_clock::now() < begin + std::chrono::duration<double>(kSeconds);) {
      launches.push_back(seconds_of([&] { bench_must(launch_nothing(stream.get())); }));
      if (launches.size() % 64 == 0) bench_must(cudaStreamSynchronize(stream.get()));
    }
    output.line(fmt::format("  {:<34} out {:7.1f} / {:7.1f} us   in {:7.1f} / {:7.1f} us   launch {:6.1f} / {:6.1f} us",
                            name, median(out) * 1e6, percentile(out, 0.99) * 1e6, median(in) * 1e6,
                            percentile(in, 0.99) * 1e6, median(launches) * 1e6, percentile(launches, 0.99) * 1e6));
    output.row(fmt::format("foreign,{},{:.2f},{:.2f},{:.2f},{:.2f},{:.2f},{:.2f}", name, median(out) * 1e6,
                           percentile(out, 0.99) * 1e6, median(in) * 1e6, percentile(in, 0.99) * 1e6,
                           median(launches) * 1e6, percentile(launches, 0.99) * 1e6));
  };
  output.line(
      "\na foreign 4 KiB copy on a stream of its own, and the call that launches a kernel there (p50 / p99), beside");
  measure("nothing");
  for (const Traffic& traffic : traffics.all()) {
    Beside beside(traffic);
    measure(traffic.name);
    (void)beside.stop();
  }
}

/// Thread blocks and stages beside models, chunks and queues beside foreign copies: what the defaults are chosen by.
void measure_tuning(const PoolMemory& memory, const BenchOutput& output, double seconds) {
  const PagedPool pool(memory, PoolLayout::kNhd);
  struct Setting {
    std::string name;
    GpuCopyOptions options{.store_bytes_per_second = 0, .store_floor_percent = 100, .path = CopyPath::kStaged};
  };
  const auto traffic = [&](GpuCopyOptions options, Direction direction, bool paced) {
    if (paced) options.store_bytes_per_second = 12'000'000'000;
    auto engine = std::make_shared<BenchEngine>(options);
    return Traffic{"", pool.plan(0, kBlocks).bytes(),
                   [&pool, engine, direction] { (void)engine->run({{direction, pool.plan(0, kBlocks)}}); }};
  };
  std::vector<Setting> settings;
  for (const std::uint32_t blocks : {16U, 64U, 132U, 264U, 1024U}) {
    for (const std::uint64_t mib : {4U, 8U, 16U}) {
      if (blocks != 132 && mib != 16) continue;
      Setting s{fmt::format("{} CTAs, {} MiB stages", blocks, mib)};
      s.options = with_stages({.stage_bytes = mib << 20U,
                               .stages = static_cast<std::uint32_t>(32 / mib),
                               .chunk_bytes = std::min<std::uint64_t>(mib, 4) << 20U},
                              s.options);
      s.options.kernel_blocks = blocks;
      settings.push_back(s);
    }
  }
  for (const ModelKind kind : {ModelKind::kDecode, ModelKind::kPrefill}) {
    auto model = BusyModel::make(kind);
    if (!model) return output.line(model.error().message);
    (void)(*model)->replay(0.5);
    output.line(kind == ModelKind::kDecode ? "\ntuning beside decode: slower by % (p50, p99), GB/s"
                                           : "\ntuning beside prefill: slower by % (p50, p99), GB/s");
    for (const Setting& setting : settings) {
      std::string text = fmt::format("  {:<24}", setting.name);
      for (const auto& [name, direction, paced] :
           {std::tuple{"paced", Direction::kStore, true}, std::tuple{"store", Direction::kStore, false},
            std::tuple{"load", Direction::kLoad, false}}) {
        const ReplayTimes alone = (*model)->replay(seconds / 2).value();
        const Traffic moved = traffic(setting.options, direction, paced);
        Beside beside(moved);
        const ReplayTimes times = (*model)->replay(seconds).value();
        const double rate = beside.stop();
        text += fmt::format(" | {} {:5.2f} {:5.2f} {:5.1f}", name,
                            (times.percentile(0.5) / alone.percentile(0.5) - 1) * 100,
                            (times.percentile(0.99) / alone.percentile(0.99) - 1) * 100, rate / 1e9);
      }
      output.line(text);
    }
  }
  const CudaStream stream = CudaStream::make(StreamPriority::kNormal).value();
  const DeviceMemory gpu = DeviceMemory::make(4096).value();
  const PinnedMemory host = PinnedMemory::make(4096).value();
  output.line("\ntuning beside foreign 4 KiB copies of the same direction: p50 / p99 us");
  for (const Direction direction : {Direction::kStore, Direction::kLoad}) {
    for (const std::uint32_t queues : {1U, 2U}) {
      for (const std::uint32_t depth : {1U, 2U, 3U}) {
        for (const std::uint64_t mib : {1U, 2U, 4U, 16U}) {
          if (depth != 2 && mib != 2) continue;
          Setting s;
          s.options = with_stages({.stage_bytes = 16U << 20U, .stages = 2, .chunk_bytes = mib << 20U}, s.options);
          s.options.store_queues = s.options.load_queues = queues;
          s.options.depth = depth;
          const Traffic moved = traffic(s.options, direction, false);
          Beside beside(moved);
          const bool out = direction == Direction::kStore;
          const auto times =
              small_copies(stream, gpu.data(), host.data(), 0.25, out ? SmallCopies::kOut : SmallCopies::kIn);
          output.line(fmt::format("  {} chunks of {:>2} MiB x {} in {} queues: {:8.1f} / {:8.1f}, {:5.1f} GB/s",
                                  out ? "store" : "load ", mib, depth, queues, median(times) * 1e6,
                                  percentile(times, 0.99) * 1e6, beside.stop() / 1e9));
        }
      }
    }
  }
}

}  // namespace tiercel::gpu
