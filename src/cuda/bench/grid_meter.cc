#include "cuda/bench/grid_meter.h"

#include "cuda/bench/program_version.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace tiercel::gpu {
namespace {

constexpr std::uint32_t kMappedBlocks = 8;
constexpr std::uint64_t kRoundsBeside = 2;
constexpr std::uint64_t kLatencyBytes = kLargeBytes;  // up to which completion latencies are told
/// What passes through a stage is read and written once more than what does not.
constexpr double kStagedTouches = 3;

GpuCopyOptions full_speed(CopyPath path) {
  return {.store_bytes_per_second = 0, .store_floor_percent = 100, .path = path};
}

double memory_bandwidth() {
  int kilohertz = 0;
  int bits = 0;
  if (cudaDeviceGetAttribute(&kilohertz, cudaDevAttrMemoryClockRate, 0) != cudaSuccess ||
      cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, 0) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return static_cast<double>(kilohertz) * 1e3 * 2 * bits / 8;
}

std::vector<CopyDirection> directions_of(GridDirection direction) {
  if (direction == GridDirection::kStore) return {CopyDirection::kStore};
  if (direction == GridDirection::kLoad) return {CopyDirection::kLoad};
  return {CopyDirection::kStore, CopyDirection::kLoad};
}

/// Both as one: times behind each other, replays in the sum of the seconds.
void add(ReplayTimes& times, const ReplayTimes& more) {
  const auto seconds = [](const ReplayTimes& t) { return static_cast<double>(t.milliseconds.size()) / t.per_second; };
  const double all = seconds(times) + seconds(more);
  times.milliseconds.insert(times.milliseconds.end(), more.milliseconds.begin(), more.milliseconds.end());
  times.per_second = static_cast<double>(times.milliseconds.size()) / all;
}

/// "580.159.04"; the version of CUDA where the driver says nothing else.
std::string driver_version() {
  std::ifstream file("/proc/driver/nvidia/version");
  for (std::string word; file >> word;) {
    if (word.find_first_not_of("0123456789.") == std::string::npos && std::ranges::count(word, '.') >= 1) return word;
  }
  int version = 0;
  (void)cudaDriverGetVersion(&version);
  return fmt::format("CUDA {}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace

/// The pieces of a cell, a list a direction, for the ways that get lists; made once.
struct GpuGridMeter::Lists {
  Lists(const GridCell& cell, const PagedPool& pool) {
    std::size_t first = 0;
    for (const CopyDirection direction : directions_of(cell.direction)) {
      directions.push_back(direction);
      pieces.push_back(PieceList::of_pages(pool, first, cell.each(), cell.shape.block_pieces(), direction));
      // Layer by layer, so that a single block keeps all thread blocks busy.
      auto kernel = MappedKernel::make(PieceList::of_pages(pool, first, cell.each(), cell.shape.layers, direction));
      bench_must(kernel ? Status{} : Status(tl::unexpected<Error>(kernel.error())));
      mapped.push_back(*std::move(kernel));
      first += cell.each();
    }
  }
  std::vector<CopyDirection> directions;
  std::vector<PieceList> pieces;
  std::vector<MappedKernel> mapped;
};

GpuGridMeter::GpuGridMeter(const PoolMemory& memory, std::function<void(const std::string&)> report)
    : memory_(memory),
      report_(std::move(report)),
      streams_(DirectionStreams::make().value()),
      automatic_(full_speed(CopyPath::kAuto)),
      staged_(full_speed(CopyPath::kStaged)),
      merged_(full_speed(CopyPath::kMerged)),
      foreign_stream_(CudaStream::make(StreamPriority::kNormal).value()),
      foreign_gpu_(DeviceMemory::make(4096).value()),
      foreign_host_(PinnedMemory::make(4096).value()),
      bandwidth_(memory_bandwidth()) {}

std::pair<double, double> GpuGridMeter::timed(const std::function<void()>& queue) const {
  const auto begin = std::chrono::steady_clock::now();
  queue();
  const auto queued = std::chrono::steady_clock::now();
  bench_must(streams_.wait());
  const auto end = std::chrono::steady_clock::now();
  using Seconds = std::chrono::duration<double>;
  return {Seconds(end - begin).count(), Seconds(queued - begin).count()};
}

GpuGridMeter::Run GpuGridMeter::contiguous_run(const GridCell& cell) {
  const std::uint64_t bytes = cell.each() * cell.shape.block_bytes();
  const GridDirection direction = cell.direction;
  return [this, bytes, direction] {
    return timed([&] {
      for (const CopyDirection way : directions_of(direction)) {
        // Loads beside stores use the upper halves, so that the two do not share memory.
        const bool upper = direction == GridDirection::kBoth && way == CopyDirection::kLoad;
        std::byte* gpu = memory_.gpu.data() + (upper ? memory_.gpu_bytes / 2 : 0);
        std::byte* host = memory_.arena.data() + (upper ? memory_.arena_bytes / 2 : 0);
        bench_must(way == CopyDirection::kStore
                       ? cudaMemcpyAsync(host, gpu, bytes, cudaMemcpyDeviceToHost, streams_.of(way))
                       : cudaMemcpyAsync(gpu, host, bytes, cudaMemcpyHostToDevice, streams_.of(way)));
      }
    });
  };
}

GpuGridMeter::Run GpuGridMeter::engine_run(BenchEngine& engine, const GridCell& cell, const PagedPool& pool,
                                           bool waited_for) {
  return [&engine, &cell, &pool, waited_for] {
    std::vector<std::pair<CopyDirection, CopyPlan>> plans;
    std::size_t first = 0;
    for (const CopyDirection direction : directions_of(cell.direction)) {
      plans.emplace_back(direction, pool.plan(first, cell.each()));
      first += cell.each();
    }
    return engine.run(std::move(plans), waited_for);
  };
}

GpuGridMeter::Run GpuGridMeter::list_run(GridWay way, Lists& lists) {
  return [this, way, &lists] {
    return timed([&] {
      for (std::size_t i = 0; i < lists.directions.size(); ++i) {
        const cudaStream_t stream = streams_.of(lists.directions[i]);
        if (way == GridWay::kBatch) bench_must(copy_as_batch(lists.pieces[i], stream));
        if (way == GridWay::kLoop) bench_must(copy_in_loop(lists.pieces[i], stream));
        if (way == GridWay::kMapped) bench_must(lists.mapped[i].run(kMappedBlocks, stream));
      }
    });
  };
}

GpuGridMeter::Run GpuGridMeter::run_of(GridWay way, const GridCell& cell, const PagedPool& pool, Lists& lists,
                                       bool beside) {
  if (way == GridWay::kContiguous) return contiguous_run(cell);
  if (way == GridWay::kAuto) return engine_run(automatic_, cell, pool, !beside);
  if (way == GridWay::kStaged) return engine_run(staged_, cell, pool);
  if (way == GridWay::kMerged) return engine_run(merged_, cell, pool);
  return list_run(way, lists);
}

void GpuGridMeter::sample(std::vector<Way>& ways, const Repetitions& repetitions) {
  const auto run = [](Way& way) {
    const auto times = way.run();
    way.spent += times.first;
    return times;
  };
  for (Way& way : ways) (void)run(way);
  for (int burst = 0; burst < repetitions.bursts; ++burst) {
    for (Way& way : ways) {
      if (way.spent > kWaySeconds && !way.seconds.empty()) continue;
      for (int i = 0; i < repetitions.warm; ++i) (void)run(way);
      for (int i = 0; i < repetitions.runs && (way.seconds.empty() || way.spent <= kWaySeconds); ++i) {
        const auto [seconds, submit] = run(way);
        way.seconds.push_back(seconds);
        way.submits.push_back(submit);
      }
    }
  }
}

std::vector<GridRow> GpuGridMeter::measure(const GridCell& cell) {
  if (!pool_ || pool_->shape() != cell.shape) pool_ = std::make_unique<PagedPool>(memory_, cell.shape);
  const PagedPool& pool = *pool_;
  Lists lists(cell, pool);
  std::vector<Way> ways;
  for (const GridWay way : grid_ways(cell)) {
    ways.push_back(
        {.way = way, .run = run_of(way, cell, pool, lists, false), .beside = run_of(way, cell, pool, lists, true)});
  }
  sample(ways, repetitions_of(cell.bytes()));
  std::vector<GridRow> rows;
  const double bound = median(ways.front().seconds);
  for (const Way& way : ways) {
    GridRow row{.key = cell.key(), .bytes = cell.bytes(), .way = way.way};
    const double seconds = median(way.seconds);
    row[Figure::kGbPerS] = static_cast<double>(cell.bytes()) / seconds / 1e9;
    row[Figure::kShare] = bound / seconds * 100;
    row[Figure::kOverUs] = (seconds - bound) * 1e6;
    row[Figure::kSubmitUs] = median(way.submits) * 1e6;
    if (cell.bytes() < kLatencyBytes) {
      row[Figure::kLatencyP50Us] = seconds * 1e6;
      row[Figure::kLatencyP99Us] = percentile(way.seconds, 0.99) * 1e6;
    }
    rows.push_back(std::move(row));
  }
  if (cell.beside_models) {
    for (const ModelKind kind : {ModelKind::kDecode, ModelKind::kPrefill}) beside_model(kind, cell, ways, rows);
  }
  if (cell.foreign) beside_foreign(cell, ways, rows);
  return rows;
}

BusyModel* GpuGridMeter::model(ModelKind kind) {
  const auto at = static_cast<std::size_t>(kind);
  if (!std::exchange(tried_[at], true)) {
    auto made = BusyModel::make(kind);
    if (made) {
      models_[at] = *std::move(made);
      (void)models_[at]->replay(0.3);  // clocks settle
    } else {
      report_(fmt::format("nothing is measured beside {}: {}", kind == ModelKind::kDecode ? "decode" : "prefill",
                          made.error().message));
    }
  }
  return models_[at].get();
}

void GpuGridMeter::beside_model(ModelKind kind, const GridCell& cell, std::vector<Way>& ways,
                                std::vector<GridRow>& rows) {
  BusyModel* busy = model(kind);
  if (busy == nullptr) return;
  const auto figure = [kind](Figure of_decode) {
    constexpr auto kApart =
        static_cast<std::size_t>(Figure::kPrefillGbPerS) - static_cast<std::size_t>(Figure::kDecodeGbPerS);
    return static_cast<Figure>(static_cast<std::size_t>(of_decode) + (kind == ModelKind::kPrefill ? kApart : 0));
  };
  (void)busy->replay(kSettleSeconds);
  const ReplayTimes alone = busy->replay(kReplaySeconds).value();
  for (std::size_t i = 0; i < ways.size(); ++i) {
    if (!is_beside(ways[i].way) || median(ways[i].seconds) > kWaySeconds) continue;
    const Traffic traffic{.bytes = cell.bytes(), .once = [&] { (void)ways[i].beside(); }};
    const std::uint64_t staged_before = staged_jobs();
    Beside beside(traffic);
    ReplayTimes times = busy->replay(kReplaySeconds).value();
    for (int more = 0; more < 8 && beside.rounds() < kRoundsBeside; ++more) {
      add(times, busy->replay(kReplaySeconds / 2).value());
    }
    const double rate = beside.stop();
    const double touches = staged_jobs() > staged_before ? kStagedTouches : 1;
    rows[i][figure(Figure::kDecodeGbPerS)] = rate / 1e9;
    rows[i][figure(Figure::kDecodeSlowerP50)] = (times.percentile(0.5) / alone.percentile(0.5) - 1) * 100;
    rows[i][figure(Figure::kDecodeSlowerP99)] = (times.percentile(0.99) / alone.percentile(0.99) - 1) * 100;
    rows[i][figure(Figure::kDecodeLost)] = (1 - times.per_second / alone.per_second) * 100;
    if (bandwidth_ > 0) rows[i][figure(Figure::kDecodeMemory)] = touches * rate / bandwidth_ * 100;
  }
}

void GpuGridMeter::beside_foreign(const GridCell& cell, std::vector<Way>& ways, std::vector<GridRow>& rows) {
  for (std::size_t i = 0; i < ways.size(); ++i) {
    if (!is_beside(ways[i].way) || median(ways[i].seconds) > kWaySeconds) continue;
    const Traffic traffic{.bytes = cell.bytes(), .once = [&] { (void)ways[i].beside(); }};
    Beside beside(traffic);
    const auto small = [&](SmallCopies direction) {
      return small_copies(foreign_stream_, foreign_gpu_.data(), foreign_host_.data(), kForeignSeconds, direction);
    };
    const auto out = small(SmallCopies::kOut);
    const auto in = small(SmallCopies::kIn);
    (void)beside.stop();
    rows[i][Figure::kForeignOutP50Us] = median(out) * 1e6;
    rows[i][Figure::kForeignOutP99Us] = percentile(out, 0.99) * 1e6;
    rows[i][Figure::kForeignInP50Us] = median(in) * 1e6;
    rows[i][Figure::kForeignInP99Us] = percentile(in, 0.99) * 1e6;
  }
}

Result<GridIdentity> grid_identity() {
  cudaDeviceProp properties{};
  TIERCEL_CUDA_TRY(cudaGetDeviceProperties(&properties, 0));
  return GridIdentity{
      .gpu = plain_field(properties.name), .driver = plain_field(driver_version()), .build = program_version()};
}

}  // namespace tiercel::gpu
