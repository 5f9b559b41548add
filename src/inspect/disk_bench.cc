// DiskBench over BenchFile and BlockTraffic.
#include "base/mapping.h"
#include "base/try.h"
#include "inspect/bench_file.h"
#include "inspect/block_traffic.h"
#include "inspect/directory_facts.h"

#include <tiercel/disk_bench.h>

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

using inspect::BenchFile;
using inspect::BlockTraffic;
using inspect::SlotContent;

constexpr std::uint64_t kExtentBytes = 64_MiB;
constexpr std::uint64_t kMinSlotBytes = 256_KiB;
constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kGenerationsPerTraffic = std::uint64_t{1} << 28U;
constexpr std::chrono::milliseconds kWriteHeadStart(250);
/// Blocks that are offered for each place at the device: some are having their checksum taken, or wait for their header
/// page, and the device is to have its full depth all the time, as with fio.
constexpr std::uint32_t kBlocksPerPlace = 2;
constexpr std::uint64_t kMetadataBytes = 64_MiB;  // more than the metadata of any file that is measured here

double process_cpu_seconds() {
  struct timespec time{};
  (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

std::uint64_t nanoseconds(std::chrono::milliseconds time) {
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count());
}

/// The smallest value that `percent` of all do not exceed.
std::uint64_t percentile(const std::vector<std::uint64_t>& sorted, std::uint64_t percent) {
  if (sorted.empty()) return 0;
  const std::size_t rank = (sorted.size() * percent + 99) / 100;
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

Status check(const DiskBench::Options& options) {
  const std::uint64_t block = options.block_bytes;
  if (block == 0 || block % kPageBytes != 0 || block > kExtentBytes / 4) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("blocks of {}; valid is 4KiB to {}, in steps of 4KiB",
                                                         format_bytes(block), format_bytes(kExtentBytes / 4)));
  }
  if (options.depth == 0 || options.depth > 1024) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("a depth of {}; valid is 1 to 1024", options.depth));
  }
  // Loads and the write load beside them each have half of the file, of which half may be in flight.
  const std::uint64_t least = std::max(2 * kExtentBytes, 4 * std::uint64_t{options.depth} * block);
  const std::uint64_t extents = (least + kExtentBytes - 1) / kExtentBytes + 1;
  if (options.file_bytes / kExtentBytes < extents) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("a file of {} is too small for blocks of {} at depth {}; give at least {}",
                            format_bytes(options.file_bytes), format_bytes(block), options.depth,
                            format_bytes(extents * kExtentBytes)));
  }
  return {};
}

}  // namespace

class DiskBench::State {
 public:
  explicit State(const Options& options) : options_(options) {}

  Status open();
  [[nodiscard]] Result<DiskSpeed> measure(DiskDirection direction, std::chrono::milliseconds duration);
  [[nodiscard]] Result<LoadLatency> load_latency(std::uint32_t in_flight, bool writes,
                                                 std::chrono::milliseconds duration);

  [[nodiscard]] BenchFile& file() noexcept { return *file_; }
  [[nodiscard]] std::uint64_t blocks() const noexcept { return contents_.size(); }
  [[nodiscard]] const Options& options() const noexcept { return options_; }
  [[nodiscard]] const Mapping& memory() const noexcept { return *memory_; }
  [[nodiscard]] const DiskSpeed& filled() const noexcept { return filled_; }

 private:
  Status make_memory();
  [[nodiscard]] BlockTraffic::Options traffic(DiskDirection direction, std::uint32_t in_flight);
  [[nodiscard]] Result<DiskSpeed> run(const BlockTraffic::Options& options, std::uint64_t duration_ns);
  [[nodiscard]] Status outcome_of(BlockTraffic& traffic);
  [[nodiscard]] std::uint64_t now() const noexcept { return file_->clock().now_ns(); }
  [[nodiscard]] std::byte* memory_of(DiskDirection direction) const noexcept {
    const std::uint64_t reads = std::uint64_t{kBlocksPerPlace} * options_.depth * options_.block_bytes;
    return memory_->data() + (direction == DiskDirection::kWrite ? reads : 0);
  }

  Options options_;
  std::unique_ptr<BenchFile> file_;
  std::shared_ptr<Mapping> memory_;  // kBlocksPerPlace * depth blocks for reads, then as many for writes
  std::vector<SlotContent> contents_;
  std::uint64_t next_generation_ = 0;
  DiskSpeed filled_;
};

