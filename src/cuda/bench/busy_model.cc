#include "cuda/bench/busy_model.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <library_types.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

namespace tiercel::gpu {
namespace {

/// The part of cuBLAS that is used here, by its published C interface.
class Blas {
 public:
  static Result<std::unique_ptr<Blas>> load() {
    void* library = nullptr;
    for (const char* name : {"libcublas.so.13", "libcublas.so.12", "libcublas.so"}) {
      if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
    }
    if (library == nullptr) return fail(ErrorCode::kUnsupported, fmt::format("no cuBLAS: {}", dlerror()));
    auto blas = std::make_unique<Blas>();
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    if (!find(blas->create_, "cublasCreate_v2") || !find(blas->set_stream_, "cublasSetStream_v2") ||
        !find(blas->set_workspace_, "cublasSetWorkspace_v2") || !find(blas->gemm_, "cublasGemmEx")) {
      return fail(ErrorCode::kUnsupported, "a cuBLAS without the functions that are needed");
    }
    constexpr std::uint64_t kWorkspaceBytes = 64U << 20U;
    TIERCEL_TRY_ASSIGN(blas->workspace_, DeviceMemory::make(kWorkspaceBytes));
    if (blas->create_(&blas->handle_) != 0) return fail(ErrorCode::kUnsupported, "cublasCreate failed");
    return blas;
  }
  Status use(cudaStream_t stream) const {
    constexpr std::uint64_t kWorkspaceBytes = 64U << 20U;
    if (set_stream_(handle_, stream) != 0 || set_workspace_(handle_, workspace_.get(), kWorkspaceBytes) != 0) {
      return fail(ErrorCode::kIo, "cublasSetStream failed");
    }
    return {};
  }
  /// c (m x n) = a (m x k) * b (k x n), bf16, columns first.
  Status multiply(int m, int n, int k, const void* a, const void* b, void* c) const {
    constexpr int kCompute32F = 68;
    constexpr int kDefaultAlgorithm = -1;
    const float one = 1;
    const float zero = 0;
    const int status = gemm_(handle_, 0, 0, m, n, k, &one, a, CUDA_R_16BF, m, b, CUDA_R_16BF, k, &zero, c, CUDA_R_16BF,
                             m, kCompute32F, kDefaultAlgorithm);
    return status == 0 ? Status{} : Status(fail(ErrorCode::kIo, fmt::format("cublasGemmEx: {}", status)));
  }

 private:
  using Create = int (*)(void**);
  using SetStream = int (*)(void*, cudaStream_t);
  using SetWorkspace = int (*)(void*, void*, std::size_t);
  using Gemm = int (*)(void*, int, int, int, int, int, const void*, const void*, cudaDataType, int, const void*,
                       cudaDataType, int, const void*, void*, cudaDataType, int, int, int);
  Create create_ = nullptr;
  SetStream set_stream_ = nullptr;
  SetWorkspace set_workspace_ = nullptr;
  Gemm gemm_ = nullptr;
  void* handle_ = nullptr;
  DeviceMemory workspace_;
};

constexpr int kTokens = 32;
constexpr int kLayers = 36;
constexpr int kSquare = 4096;
constexpr int kProducts = 50;
/// Inputs and outputs of a layer's products: attention in and out, MLP in (gate and up) and out.
constexpr std::array<std::array<int, 2>, 4> kShapes = {{{4096, 6144}, {4096, 4096}, {4096, 24576}, {12288, 4096}}};

class GraphModel final : public BusyModel {
 public:
  static Result<std::unique_ptr<BusyModel>> make(ModelKind kind) {
    auto model = std::make_unique<GraphModel>();
    TIERCEL_TRY_ASSIGN(model->blas_, Blas::load());
    TIERCEL_TRY_ASSIGN(model->stream_, CudaStream::make(StreamPriority::kNormal));
    TIERCEL_TRY(model->blas_->use(model->stream_.get()));
    TIERCEL_TRY(model->take_memory(kind));
    TIERCEL_TRY(model->queue(kind));  // once outside of the capture: cuBLAS loads its kernels
    TIERCEL_CUDA_TRY(cudaStreamSynchronize(model->stream_.get()));
    TIERCEL_CUDA_TRY(cudaStreamBeginCapture(model->stream_.get(), cudaStreamCaptureModeRelaxed));
    TIERCEL_TRY(model->queue(kind));
    cudaGraph_t graph = nullptr;
    TIERCEL_CUDA_TRY(cudaStreamEndCapture(model->stream_.get(), &graph));
    TIERCEL_CUDA_TRY(cudaGraphInstantiate(&model->graph_, graph, 0));
    TIERCEL_CUDA_TRY(cudaGraphDestroy(graph));
    return model;
  }
  ~GraphModel() override {
    if (graph_ != nullptr) (void)cudaGraphExecDestroy(graph_);
  }

