#include "cuda/calibration.h"

#include "base/try.h"
#include "cuda/feeder.h"
#include "model/run_table.h"
#include "model/sha256.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <random>
#include <sstream>
#include <system_error>

namespace tiercel::gpu {
namespace {

constexpr std::uint64_t kBlockBytes = 1U << 20U;
constexpr std::uint32_t kBlocks = 16;  // of pages and slots
constexpr std::size_t kAlignment = 4096;
constexpr const char* kTitle = "tiercel gpu copies 1";

struct AlignedDelete {
  void operator()(std::byte* memory) const noexcept { ::operator delete(memory, std::align_val_t(kAlignment)); }
};

/// Host memory that DMA reaches while it lives.
class Slots {
 public:
  static Result<Slots> make(CopyDevice& device) {
    Slots slots(device);
    constexpr std::uint64_t kBytes = kBlocks * kBlockBytes;
    auto* memory = static_cast<std::byte*>(::operator new(kBytes, std::align_val_t(kAlignment), std::nothrow));
    if (memory == nullptr) return fail(ErrorCode::kOutOfMemory, "no memory for a calibration");
    slots.memory_.reset(memory);
    std::memset(memory, 0, kBytes);
    TIERCEL_TRY(device.pin(memory, kBytes));
    slots.pinned_ = true;
    return slots;
  }
  Slots(Slots&& other) noexcept
      : device_(other.device_), memory_(std::move(other.memory_)), pinned_(std::exchange(other.pinned_, false)) {}
  Slots& operator=(Slots&&) = delete;
  ~Slots() {
    if (pinned_) device_.unpin(memory_.get());
  }
  [[nodiscard]] std::byte* block(std::uint32_t number) const { return memory_.get() + number * kBlockBytes; }

 private:
  explicit Slots(CopyDevice& device) : device_(device) {}
  CopyDevice& device_;
  std::unique_ptr<std::byte, AlignedDelete> memory_;
  bool pinned_ = false;
};

/// As many tensors as a block has pieces, each of kBlocks pages, one after another from `base` on.
Result<std::shared_ptr<const CopyGeometry>> geometry_of(std::byte* base, std::uint64_t piece_bytes) {
  Group group;
  std::vector<EngineTensor> tensors;
  for (std::uint32_t layer = 0; layer < kBlockBytes / piece_bytes; ++layer) {
    group.runs.push_back({.layer = layer, .kind = StateKind::kLatent, .opaque_bytes = piece_bytes});
    tensors.push_back(
        {.name = fmt::format("calibration {}", layer),
         .base = base + layer * kBlocks * piece_bytes,
         .storage_bytes = kBlocks * piece_bytes,
         .axes = {{Axis::kPage, kBlocks, static_cast<std::int64_t>(piece_bytes)}, {Axis::kInner, piece_bytes, 1}},
         .kind = StateKind::kLatent,
         .first_layer = layer});
  }
  Layout layout;
  layout.groups.push_back(std::move(group));
  TIERCEL_TRY_ASSIGN(const auto tables, make_run_tables(layout, 1));
  TIERCEL_TRY_ASSIGN(CopyGeometry geometry, CopyGeometry::make(tables.front(), tensors));
  return std::make_shared<const CopyGeometry>(std::move(geometry));
}

/// The stages of a direction as one piece of memory; null: less than all blocks.
std::byte* stages_as_pages(CopyDevice& device, CopyDirection direction, const GpuCopyOptions& options) {
  const StageRing ring = stages_of(direction, options);
  if (ring.count == 0) return nullptr;
  std::byte* first = device.stage(direction, 0);
  const bool together = device.stage(direction, ring.count - 1) == first + (ring.count - 1) * ring.stage_bytes;
  return (together ? ring.count : 1) * ring.stage_bytes >= kBlocks * kBlockBytes ? first : nullptr;
}

class Measuring {
 public:
  Measuring(CopyDevice& device, const Clock& clock, const GpuCopyOptions& options, CopyPath path, int times,
            std::uint64_t until_ns)
      : clock_(clock), times_(times), until_ns_(until_ns), feeder_(device, at_full_speed(options, path)) {}

  /// The shortest of a few times, of `count` blocks at places apart.
  Result<std::uint64_t> shortest_ns(CopyDirection direction, const std::shared_ptr<const CopyGeometry>& geometry,
                                    const Slots& slots, std::uint32_t count) {
    std::uint64_t shortest = UINT64_MAX;
    for (int time = 0; time <= times_; ++time) {
      std::vector<std::uint32_t> pages;
      std::vector<std::byte*> places;
      for (std::uint32_t i = 0; i < count; ++i) {
        pages.push_back((5 * i + 3) % kBlocks);
        places.push_back(slots.block((11 * i + 1) % kBlocks));
      }
      TIERCEL_TRY_ASSIGN(CopyPlan plan, CopyPlan::make(geometry, std::move(pages), std::move(places)));
      const std::uint64_t begin_ns = clock_.now_ns();
      if (begin_ns >= until_ns_) return fail(ErrorCode::kTimeout, "the GPU is too busy to be calibrated now");
      std::vector<FinishedJob> finished;
      feeder_.take({.work = std::move(plan), .direction = direction}, std::nullopt);
      while (feeder_.active()) feeder_.pass(clock_.now_ns(), finished);
      const std::uint64_t took_ns = clock_.now_ns() - begin_ns;
      TIERCEL_TRY(finished.front().status);
      if (time > 0) shortest = std::min(shortest, took_ns);  // the first one warms up
    }
    return shortest;
  }

