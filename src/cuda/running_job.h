// RunningJob, StageRun: a job that a lane moves, and one of its stages on the way. Plain state; the feeder's thread.
#pragma once

#include "cuda/copy_device.h"
#include "cuda/dma_walker.h"
#include "cuda/path_choice.h"
#include "cuda/stage_cutter.h"
#include "transfer/copy_plan.h"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

namespace tiercel::gpu {

/// A table and its copy on the device.
struct LoadedTable {
  PieceTable table;
  const PieceEntry* device = nullptr;
};

struct RunningJob {
  CopyJob job;
  std::optional<Ticket> gate;                ///< the pages are touched behind it
  std::shared_ptr<const LoadedTable> table;  ///< null: without stages
  std::optional<StageCutter> cutter;
  PathEstimate estimate;       ///< of a plan
  std::uint64_t begun_ns = 0;  ///< once it has begun
  bool teaches = true;         ///< its slots are reached by DMA
  bool alone = false;          ///< it has the bus for itself and waits for nothing, so far
  bool gate_waited = false;    ///< the kernel queue has been told to wait for the gate
  bool begun = false;
  bool cut = false;               ///< every stage has been opened
  std::uint32_t open_stages = 0;  ///< opened and not ended

  /// All of it is queued at once.
  [[nodiscard]] bool ahead() const noexcept { return job.ahead != nullptr; }
  [[nodiscard]] const CopyPlan* plan() const noexcept { return std::get_if<CopyPlan>(&job.work); }
};

struct StageRun {
  RunningJob* job = nullptr;
  std::optional<std::uint32_t> stage;  ///< none: DMA from and to the pages
  StageRange range;
  DmaWalker dma;
  std::optional<Ticket> kernel;
  std::array<bool, kDmaQueues> ordered{};                ///< this DMA queue waits for what it must
  std::array<std::optional<Ticket>, kDmaQueues> last{};  ///< chunk in this queue that has not been seen to end
  std::uint64_t queued_bytes = 0;                        ///< of its DMA
  std::uint32_t chunks = 0;                              ///< queued and not seen to end
  bool fed = false;                                      ///< all chunks have been queued
  bool passed_on = false;         ///< its stage belongs to a later run, whose DMA waits for this one's kernel
  std::optional<Ticket> after{};  ///< that kernel
};

struct FinishedJob {
  CopyJob job;
  Status status{};
};

}  // namespace tiercel::gpu
