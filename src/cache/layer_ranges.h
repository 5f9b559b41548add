// LayerRanges: the copy geometries of ranges of a rank's layers, each made once.
//
// An engine asks for few: all layers, and the groups that its steps wait for one after another. More than kKept are
// made anew each time. Tensors' descriptions are kept, their memory is the engine's. Safe from several threads.
#pragma once

#include "base/mutex.h"
#include "model/copy_geometry.h"
#include "model/run_table.h"

#include <tiercel/result.h>
#include <tiercel/tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace tiercel {

class LayerRanges {
 public:
  static constexpr std::size_t kKept = 256;

  /// Errors of CopyGeometry::make().
  [[nodiscard]] static Result<LayerRanges> make(RunTable table, std::span<const EngineTensor> tensors,
                                                const RankPart& part);

  [[nodiscard]] const std::shared_ptr<const CopyGeometry>& whole() const noexcept { return state_->whole; }
  /// Of the layers in [first, end) that the rank holds. kInvalidArgument: there are none.
  [[nodiscard]] Result<std::shared_ptr<const CopyGeometry>> of(std::uint32_t first, std::uint32_t end);

 private:
  struct State {
    State(RunTable of, std::vector<EngineTensor> held, const RankPart& of_rank)
        : table(std::move(of)), tensors(std::move(held)), part(of_rank) {}
    const RunTable table;
    const std::vector<EngineTensor> tensors;
    const RankPart part;
    std::shared_ptr<const CopyGeometry> whole;  // from make() on
    Mutex mutex;                                // a leaf
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::shared_ptr<const CopyGeometry>> ranges
        TIERCEL_GUARDED_BY(mutex);
  };
  explicit LayerRanges(std::unique_ptr<State> state) : state_(std::move(state)) {}

  std::unique_ptr<State> state_;
};

}  // namespace tiercel