  Result<ReplayTimes> replay(double seconds) override {
    using Seconds = std::chrono::duration<double>;
    ReplayTimes times;
    std::array<std::array<CudaEvent, 2>, 2> marks;
    for (auto& pair : marks) {
      for (CudaEvent& mark : pair) {
        TIERCEL_TRY_ASSIGN(mark, CudaEvent::make(EventTiming::kOn));
      }
    }
    const auto begin = std::chrono::steady_clock::now();
    std::uint64_t started = 0;
    const auto start = [&]() -> Status {
      auto& pair = marks[started++ % 2];
      TIERCEL_CUDA_TRY(cudaEventRecord(pair[0].get(), stream_.get()));
      TIERCEL_CUDA_TRY(cudaGraphLaunch(graph_, stream_.get()));
      TIERCEL_CUDA_TRY(cudaEventRecord(pair[1].get(), stream_.get()));
      return {};
    };
    TIERCEL_TRY(start());
    double passed = 0;
    for (std::uint64_t ended = 0; passed < seconds; ++ended) {
      TIERCEL_TRY(start());
      auto& pair = marks[ended % 2];
      TIERCEL_CUDA_TRY(cudaEventSynchronize(pair[1].get()));
      float ms = 0;
      TIERCEL_CUDA_TRY(cudaEventElapsedTime(&ms, pair[0].get(), pair[1].get()));
      times.milliseconds.push_back(ms);
      passed = Seconds(std::chrono::steady_clock::now() - begin).count();
    }
    times.per_second = static_cast<double>(times.milliseconds.size()) / passed;
    TIERCEL_CUDA_TRY(cudaStreamSynchronize(stream_.get()));
    return times;
  }

 private:
  Status take_memory(ModelKind kind) {
    const auto take = [&](std::uint64_t values) -> Status {
      TIERCEL_TRY_ASSIGN(DeviceMemory memory, DeviceMemory::make(values * 2));
      // Bytes of 0x3c make small bf16 numbers; what is multiplied does not matter here, that it is not zero does.
      TIERCEL_CUDA_TRY(cudaMemset(memory.get(), 0x3c, values * 2));
      memory_.push_back(std::move(memory));
      return {};
    };
    if (kind == ModelKind::kPrefill) {
      for (int i = 0; i < 3; ++i) TIERCEL_TRY(take(std::uint64_t{kSquare} * kSquare));
      return {};
    }
    for (int i = 0; i < 2; ++i) TIERCEL_TRY(take(std::uint64_t{kTokens} * 24576));
    for (int layer = 0; layer < kLayers; ++layer) {
      for (const auto& [in, out] : kShapes)
        TIERCEL_TRY(take(static_cast<std::uint64_t>(in) * static_cast<std::uint64_t>(out)));
    }
    return {};
  }
  Status queue(ModelKind kind) const {
    const auto at = [this](std::size_t i) { return memory_[i].get(); };
    if (kind == ModelKind::kPrefill) {
      for (int i = 0; i < kProducts; ++i) TIERCEL_TRY(blas_->multiply(kSquare, kSquare, kSquare, at(0), at(1), at(2)));
      return {};
    }
    std::size_t weight = 2;
    for (int layer = 0; layer < kLayers; ++layer) {
      for (std::size_t i = 0; i < kShapes.size(); ++i) {
        const auto& [in, out] = kShapes[i];
        TIERCEL_TRY(blas_->multiply(out, kTokens, in, at(weight++), at(i % 2), at((i + 1) % 2)));
      }
    }
    return {};
  }

  std::unique_ptr<Blas> blas_;
  CudaStream stream_;
  std::vector<DeviceMemory> memory_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace

double ReplayTimes::percentile(double share) const {
  std::vector<float> sorted = milliseconds;
  if (sorted.empty()) return 0;
  const auto at = static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1));
  std::ranges::nth_element(sorted, sorted.begin() + static_cast<std::ptrdiff_t>(at));
  return sorted[at];
}

Result<std::unique_ptr<BusyModel>> BusyModel::make(ModelKind kind) { return GraphModel::make(kind); }

}  // namespace tiercel::gpu
