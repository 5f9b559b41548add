// Owners of what the CUDA runtime gives: a stream, an event, memory of the GPU, memory of the host that it can reach.
//
// Move-only; each frees what it owns, and an error of the freeing is dropped: a context that died has freed it already.
// Owners are not thread-safe; what they own is as safe as CUDA says. Raw handles and spans are the views.
#pragma once

#include "cuda/cuda_result.h"

#include <tiercel/result.h>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace tiercel::gpu {

/// A unique_ptr for handles that are pointers to nothing one can name.
template <class T, auto kFree>
class CudaOwner {
 public:
  CudaOwner() = default;
  explicit CudaOwner(T handle) : handle_(handle) {}
  CudaOwner(CudaOwner&& other) noexcept : handle_(std::exchange(other.handle_, T{})) {}
  CudaOwner& operator=(CudaOwner&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  CudaOwner(const CudaOwner&) = delete;
  CudaOwner& operator=(const CudaOwner&) = delete;
  ~CudaOwner() {
    if (handle_ != T{}) (void)kFree(handle_);
  }
  [[nodiscard]] T get() const noexcept { return handle_; }

 private:
  T handle_{};
};

enum class StreamPriority : std::uint8_t { kNormal, kHigh };

class CudaStream : public CudaOwner<cudaStream_t, cudaStreamDestroy> {
 public:
  using CudaOwner::CudaOwner;
  /// Does not wait for the legacy default stream. kHigh: its kernels get a multiprocessor before waiting blocks of
  /// others.
  [[nodiscard]] static Result<CudaStream> make(StreamPriority priority) {
    int low = 0;
    int high = 0;
    TIERCEL_CUDA_TRY(cudaDeviceGetStreamPriorityRange(&low, &high));
    cudaStream_t stream = nullptr;
    TIERCEL_CUDA_TRY(
        cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority == StreamPriority::kHigh ? high : low));
    return CudaStream(stream);
  }
};

enum class EventTiming : std::uint8_t { kOff, kOn };

class CudaEvent : public CudaOwner<cudaEvent_t, cudaEventDestroy> {
 public:
  using CudaOwner::CudaOwner;
  [[nodiscard]] static Result<CudaEvent> make(EventTiming timing = EventTiming::kOff) {
    cudaEvent_t event = nullptr;
    TIERCEL_CUDA_TRY(
        cudaEventCreateWithFlags(&event, timing == EventTiming::kOn ? cudaEventDefault : cudaEventDisableTiming));
    return CudaEvent(event);
  }
};

/// Bytes of the GPU's memory.
class DeviceMemory : public CudaOwner<void*, static_cast<cudaError_t (*)(void*)>(cudaFree)> {
 public:
  using CudaOwner::CudaOwner;
  [[nodiscard]] static Result<DeviceMemory> make(std::uint64_t bytes) {
    void* memory = nullptr;
    TIERCEL_CUDA_TRY(cudaMalloc(&memory, bytes));
    return DeviceMemory(memory);
  }
  [[nodiscard]] std::byte* data() const noexcept { return static_cast<std::byte*>(get()); }
};

/// Pinned host memory, also mapped into the GPU's address space at the same address.
class PinnedMemory : public CudaOwner<void*, static_cast<cudaError_t (*)(void*)>(cudaFreeHost)> {
 public:
  using CudaOwner::CudaOwner;
  [[nodiscard]] static Result<PinnedMemory> make(std::uint64_t bytes) {
    void* memory = nullptr;
    TIERCEL_CUDA_TRY(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped));
    return PinnedMemory(memory);
  }
  [[nodiscard]] std::byte* data() const noexcept { return static_cast<std::byte*>(get()); }
};

}  // namespace tiercel::gpu
