#include "cuda/cuda_device.h"

#include "cuda/stage_kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

namespace tiercel::gpu {
namespace {

constexpr std::uint32_t kTables = 16;
constexpr std::uint64_t kTableBytes = 128U << 10U;

std::uint64_t stages_bytes(const GpuCopyOptions& options) {
  return options.store_stages * options.store_stage_bytes + options.load_stages * options.load_stage_bytes;
}

/// Calls that CUDA forbids while another thread captures a graph in global mode are allowed to this thread.
Status relax_capture_mode() {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  TIERCEL_CUDA_TRY(cudaThreadExchangeStreamCaptureMode(&mode));
  return {};
}

/// The driver's own line, where the system shows it: its number in the runtime is that of a CUDA version.
std::string driver_version() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  if (std::getline(file, line)) return line;
  int version = 0;
  (void)cudaDriverGetVersion(&version);
  return fmt::format("CUDA {}", version);
}

std::string identity_of(const cudaDeviceProp& properties) {
  std::string uuid;
  for (const char byte : properties.uuid.bytes) uuid += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return fmt::format("{} {}, {}", properties.name, uuid, driver_version());
}

}  // namespace

Result<std::unique_ptr<CudaDevice>> CudaDevice::open(GpuCopyOptions& options) {
  int before = 0;
  TIERCEL_CUDA_TRY(cudaGetDevice(&before));
  TIERCEL_CUDA_TRY(cudaSetDevice(options.device));
  std::unique_ptr<CudaDevice> device(new CudaDevice(options));
  cudaDeviceProp properties{};
  TIERCEL_CUDA_TRY(cudaGetDeviceProperties(&properties, options.device));
  device->name_ = properties.name;
  device->identity_ = identity_of(properties);
  TIERCEL_TRY(device->take_streams());
  TIERCEL_TRY(device->take_memory());
  options.store_stages = device->options_.store_stages;
  options.load_stages = device->options_.load_stages;
  TIERCEL_CUDA_TRY(cudaSetDevice(before));
  return device;
}

Status CudaDevice::take_streams() {
  for (Queue queue = 0; queue < kQueues; ++queue) {
    const bool kernel = queue == kernel_queue(CopyDirection::kStore) || queue == kernel_queue(CopyDirection::kLoad);
    TIERCEL_TRY_ASSIGN(queues_[queue], CudaStream::make(kernel ? StreamPriority::kHigh : StreamPriority::kNormal));
  }
  for (CudaStream& gate : gates_) {
    TIERCEL_TRY_ASSIGN(gate, CudaStream::make(StreamPriority::kNormal));
  }
  TIERCEL_TRY_ASSIGN(uploads_, CudaStream::make(StreamPriority::kHigh));
  return {};
}

Status CudaDevice::take_memory() {
  if (stages_bytes(options_) == 0) return {};
  auto stages = DeviceMemory::make(stages_bytes(options_));
  auto tables = DeviceMemory::make(kTables * kTableBytes);
  if (!stages || !tables) {  // the engine has taken all: merged copies need none
    options_.store_stages = 0;
    options_.load_stages = 0;
    return {};
  }
  stages_ = std::move(*stages);
  tables_ = std::move(*tables);
  for (std::uint32_t i = kTables; i-- > 0;) free_tables_.push_back(i);
  return {};
}

bool CudaDevice::owns(const void* address) const noexcept {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, address) != cudaSuccess) {
    (void)cudaGetLastError();
    return false;
  }
  return attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
}

Status CudaDevice::begin_thread() {
  TIERCEL_CUDA_TRY(cudaSetDevice(options_.device));
  return relax_capture_mode();
}

Result<std::pair<Ticket, cudaEvent_t>> CudaDevice::take_event() {
  {
    const MutexLock lock(mutex_);
    if (!free_.empty()) {
      const Ticket ticket = free_.back();
      free_.pop_back();
      return std::pair{ticket, events_[ticket].get()};
    }
  }
  TIERCEL_TRY_ASSIGN(CudaEvent event, CudaEvent::make());
  const MutexLock lock(mutex_);
  events_.push_back(std::move(event));
  return std::pair{static_cast<Ticket>(events_.size() - 1), events_.back().get()};
}

cudaEvent_t CudaDevice::event_of(Ticket ticket) const {
  const MutexLock lock(mutex_);
  return events_.at(ticket).get();
}

Result<Ticket> CudaDevice::gate(CopyDirection direction, void* event) {
  // Two callers at once may come between each other's calls: both gates then wait for both events, which is right too.
  cudaStream_t stream = gates_[static_cast<std::size_t>(direction)].get();
  TIERCEL_CUDA_TRY(cudaStreamWaitEvent(stream, static_cast<cudaEvent_t>(event), 0));
  TIERCEL_TRY_ASSIGN(const auto taken, take_event());
  TIERCEL_CUDA_TRY(cudaEventRecord(taken.second, stream));
  return taken.first;
}

Result<const PieceEntry*> CudaDevice::upload(const PieceTable& table) {
  const std::uint64_t bytes = table.pieces().size() * sizeof(PieceEntry);
  if (bytes > kTableBytes) return fail(ErrorCode::kUnsupported, "a geometry of too many pieces for a stage kernel");
  if (free_tables_.empty()) return fail(ErrorCode::kOutOfMemory, "no room for a table of pieces");
  const std::uint32_t number = free_tables_.back();
  free_tables_.pop_back();
  std::byte* place = tables_.data() + number * kTableBytes;
  TIERCEL_CUDA_TRY(cudaMemcpyAsync(place, table.pieces().data(), bytes, cudaMemcpyHostToDevice, uploads_.get()));
  TIERCEL_CUDA_TRY(cudaStreamSynchronize(uploads_.get()));  // both directions' kernels read it; once a geometry
  return reinterpret_cast<const PieceEntry*>(place);
}