Status DiskBench::State::open() {
  TIERCEL_TRY(check(options_));
  const std::uint64_t extents = options_.file_bytes / kExtentBytes;
  const IoEngine engine = options_.io == DiskIo::kThreads ? IoEngine::kThreads : IoEngine::kAuto;
  TIERCEL_TRY_ASSIGN(const FreeSpace space, SystemFileSystem(engine).space(options_.directory));
  if (space.free_bytes < extents * kExtentBytes + kMetadataBytes) {
    return fail(ErrorCode::kLimit, fmt::format("{}: {} free, a file of {} is to be measured", options_.directory,
                                               format_bytes(space.free_bytes), format_bytes(extents * kExtentBytes)));
  }
  const std::uint64_t min_slot_bytes = std::min(options_.block_bytes, kMinSlotBytes);
  const std::uint64_t slots_per_extent = kExtentBytes / min_slot_bytes;
  for (std::uint64_t extent = 0; extent < extents; ++extent) {
    for (std::uint64_t i = 0; i < kExtentBytes / options_.block_bytes; ++i) {
      contents_.push_back({.slot = static_cast<std::uint32_t>(extent * slots_per_extent + i)});
    }
  }
  TIERCEL_TRY(make_memory());
  std::vector<struct iovec> registered;
  if (options_.register_memory) {
    registered.push_back({.iov_base = memory_->data(), .iov_len = memory_->bytes()});
  }
  TIERCEL_TRY_ASSIGN(file_, BenchFile::create({.directory = options_.directory,
                                               .bytes = extents * kExtentBytes,
                                               .extent_bytes = kExtentBytes,
                                               .min_slot_bytes = min_slot_bytes,
                                               .depth = options_.depth,
                                               .engine = engine,
                                               .direct = options_.direct,
                                               .io_deadline_ns = nanoseconds(options_.deadline),
                                               .memory = std::move(registered)},
                                              options_.cancel));
  next_generation_ = (file_->epoch() << 40U) + 1;
  BlockTraffic::Options fill = traffic(DiskDirection::kWrite, kBlocksPerPlace * options_.depth);
  fill.in_order = true;
  fill.most_blocks = contents_.size();
  TIERCEL_TRY_ASSIGN(filled_, run(fill, UINT64_MAX));
  return {};
}

Status DiskBench::State::make_memory() {
  const std::uint64_t bytes = std::uint64_t{2} * kBlocksPerPlace * options_.depth * options_.block_bytes;
  TIERCEL_TRY_ASSIGN(Mapping mapping,
                     Mapping::create({.bytes = bytes, .huge_pages = options_.huge_pages, .name = "bench"}));
  memory_ = std::make_shared<Mapping>(std::move(mapping));
  std::mt19937_64 random(options_.block_bytes);
  auto* words = reinterpret_cast<std::uint64_t*>(memory_->data());
  std::generate(words, words + bytes / sizeof(std::uint64_t), random);
  return {};
}

BlockTraffic::Options DiskBench::State::traffic(DiskDirection direction, std::uint32_t in_flight) {
  const std::uint32_t processors = std::max(1U, std::thread::hardware_concurrency());
  return {.direction = direction,
          .block_bytes = options_.block_bytes,
          .in_flight = in_flight,
          .workers = std::clamp(processors / 2, 1U, 4U),
          .deadline_ns = nanoseconds(options_.deadline),
          .first_generation = std::exchange(next_generation_, next_generation_ + kGenerationsPerTraffic)};
}

Status DiskBench::State::outcome_of(BlockTraffic& traffic) {
  if (Status status = traffic.outcome(); !status) {
    return fail(status.error().code, fmt::format("{}: {}", options_.directory, status.error().message),
                status.error().os_error);
  }
  if (options_.cancel != nullptr && options_.cancel->load()) return fail(ErrorCode::kClosed, "interrupted");
  return {};
}

