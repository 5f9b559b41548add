// CudaDevice: the CopyDevice of one NVIDIA GPU.
//
// Owns six streams and two more for gates, a pool of events, the stages and the room for tables in GPU memory, all
// taken in open(). Where the stages cannot be had it has none, and the engine merges. Kernel queues have high priority,
// so that a stage's few thread blocks do not wait behind a model's many. Threads that end up here by begin_thread() are
// in relaxed capture mode: a graph that the engine captures meanwhile is not disturbed. See copy_device.h for threads.
#pragma once

#include "base/mutex.h"
#include "cuda/copy_device.h"
#include "cuda/cuda_handles.h"
#include "transfer/gpu_copy_engine.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tiercel::gpu {

class CudaDevice final : public CopyDevice {
 public:
  /// `options`' stages become 0 where there is no memory for them.
  [[nodiscard]] static Result<std::unique_ptr<CudaDevice>> open(GpuCopyOptions& options);

  [[nodiscard]] bool owns(const void* address) const noexcept override;
  Result<Ticket> gate(CopyDirection direction, void* event) override;
  Status begin_thread() override;
  Result<const PieceEntry*> upload(const PieceTable& table) override;
  void forget(const PieceEntry* pieces) noexcept override;
  std::byte* stage(CopyDirection direction, std::uint32_t number) noexcept override;
  Status run_stage(CopyDirection direction, const StageParams& params) override;
  Status copy(Queue queue, CopyDirection direction, std::span<const Dma> chunk) override;
  Result<Ticket> mark(Queue queue) override;
  Status wait(Queue queue, Ticket ticket) override;
  Result<bool> reached(Ticket ticket) override;
  void give_back(Ticket ticket) noexcept override;
  void drain() noexcept override;
  Status wait_in_stream(void* stream, Ticket ticket) override;
  Status pin(std::byte* begin, std::uint64_t bytes) override;
  void unpin(std::byte* begin) noexcept override;
  [[nodiscard]] std::string describe() const override;
  /// Model, UUID and driver: what a calibration holds for.
  [[nodiscard]] const std::string& identity() const noexcept { return identity_; }

 private:
  explicit CudaDevice(const GpuCopyOptions& options) : options_(options) {}
  Status copy_one(cudaStream_t stream, CopyDirection direction, const Dma& dma);
  Status take_streams();
  Status take_memory();
  /// A ticket and its event.
  Result<std::pair<Ticket, cudaEvent_t>> take_event();
  [[nodiscard]] cudaEvent_t event_of(Ticket ticket) const;

  GpuCopyOptions options_;
  std::string name_;
  std::string identity_;
  std::array<CudaStream, kQueues> queues_;
  std::array<CudaStream, 2> gates_;  // of a direction: wait for the callers' events, in order
  CudaStream uploads_;
  DeviceMemory stages_;
  DeviceMemory tables_;
  std::vector<std::uint32_t> free_tables_;
  std::vector<void*> batch_to_;  // of copy()
  std::vector<const void*> batch_from_;
  std::vector<std::size_t> batch_bytes_;

  mutable Mutex mutex_;
  std::vector<CudaEvent> events_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<Ticket> free_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel::gpu
