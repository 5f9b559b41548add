// Lane: moves the jobs of one direction, in order, through the stages of the direction.
//
//   store:  [gate] kernel: pages -> stage    ~> DMA chunks: stage -> slots             stage free when all have ended
//   load:   DMA chunks: slots -> stage       ~> [gate] kernel: stage -> pages          stage free when it has ended
//   merged: [gate] DMA chunks: pages <-> slots
// (~> : a wait queued on the device.) Stages run ahead of each other as far as the ring goes, also across jobs; how
// many chunks are queued is the scheduler's word. A job is finished when its last chunk (store, merged) or kernel
// (load) was seen to end. Allocates a StageRun a stage, nothing a block. The feeder's thread; an error of the device
// ends a pass.
#pragma once

#include "cuda/copy_device.h"
#include "cuda/path_choice.h"
#include "cuda/running_job.h"
#include "cuda/transfer_scheduler.h"
#include "transfer/gpu_copy_engine.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

namespace tiercel::gpu {

class Lane {
 public:
  struct Counts {
    std::uint64_t bytes = 0;
    std::uint64_t kernels = 0;
    std::uint64_t copies = 0;
    std::uint64_t timed_out = 0;
  };
  Lane(CopyDirection direction, CopyDevice& device, TransferScheduler& scheduler, PathChoice& choice,
       const GpuCopyOptions& options);

  void add(std::unique_ptr<RunningJob> job) { jobs_.push_back(std::move(job)); }
  /// Something else is on the bus: what jobs take now says nothing about their path.
  void disturb() noexcept {
    for (auto& job : jobs_) job->alone = false;
  }
  /// Looks at what has ended, opens stages, queues chunks.
  [[nodiscard]] Status pass(std::uint64_t now_ns, std::vector<FinishedJob>& finished);
  /// After drain(): all jobs end with `error`.
  void fail_all(const Error& error, std::vector<FinishedJob>& finished);

  [[nodiscard]] bool active() const noexcept { return !jobs_.empty(); }
  /// Something is on the device whose end this lane waits for.
  [[nodiscard]] bool in_flight() const noexcept;
  /// A chunk waits for the scheduler's word.
  [[nodiscard]] bool held() const noexcept;
  /// The earliest deadline of a job that has not begun.
  [[nodiscard]] std::uint64_t next_deadline_ns() const noexcept;
  [[nodiscard]] const Counts& counts() const noexcept { return counts_; }

 private:
  struct Chunk {
    Ticket ticket = 0;
    StageRun* stage = nullptr;
    std::uint32_t dma_queue = 0;
    std::uint64_t bytes = 0;
  };
  using Jobs = std::deque<std::unique_ptr<RunningJob>>;

  Status reap_chunks();
  Status reap_stages(std::uint64_t now_ns, std::vector<FinishedJob>& finished);
  void finish_jobs(std::uint64_t now_ns, std::vector<FinishedJob>& finished);
  void expire(std::uint64_t now_ns, std::vector<FinishedJob>& finished);
  Status open_stages(std::uint64_t now_ns);
  Status begin(RunningJob& job, std::uint64_t now_ns);
  /// A stage that is free, or of a load whose kernel has been queued: behind it, for a job that is queued ahead.
  [[nodiscard]] bool take_stage(const RunningJob& job, StageRun& stage);
  /// A job that is queued ahead and has been: whoever waits in a stream may know.
  Status tell_queued(RunningJob& job);
  /// Nothing of it moves any more.
  void end(RunningJob& job, Status status, std::vector<FinishedJob>& finished);
  Status open_staged(StageRun&& opened);
  void open_merged(RunningJob& job);
  Status feed(std::uint64_t now_ns);
  Status queue_chunk(StageRun& stage, std::uint64_t now_ns);
  Status order_dma(StageRun& stage, std::uint32_t number);
  Status run_kernel(StageRun& stage);
  [[nodiscard]] StageRun* next_to_feed() noexcept;
  [[nodiscard]] std::uint32_t quieter_dma_queue() const noexcept;
  [[nodiscard]] std::uint64_t next_chunk_bytes(const StageRun& stage) const noexcept;

  const CopyDirection direction_;
  CopyDevice& device_;
  TransferScheduler& scheduler_;
  PathChoice& choice_;
  const GpuCopyOptions options_;
  const std::uint64_t chunk_bytes_;
  const std::uint32_t queues_;
  Jobs jobs_;  // in order of submission; the first ones may be cut and wait for their end
  std::deque<std::unique_ptr<StageRun>> stages_;
  std::deque<Chunk> chunks_;
  std::vector<std::uint32_t> free_stages_;
  Counts counts_;
};

}  // namespace tiercel::gpu
