// GpuCopyEngine: the CopyEngine of a GPU, and how it is found at run time.
//
// libtiercel_cuda.so holds the only code that knows CUDA; it is opened when a GPU engine is asked for, so that the rest
// builds and runs on machines without toolkit, driver or GPU. The library must come from the same build (its mark is
// compared), is loaded once and stays. An engine serves one GPU; several in a process share nothing.
//
// Jobs: the engine's side of a plan lies on the GPU, the slots in host memory; slots that are registered move by DMA,
// others are right too, but slow and at the cost of the engine's thread. What lies in host memory on both sides is
// moved by a HostCopyEngine. Errors of the device end the engine: health() says the first one, every job that was taken
// completes with it once nothing of it can move any more, and later submits are refused.
#pragma once

#include "base/clock.h"
#include "base/executor.h"
#include "transfer/copy_engine.h"

#include <tiercel/result.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace tiercel {

/// How a plan crosses the bus.
enum class CopyPath : std::uint8_t {
  kAuto = 0,    ///< what is shorter, by the calibration; without one the mean run decides (merge_bytes)
  kMerged = 1,  ///< DMA from and to the pages, a copy for each run that is contiguous on both sides
  kStaged = 2,  ///< a kernel between the pages and a stage on the GPU, DMA between stage and slots
};

struct GpuCopyOptions {
  int device = 0;
  std::size_t max_jobs = 256;
  /// Of one stage, which one kernel launch fills or empties: 64 KiB to 32 MiB. All stages together take at most 64 MiB
  /// of GPU memory. A long launch costs a model beside it more than a short one, a short load more of the bus.
  std::uint64_t store_stage_bytes = 4U << 20U;
  std::uint32_t store_stages = 8;
  std::uint64_t load_stage_bytes = 16U << 20U;
  std::uint32_t load_stages = 2;
  /// DMA that is queued at once, in one call; the last chunk of a stage may be a quarter longer. Between chunks the bus
  /// stands still for 2 us (out) to 3.5 us (in). Copies out wait for each other and copies in do not (docs/gpu.md).
  std::uint64_t store_chunk_bytes = 4U << 20U;
  std::uint64_t load_chunk_bytes = 16U << 20U;
  std::uint32_t depth = 2;         ///< chunks queued a direction
  std::uint32_t store_queues = 2;  ///< streams that chunks alternate between: 1 or 2
  std::uint32_t load_queues = 1;
  std::uint64_t store_bytes_per_second = 12'000'000'000;  ///< pace of stores; 0: none
  std::uint64_t link_bytes_per_second = 55'000'000'000;   ///< of which stores keep their floor beside loads
  std::uint32_t store_floor_percent = 10;                 ///< beside loads; 100: loads do not hold stores back
  std::uint64_t merge_bytes = 1U << 20U;                  ///< mean run from which kAuto merges, not calibrated
  std::uint32_t kernel_blocks = 132;                      ///< thread blocks of a stage kernel
  std::uint64_t poll_ns = 0;          ///< between looks at what is in flight; 0: without pause, while anything is
  std::uint64_t linger_ns = 200'000;  ///< how long the engine's thread looks for another job before it sleeps
  std::uint64_t register_piece_bytes = 8U << 20U;  ///< of memory, at once (register_memory); a power of two
  std::uint32_t register_threads = 4;              ///< that provide pages for it beside each other
  CopyPath path = CopyPath::kAuto;
  /// Measures when it is opened what each path costs here (about 0.1 s), so that kAuto can choose by it.
  bool calibrate = false;
  /// Keeps that for the next start, by GPU and driver; empty: it is not kept. Read while the engine is opened.
  std::string_view calibration_folder{};
};

/// What the engine took and did, for reports. A consistent snapshot is not promised.
struct GpuCopyStats {
  std::uint64_t stored_bytes = 0;
  std::uint64_t loaded_bytes = 0;
  std::uint64_t staged_jobs = 0;
  std::uint64_t merged_jobs = 0;
  std::uint64_t kernels = 0;
  std::uint64_t copies = 0;     ///< DMA operations
  std::uint64_t timed_out = 0;  ///< jobs whose deadline passed before they began
};

class GpuCopyEngine : public CopyEngine {
 public:
  /// The first error of the device, from which on the engine takes nothing.
  [[nodiscard]] virtual Status health() const = 0;
  [[nodiscard]] virtual GpuCopyStats stats() const noexcept = 0;
  /// Of a job that was submitted with CopyJob::ahead: waits until all of it is queued, at most so long; what is put
  /// into `stream` (a cudaStream_t of this GPU, not one under capture) afterwards begins behind the job's end. An
  /// error: nothing waits, and the job, if it has not ended, must be waited for otherwise.
  [[nodiscard]] virtual Status wait_in_stream(void* stream, QueuedAhead& job, std::chrono::nanoseconds at_most) = 0;
  /// Makes memory that slots lie in reachable by DMA, by threads of the engine, a piece at a time, what copies need
  /// first. Loads go through the CPU meanwhile, stores wait for their pieces. The memory stays mapped until the engine
  /// is destroyed. No byte is given twice.
  virtual void register_memory(std::byte* begin, std::uint64_t bytes) = 0;
  /// Around what must not be held up, such as the capture of graphs; pauses nest. pause returns when the driver has no
  /// piece in work. Stores do not wait while it is paused.
  virtual void pause_registration() = 0;
  virtual void resume_registration() = 0;
  [[nodiscard]] virtual std::uint64_t registered_bytes() const noexcept = 0;
  /// "NVIDIA H100 80GB HBM3, device 0, 48 MiB in 6 stages", for the log.
  [[nodiscard]] virtual std::string describe() const = 0;
  /// What the paths cost by the calibration, and how plans have corrected it: a table, for people.
  [[nodiscard]] virtual std::string choice() const = 0;
};

/// kUnsupported: no library, no driver, no GPU, another build; kInvalidArgument names the option. `library`: the path
/// of libtiercel_cuda.so; empty: beside the code that asks, then where the system looks. The executor and the clock
/// outlive the engine. Destroying the engine waits for what it took.
[[nodiscard]] Result<std::unique_ptr<GpuCopyEngine>> open_gpu_copy_engine(Executor& executor, const Clock& clock,
                                                                          const GpuCopyOptions& options = {},
                                                                          const std::string& library = {});

/// A GPU engine where there is one, else a HostCopyEngine and one line in the log that says why.
[[nodiscard]] std::unique_ptr<CopyEngine> open_copy_engine(Executor& executor, const Clock& clock,
                                                           const GpuCopyOptions& options = {},
                                                           const std::string& library = {});

/// What libtiercel_cuda.so exports, as "tiercel_cuda_library". Objects cross the border, so both sides are one build.
struct CudaLibrary {
  const char* build_mark = nullptr;
  Result<std::unique_ptr<GpuCopyEngine>> (*open)(Executor&, const Clock&, const GpuCopyOptions&) = nullptr;
};
[[nodiscard]] std::string build_mark();

}  // namespace tiercel
