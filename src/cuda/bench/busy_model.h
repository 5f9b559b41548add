// BusyModel: a GPU at work as a model keeps it, as replays of a CUDA graph, and what copies beside it cost it.
//
// decode: 36 layers of the four matrix products of an 8B model for 32 tokens: bound by the memory's bandwidth.
// prefill: 50 products of 4096^3: bound by arithmetic. Both in bf16 by cuBLAS, which is loaded at run time; where it is
// not found there is no busy model. One thread.
#pragma once

#include "cuda/cuda_handles.h"

#include <tiercel/result.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace tiercel::gpu {

enum class ModelKind : std::uint8_t { kDecode, kPrefill };

/// Times of replays on the GPU, and how many began in a second of wall time.
struct ReplayTimes {
  std::vector<float> milliseconds;
  double per_second = 0;

  [[nodiscard]] double percentile(double share) const;
};

class BusyModel {
 public:
  [[nodiscard]] static Result<std::unique_ptr<BusyModel>> make(ModelKind kind);
  virtual ~BusyModel() = default;

  /// Replays one after another for so long, two queued at a time as an engine does it.
  [[nodiscard]] virtual Result<ReplayTimes> replay(double seconds) = 0;
};

}  // namespace tiercel::gpu
