// Feeder: both lanes of an engine, and the choice of the path for each job. Control without a thread of its own: pass()
// does what can be done now and says when there is more.
//
// After the first error of the device nothing more is queued; once drain() says that nothing can move, every job ends
// with that error. One thread.
#pragma once

#include "cuda/copy_device.h"
#include "cuda/lane.h"
#include "cuda/path_choice.h"
#include "cuda/running_job.h"
#include "cuda/transfer_scheduler.h"
#include "transfer/gpu_copy_engine.h"

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace tiercel::gpu {

enum class TensorPlace : std::uint8_t { kGpu, kHost };

class Feeder {
 public:
  /// `costs`: of this device, by which kAuto chooses; without them, by the mean run.
  Feeder(CopyDevice& device, const GpuCopyOptions& options, std::optional<PathCosts> costs = std::nullopt);
  ~Feeder();

  /// `gate`: of the job's event, if it has one. A job whose tensors no kernel can reach is merged.
  /// `reached`: by DMA; what goes through the CPU says nothing about the paths.
  void take(CopyJob&& job, std::optional<Ticket> gate, TensorPlace place = TensorPlace::kGpu, bool reached = true);
  /// As if the device had said so.
  void fail_with(Error error) { error_ = std::move(error); }
  void pass(std::uint64_t now_ns, std::vector<FinishedJob>& finished);

  /// Jobs taken that have not been given back in `finished`.
  [[nodiscard]] bool active() const noexcept { return loads_.active() || stores_.active(); }
  /// When pass() has something to do: 0: look again at once, things are in flight; UINT64_MAX: when a job comes.
  [[nodiscard]] std::uint64_t next_event_ns() const noexcept;
  [[nodiscard]] const std::optional<Error>& error() const noexcept { return error_; }
  [[nodiscard]] GpuCopyStats stats() const noexcept;
  /// Its text and corrections may be asked for from any thread.
  [[nodiscard]] const PathChoice& choice() const noexcept { return choice_; }

 private:
  struct KnownGeometry {
    std::shared_ptr<const CopyGeometry> geometry;  // keeps the address from meaning another one
    std::shared_ptr<const LoadedTable> table;      // null: without stages
  };
  Result<std::shared_ptr<const LoadedTable>> table_of(const CopyPlan& plan);
  Result<std::shared_ptr<const LoadedTable>> load_table(const CopyGeometry& geometry);
  bool forget_one();
  Status choose_path(RunningJob& job, TensorPlace place);
  void fail_all(std::vector<FinishedJob>& finished);

  CopyDevice& device_;
  const GpuCopyOptions options_;
  PathChoice choice_;
  TransferScheduler scheduler_;
  Lane loads_;
  Lane stores_;
  std::list<KnownGeometry> known_;  // the one used last in front
  std::optional<Error> error_;
  std::uint64_t staged_jobs_ = 0;
  std::uint64_t merged_jobs_ = 0;
};

}  // namespace tiercel::gpu
