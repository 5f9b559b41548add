// What libtiercel_cuda.so exports (transfer/gpu_copy_engine.h).
#include "base/log.h"
#include "base/mutex.h"
#include "base/try.h"
#include "cuda/calibration.h"
#include "cuda/cuda_device.h"
#include "cuda/staged_copy_engine.h"
#include "transfer/gpu_copy_engine.h"

#include <fmt/format.h>

#include <map>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <thread>

namespace {

using tiercel::gpu::PathCosts;

/// On a thread of its own, for the device is put into a mode that belongs to the thread.
tiercel::Result<PathCosts> measured(tiercel::gpu::CudaDevice& device, const tiercel::Clock& clock,
                                    const tiercel::GpuCopyOptions& options) {
  tiercel::Result<PathCosts> costs = PathCosts{};
  const auto measure = [&] {
    try {
      const tiercel::Status begun = device.begin_thread();
      costs = begun ? tiercel::gpu::measure_path_costs(device, clock, options)
                    : tl::unexpected<tiercel::Error>(begun.error());
    } catch (const std::bad_alloc&) {
      costs = tiercel::fail(tiercel::ErrorCode::kOutOfMemory, "no memory");
    }
  };
  try {
    std::thread(measure).join();
  } catch (const std::system_error& error) {
    return tiercel::fail(tiercel::ErrorCode::kIo, error.what());
  }
  return costs;
}

/// Of this process, by key.
struct Known {
  tiercel::Mutex mutex;
  std::map<std::string, PathCosts> costs TIERCEL_GUARDED_BY(mutex);
};

/// From this process, from the file, or measured; without them copies are right too.
std::optional<PathCosts> costs_of(tiercel::gpu::CudaDevice& device, const tiercel::Clock& clock,
                                  const tiercel::GpuCopyOptions& options) {
  const std::string key = tiercel::gpu::calibration_key(device.identity(), options);
  // One at a time: two on one GPU would measure each other.
  static Known known_costs;
  const tiercel::MutexLock lock(known_costs.mutex);
  auto& known = known_costs.costs;
  if (const auto found = known.find(key); found != known.end()) return found->second;
  if (!options.calibration_folder.empty()) {
    if (auto kept = tiercel::gpu::read_path_costs(std::string(options.calibration_folder), key)) {
      known.emplace(key, *kept);
      return kept;
    }
  }
  const std::uint64_t begin_ns = clock.now_ns();
  auto costs = measured(device, clock, options);
  if (!costs) {
    tiercel::log_line(tiercel::LogLevel::kWarn, "gpu_copies",
                      fmt::format("not calibrated, the mean run decides: {}", costs.error().message));
    return std::nullopt;
  }
  tiercel::log_line(tiercel::LogLevel::kInfo, "gpu_copies",
                    fmt::format("calibrated in {:.1f} ms", static_cast<double>(clock.now_ns() - begin_ns) * 1e-6));
  known.emplace(key, *costs);
  if (options.calibration_folder.empty()) return *costs;
  if (const auto kept = tiercel::gpu::write_path_costs(std::string(options.calibration_folder), key, *costs); !kept) {
    tiercel::log_line(tiercel::LogLevel::kWarn, "gpu_copies",
                      fmt::format("the calibration is not kept: {}", kept.error().message));
  }
  return *costs;
}

tiercel::Result<std::unique_ptr<tiercel::GpuCopyEngine>> open_engine(tiercel::Executor& executor,
                                                                     const tiercel::Clock& clock,
                                                                     const tiercel::GpuCopyOptions& options) {
  TIERCEL_TRY(tiercel::gpu::check_options(options));
  tiercel::GpuCopyOptions used = options;
  TIERCEL_TRY_ASSIGN(auto device, tiercel::gpu::CudaDevice::open(used));
  const auto costs = used.calibrate ? costs_of(*device, clock, used) : std::nullopt;
  return std::make_unique<tiercel::gpu::StagedCopyEngine>(executor, clock, std::move(device), used, costs);
}

const std::string& mark() {
  static const std::string kText = tiercel::build_mark();
  return kText;
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): a name of the C interface
extern "C" __attribute__((visibility("default")))
const tiercel::CudaLibrary tiercel_cuda_library = {mark().c_str(), &open_engine};
// NOLINTEND(readability-identifier-naming)
