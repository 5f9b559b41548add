// GpuGridMeter: measures cells of the grid on the GPU of device 0.
//
// The ways of a cell run in turn, in bursts, so that all meet what the machine does over time. Beside a model each way
// that is_beside() runs without end on a thread of its own, while the model is replayed. Errors end the program: what
// was measured before lies in the file. One thread.
#pragma once

#include "cuda/bench/busy_model.h"
#include "cuda/bench/copy_methods.h"
#include "cuda/bench/grid_runner.h"
#include "cuda/bench/stopwatch.h"
#include "cuda/bench/traffic.h"

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace tiercel::gpu {

class GpuGridMeter final : public GridMeter {
 public:
  /// The memory outlives it. `report` gets lines of what could not be measured.
  GpuGridMeter(const PoolMemory& memory, std::function<void(const std::string&)> report);
  [[nodiscard]] std::vector<GridRow> measure(const GridCell& cell) override;

 private:
  /// Seconds of one run until it has ended, and until its calls had returned.
  using Run = std::function<std::pair<double, double>()>;
  struct Way {
    GridWay way = GridWay::kContiguous;
    Run run;     // the GPU idle, but for a step that waits for its loads
    Run beside;  // something else of the GPU at work
    std::vector<double> seconds;
    std::vector<double> submits;
    double spent = 0;
  };
  struct Lists;

  [[nodiscard]] Run run_of(GridWay way, const GridCell& cell, const PagedPool& pool, Lists& lists, bool beside);
  [[nodiscard]] Run engine_run(BenchEngine& engine, const GridCell& cell, const PagedPool& pool,
                               bool waited_for = false);
  [[nodiscard]] Run contiguous_run(const GridCell& cell);
  [[nodiscard]] Run list_run(GridWay way, Lists& lists);
  [[nodiscard]] std::pair<double, double> timed(const std::function<void()>& queue) const;
  static void sample(std::vector<Way>& ways, const Repetitions& repetitions);
  void beside_model(ModelKind kind, const GridCell& cell, std::vector<Way>& ways, std::vector<GridRow>& rows);
  void beside_foreign(const GridCell& cell, std::vector<Way>& ways, std::vector<GridRow>& rows);
  /// Null: it could not be made, which was reported.
  [[nodiscard]] BusyModel* model(ModelKind kind);
  [[nodiscard]] std::uint64_t staged_jobs() { return (*automatic_).stats().staged_jobs; }

  const PoolMemory& memory_;
  std::function<void(const std::string&)> report_;
  DirectionStreams streams_;
  std::unique_ptr<PagedPool> pool_;  // of the shape before, so that cells of a shape share its geometry
  BenchEngine automatic_;
  BenchEngine staged_;
  BenchEngine merged_;
  CudaStream foreign_stream_;
  DeviceMemory foreign_gpu_;
  PinnedMemory foreign_host_;
  std::array<std::unique_ptr<BusyModel>, 2> models_;
  std::array<bool, 2> tried_{};
  double bandwidth_ = 0;  // of the card's memory, bytes a second; 0: unknown
};

/// Of this GPU, its driver and this program.
[[nodiscard]] Result<GridIdentity> grid_identity();

}  // namespace tiercel::gpu
