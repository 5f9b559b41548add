// StagedCopyEngine: the GpuCopyEngine: a feeder with a thread of its own over a CopyDevice.
//
// Sketch: submit() on the caller's thread: one look at the addresses, at most two calls of the driver for the event,
// one push under the mutex; O(1) but for the plan's own vectors, which move. The feeder's thread ("tiercel-gpu-N") does
// all else: for each stage one launch, for each 2 MiB one or a few DMA calls, and looks at what has ended while
// anything is in flight. Completions are tasks of the executor; one that it refuses is offered again at the next pass.
// A store into memory that waits to be registered is held until it is: through the CPU it would take its time from all
// other jobs. Loads, of which somebody waits, are not.
// Bytes: each byte of a staged plan is read and written once in GPU memory and crosses the bus once.
// Locks: mutex_ guards the inbox, taken and left in well under a microsecond, never across a call of the device, the
// executor or a completion. Owns the device, the thread and a HostCopyEngine for what lies in host memory on both
// sides. Destruction waits until everything taken has ended and its completion was handed to the executor (or has run
// here, where the executor takes no more).
#pragma once

#include "base/clock.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "cuda/copy_device.h"
#include "cuda/feeder.h"
#include "cuda/memory_registration.h"
#include "transfer/gpu_copy_engine.h"
#include "transfer/host_copy_engine.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace tiercel::gpu {

/// kInvalidArgument names the option that is out of its range.
[[nodiscard]] Status check_options(const GpuCopyOptions& options);

class StagedCopyEngine final : public GpuCopyEngine {
 public:
  /// Options that check_options() accepts. Throws std::system_error where there are no threads.
  /// `costs`: of the device (calibration.h), by which paths are chosen.
  StagedCopyEngine(Executor& executor, const Clock& clock, std::unique_ptr<CopyDevice> device,
                   const GpuCopyOptions& options, std::optional<PathCosts> costs = std::nullopt);
  ~StagedCopyEngine() override;

  void close() noexcept override;
  [[nodiscard]] std::uint64_t in_flight() const noexcept override;
  [[nodiscard]] Status health() const override;
  [[nodiscard]] GpuCopyStats stats() const noexcept override;
  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] std::string choice() const override { return feeder_.choice().text(); }
  [[nodiscard]] Status wait_in_stream(void* stream, QueuedAhead& job, std::chrono::nanoseconds at_most) override {
    return job.wait(at_most, [&](Ticket ticket) { return device_->wait_in_stream(stream, ticket); });
  }
  void register_memory(std::byte* begin, std::uint64_t bytes) override { registration_.add(begin, bytes); }
  void pause_registration() override { registration_.pause(); }
  void resume_registration() override { registration_.resume(); }
  [[nodiscard]] std::uint64_t registered_bytes() const noexcept override { return registration_.registered_bytes(); }

 private:
  struct Intake {
    CopyJob job;
    std::optional<Ticket> gate;
    TensorPlace place = TensorPlace::kGpu;
  };
  /// What completions on the executor need; it outlives the engine.
  struct Completions;

  [[nodiscard]] bool submit_impl(CopyJob& job) override;
  [[nodiscard]] bool reserve();
  void work();
  [[nodiscard]] bool take_jobs(std::vector<Intake>& jobs);
  void feed(std::vector<Intake>& jobs, bool stopping);
  [[nodiscard]] bool reachable(const CopyJob& job);
  void wait_for_work(std::uint64_t next_event_ns);
  void complete(std::vector<FinishedJob>& finished, bool last);
  void publish();

  Executor& executor_;
  const Clock& clock_;
  const GpuCopyOptions options_;
  std::unique_ptr<CopyDevice> device_;
  MemoryRegistration registration_;
  HostCopyEngine host_;
  Feeder feeder_;            // of the thread alone, but for its choice
  std::deque<Intake> held_;  // likewise: stores whose slots are being registered, and those behind them
  std::uint64_t look_again_ns_ = 0;
  std::shared_ptr<Completions> completions_;

  mutable Mutex mutex_;
  std::vector<Intake> inbox_ TIERCEL_GUARDED_BY(mutex_);
  std::optional<Error> error_ TIERCEL_GUARDED_BY(mutex_);
  GpuCopyStats stats_ TIERCEL_GUARDED_BY(mutex_);
  bool closed_ TIERCEL_GUARDED_BY(mutex_) = false;
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;
  bool sleeping_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::condition_variable work_;
  std::thread thread_;
};

}  // namespace tiercel::gpu
