// What libtiercel_cuda.so exports (transfer/gpu_copy_engine.h).
#include "base/try.h"
#include "cuda/cuda_device.h"
#include "cuda/staged_copy_engine.h"
#include "transfer/gpu_copy_engine.h"

namespace {

tiercel::Result<std::unique_ptr<tiercel::GpuCopyEngine>> open_engine(tiercel::Executor& executor,
                                                                     const tiercel::Clock& clock,
                                                                     const tiercel::GpuCopyOptions& options) {
  TIERCEL_TRY(tiercel::gpu::check_options(options));
  tiercel::GpuCopyOptions used = options;
  TIERCEL_TRY_ASSIGN(auto device, tiercel::gpu::CudaDevice::open(used));
  return std::make_unique<tiercel::gpu::StagedCopyEngine>(executor, clock, std::move(device), used);
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
