// What tests of the GPU share: why there is none, tensors in its memory, an engine over it.
#pragma once

#include "base/check.h"
#include "base/executor.h"
#include "cuda/cuda_device.h"
#include "cuda/cuda_handles.h"
#include "cuda/staged_copy_engine.h"
#include "model/engine_tensor.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::gpu {

/// Why no test can run here; empty if one can.
inline std::string gpu_missing() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return fmt::format("no GPU here: {}", cudaGetErrorString(error));
  return count == 0 ? "no GPU here" : "";
}

inline void must(cudaError_t error) { TIERCEL_CHECK(error == cudaSuccess, cudaGetErrorString(error)); }

/// A number from the environment, for runs longer than usual.
inline std::uint64_t how_many(const char* name, std::uint64_t usual) {
  const char* text = std::getenv(name);
  return text == nullptr ? usual : std::strtoull(text, nullptr, 10);
}

/// Tensors of the host with a copy of their storage on the GPU (transfer/testing/copy_engine_contract.h). Storages that
/// overlap are one.
class GpuMemory {
 public:
  explicit GpuMemory(std::vector<EngineTensor> tensors) : tensors_(std::move(tensors)) {
    for (EngineTensor& tensor : tensors_) {
      const auto inside = [&](const Storage& s) { return tensor.base >= s.host && tensor.base < s.host + s.bytes; };
      auto storage = std::ranges::find_if(storages_, inside);
      if (storage == storages_.end()) {
        storages_.push_back({tensor.base, tensor.storage_bytes, DeviceMemory::make(tensor.storage_bytes).value()});
        storage = std::prev(storages_.end());
      }
      tensor.base = storage->gpu.data() + (tensor.base - storage->host);
    }
    push();
  }
  [[nodiscard]] const std::vector<EngineTensor>& tensors() const { return tensors_; }
  void push() {
    for (const Storage& s : storages_) must(cudaMemcpy(s.gpu.data(), s.host, s.bytes, cudaMemcpyHostToDevice));
  }
  void pull() {
    for (const Storage& s : storages_) must(cudaMemcpy(s.host, s.gpu.data(), s.bytes, cudaMemcpyDeviceToHost));
  }

 private:
  struct Storage {
    std::byte* host;
    std::uint64_t bytes;
    DeviceMemory gpu;
  };
  std::vector<EngineTensor> tensors_;
  std::vector<Storage> storages_;
};

/// An engine with its executor. `wrap` may put something around the device.
class GpuEngine {
 public:
  using Wrap = std::function<std::unique_ptr<CopyDevice>(std::unique_ptr<CopyDevice>)>;
  explicit GpuEngine(GpuCopyOptions options, const Wrap& wrap = {}) {
    std::unique_ptr<CopyDevice> device = CudaDevice::open(options).value();
    if (wrap) device = wrap(std::move(device));
    engine_.emplace(executor_, clock_, std::move(device), options);
  }
  [[nodiscard]] StagedCopyEngine& engine() { return *engine_; }
  void drop_engine() { engine_.reset(); }
  bool settle(const std::function<bool()>& ready) { return executor_.wait_until(ready, UINT64_MAX); }
  bool settle_all() {
    return settle([this] { return engine_->in_flight() == 0; });
  }

 private:
  SteadyClock clock_;
  ThreadedExecutor executor_{{.threads = 2}, clock_};
  std::optional<StagedCopyEngine> engine_;
};

}  // namespace tiercel::gpu