 private:
  static GpuCopyOptions at_full_speed(GpuCopyOptions options, CopyPath path) {
    options.path = path;
    options.store_bytes_per_second = 0;
    options.store_floor_percent = 100;
    return options;
  }
  const Clock& clock_;
  const int times_;
  const std::uint64_t until_ns_;
  Feeder feeder_;
};

PathCost fit(std::uint64_t one_ns, std::uint64_t all_ns, std::uint32_t blocks) {
  const std::uint64_t between = (blocks - 1) * kBlockBytes;
  const std::uint64_t between_ns = all_ns > one_ns ? all_ns - one_ns : 1;
  const std::uint64_t per_byte = std::max<std::uint64_t>(between_ns * 1'000'000 / between, 1);
  const std::uint64_t of_one_ns = per_byte * kBlockBytes / 1'000'000;
  return {.fixed_ns = one_ns > of_one_ns ? one_ns - of_one_ns : 0, .femtoseconds_per_byte = per_byte};
}

std::filesystem::path file_of(const std::string& folder, const std::string& key) {
  Sha256 hash;
  hash.text(key);
  std::string name = "gpu-copies-";
  const BlockHash digest = hash.finish();
  for (const std::byte byte : std::span(digest.bytes).first(8)) {
    name += fmt::format("{:02x}", static_cast<unsigned>(byte));
  }
  return std::filesystem::path(folder) / name;
}

}  // namespace

Result<PathCosts> measure_path_costs(CopyDevice& device, const Clock& clock, const GpuCopyOptions& options,
                                     const CalibrationSize& size) {
  TIERCEL_TRY_ASSIGN(const Slots slots, Slots::make(device));
  const std::uint64_t until_ns = deadline_after(clock.now_ns(), size.at_most_ns);
  PathCosts costs;
  for (const CopyDirection direction : {CopyDirection::kStore, CopyDirection::kLoad}) {
    const CopyDirection other = direction == CopyDirection::kStore ? CopyDirection::kLoad : CopyDirection::kStore;
    std::byte* pages = stages_as_pages(device, other, options);
    if (pages == nullptr) return fail(ErrorCode::kUnsupported, "stages of less than 16 MiB: nothing to calibrate with");
    for (const CopyPath path : {CopyPath::kMerged, CopyPath::kStaged}) {
      Measuring measuring(device, clock, options, path, size.times, until_ns);
      for (std::size_t run = 0; run < kCalibratedRuns.size(); ++run) {
        TIERCEL_TRY_ASSIGN(const auto geometry, geometry_of(pages, kCalibratedRuns[run]));
        TIERCEL_TRY_ASSIGN(const std::uint64_t one_ns, measuring.shortest_ns(direction, geometry, slots, 1));
        TIERCEL_TRY_ASSIGN(const std::uint64_t all_ns, measuring.shortest_ns(direction, geometry, slots, size.blocks));
        costs.at(direction, path, run) = fit(one_ns, all_ns, size.blocks);
      }
    }
  }
  return costs;
}

std::string calibration_key(const std::string& device, const GpuCopyOptions& options) {
  return fmt::format("{}, stages {} x {} / {} x {}, chunks {} / {}, depth {}, queues {} / {}, {} thread blocks", device,
                     options.store_stages, options.store_stage_bytes, options.load_stages, options.load_stage_bytes,
                     options.store_chunk_bytes, options.load_chunk_bytes, options.depth, options.store_queues,
                     options.load_queues, options.kernel_blocks);
}

std::optional<PathCosts> read_path_costs(const std::string& folder, const std::string& key) {
  std::ifstream file(file_of(folder, key));
  std::string title;
  std::string kept_key;
  if (!std::getline(file, title) || title != kTitle) return std::nullopt;
  if (!std::getline(file, kept_key) || kept_key != key) return std::nullopt;
  std::ostringstream rest;
  rest << file.rdbuf();
  return parse_costs(rest.str());
}

Status write_path_costs(const std::string& folder, const std::string& key, const PathCosts& costs) {
  const std::filesystem::path path = file_of(folder, key);
  const std::string partial = fmt::format("{}.{}.{:08x}", path.string(), getpid(), std::random_device()());
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  std::ofstream file(partial, std::ios::trunc);
  file << kTitle << '\n' << key << '\n' << to_text(costs);
  file.close();
  if (!file) {
    const int number = errno;
    (void)unlink(partial.c_str());
    return fail(ErrorCode::kIo, fmt::format("{}: {}", partial, std::strerror(number)), number);
  }
  std::filesystem::rename(partial, path, error);
  if (error) return fail(ErrorCode::kIo, fmt::format("{}: {}", path.string(), error.message()), error.value());
  return {};
}

}  // namespace tiercel::gpu