Result<DiskSpeed> DiskBench::State::run(const BlockTraffic::Options& options, std::uint64_t duration_ns) {
  BlockTraffic blocks(*file_, options, contents_, memory_of(options.direction), memory_);
  const double cpu = process_cpu_seconds();
  const std::uint64_t start = now();
  blocks.run_until(deadline_after(start, duration_ns), options_.cancel);
  TIERCEL_TRY(outcome_of(blocks));
  return DiskSpeed{.blocks = blocks.blocks(),
                   .bytes = blocks.blocks() * options_.block_bytes,
                   .seconds = static_cast<double>(blocks.last_end_ns() - start) * 1e-9,
                   .cpu_seconds = process_cpu_seconds() - cpu};
}

Result<DiskSpeed> DiskBench::State::measure(DiskDirection direction, std::chrono::milliseconds duration) {
  return run(traffic(direction, kBlocksPerPlace * options_.depth), nanoseconds(duration));
}

Result<LoadLatency> DiskBench::State::load_latency(std::uint32_t in_flight, bool writes,
                                                   std::chrono::milliseconds duration) {
  if (in_flight == 0 || in_flight > options_.depth) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} loads in flight; valid is 1 to the depth, {}", in_flight, options_.depth));
  }
  const std::span<SlotContent> all(contents_);
  const std::size_t half = all.size() / 2;
  BlockTraffic loads(*file_, traffic(DiskDirection::kRead, in_flight), all.first(half), memory_of(DiskDirection::kRead),
                     memory_);
  BlockTraffic stores(*file_, traffic(DiskDirection::kWrite, options_.depth), all.subspan(half),
                      memory_of(DiskDirection::kWrite), memory_);
  if (writes) {
    stores.start();
    std::this_thread::sleep_for(kWriteHeadStart);
  }
  const double cpu = process_cpu_seconds();
  const std::uint64_t start = now();
  const std::uint64_t stored_before = stores.blocks();
  loads.run_until(start + nanoseconds(duration), options_.cancel);
  const std::uint64_t stored = stores.blocks() - stored_before;
  const double seconds = static_cast<double>(now() - start) * 1e-9;
  const double cpu_seconds = process_cpu_seconds() - cpu;
  stores.stop();
  stores.wait();
  TIERCEL_TRY(outcome_of(loads));
  TIERCEL_TRY(outcome_of(stores));

  std::vector<std::uint64_t> times = loads.take_latencies();
  std::ranges::sort(times);
  LoadLatency latency{.p50_ns = percentile(times, 50), .p99_ns = percentile(times, 99)};
  latency.loads = {.blocks = times.size(),
                   .bytes = times.size() * options_.block_bytes,
                   .seconds = static_cast<double>(loads.last_end_ns() - start) * 1e-9,
                   .cpu_seconds = cpu_seconds};
  latency.writes = {.blocks = stored, .bytes = stored * options_.block_bytes, .seconds = seconds};
  return latency;
}

Result<DiskBench> DiskBench::create(const Options& options) {
  auto state = std::make_unique<State>(options);
  TIERCEL_TRY(state->open());
  return DiskBench(std::move(state));
}

DiskBench::DiskBench(std::unique_ptr<State> state) : state_(std::move(state)) {}
DiskBench::DiskBench(DiskBench&&) noexcept = default;
DiskBench& DiskBench::operator=(DiskBench&&) noexcept = default;
DiskBench::~DiskBench() = default;

Result<DiskSpeed> DiskBench::measure(DiskDirection direction, std::chrono::milliseconds duration) {
  return state_->measure(direction, duration);
}

Result<LoadLatency> DiskBench::load_latency(std::uint32_t in_flight, bool writes, std::chrono::milliseconds duration) {
  return state_->load_latency(in_flight, writes, duration);
}

std::string DiskBench::io_engine() const { return state_->file().io_engine(); }
DiskPlace DiskBench::place() const {
  inspect::DirectoryFacts facts = inspect::read_directory_facts(state_->options().directory);
  return {.filesystem = std::move(facts.mount.filesystem),
          .device = std::move(facts.device),
          .bus = std::move(facts.bus),
          .direct = facts.direct};
}
bool DiskBench::on_huge_pages() const { return state_->memory().huge_bytes() >= state_->memory().bytes() / 2; }
std::uint64_t DiskBench::block_bytes_total() const { return state_->blocks() * state_->options().block_bytes; }
std::string DiskBench::directory() const { return state_->file().directory(); }
DiskSpeed DiskBench::fill() const { return state_->filled(); }

}  // namespace tiercel