void CudaDevice::forget(const PieceEntry* pieces) noexcept {
  const auto offset = reinterpret_cast<const std::byte*>(pieces) - tables_.data();
  free_tables_.push_back(static_cast<std::uint32_t>(static_cast<std::uint64_t>(offset) / kTableBytes));
}

std::byte* CudaDevice::stage(CopyDirection direction, std::uint32_t number) noexcept {
  const std::uint64_t before =
      direction == CopyDirection::kLoad ? options_.store_stages * options_.store_stage_bytes : 0;
  return stages_.data() + before + number * stages_of(direction, options_).stage_bytes;
}

Status CudaDevice::run_stage(CopyDirection direction, const StageParams& params) {
  const StageFlow flow = direction == CopyDirection::kStore ? StageFlow::kGather : StageFlow::kScatter;
  return cuda_check(launch_stage(flow, params, options_.kernel_blocks, queues_[kernel_queue(direction)].get()),
                    "cudaLaunchKernel");
}

Status CudaDevice::copy(Queue queue, CopyDirection direction, std::span<const Dma> chunk) {
  cudaStream_t stream = queues_[queue].get();
  const bool flat = std::ranges::all_of(chunk, [](const Dma& dma) { return dma.rows == 1; });
  if (!flat || chunk.size() < 2) {
    for (const Dma& dma : chunk) TIERCEL_TRY(copy_one(stream, direction, dma));
    return {};
  }
  // In one call the copies need not wait for each other's end, which costs the bus 2 to 6 us a copy.
  batch_to_.clear();
  batch_from_.clear();
  batch_bytes_.clear();
  const bool store = direction == CopyDirection::kStore;
  for (const Dma& dma : chunk) {
    batch_to_.push_back(store ? dma.host : dma.device);
    batch_from_.push_back(store ? dma.device : dma.host);
    batch_bytes_.push_back(dma.bytes);
  }
  cudaMemcpyAttributes attributes{};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  std::size_t first = 0;
  TIERCEL_CUDA_TRY(cudaMemcpyBatchAsync(batch_to_.data(), batch_from_.data(), batch_bytes_.data(), chunk.size(),
                                        &attributes, &first, 1, stream));
  return {};
}

Status CudaDevice::copy_one(cudaStream_t stream, CopyDirection direction, const Dma& dma) {
  const bool store = direction == CopyDirection::kStore;
  std::byte* to = store ? dma.host : dma.device;
  const std::byte* from = store ? dma.device : dma.host;
  if (dma.rows == 1) {
    TIERCEL_CUDA_TRY(cudaMemcpyAsync(to, from, dma.bytes, cudaMemcpyDefault, stream));
    return {};
  }
  TIERCEL_CUDA_TRY(cudaMemcpy2DAsync(to, store ? dma.host_pitch_bytes : dma.device_pitch_bytes, from,
                                     store ? dma.device_pitch_bytes : dma.host_pitch_bytes, dma.bytes, dma.rows,
                                     cudaMemcpyDefault, stream));
  return {};
}

Result<Ticket> CudaDevice::mark(Queue queue) {
  TIERCEL_TRY_ASSIGN(const auto taken, take_event());
  TIERCEL_CUDA_TRY(cudaEventRecord(taken.second, queues_[queue].get()));
  return taken.first;
}

Status CudaDevice::wait(Queue queue, Ticket ticket) {
  TIERCEL_CUDA_TRY(cudaStreamWaitEvent(queues_[queue].get(), event_of(ticket), 0));
  return {};
}

Status CudaDevice::wait_in_stream(void* stream, Ticket ticket) {
  TIERCEL_CUDA_TRY(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), event_of(ticket), 0));
  return {};
}

Result<bool> CudaDevice::reached(Ticket ticket) {
  const cudaError_t state = cudaEventQuery(event_of(ticket));
  if (state == cudaErrorNotReady) return false;
  TIERCEL_TRY(cuda_check(state, "cudaEventQuery"));
  return true;
}

void CudaDevice::give_back(Ticket ticket) noexcept {
  const MutexLock lock(mutex_);
  free_.push_back(ticket);
}

void CudaDevice::drain() noexcept {
  for (const CudaStream& queue : queues_) (void)cudaStreamSynchronize(queue.get());
}

Status CudaDevice::pin(std::byte* begin, std::uint64_t bytes) {
  TIERCEL_CUDA_TRY(cudaHostRegister(begin, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped));
  return {};
}

void CudaDevice::unpin(std::byte* begin) noexcept { (void)cudaHostUnregister(begin); }

std::string CudaDevice::describe() const {
  if (stages_bytes(options_) == 0) {
    return fmt::format("{}, device {}, no memory for stages: merged copies alone", name_, options_.device);
  }
  return fmt::format("{}, device {}, {} MiB in {} stages for stores and {} for loads", name_, options_.device,
                     stages_bytes(options_) >> 20U, options_.store_stages, options_.load_stages);
}

}  // namespace tiercel::gpu
