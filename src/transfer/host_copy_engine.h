// HostCopyEngine: the CopyEngine of memory that this process can reach, on the workers of an Executor.
//
// Sketch: a job of B bytes is cut into chunks of at most chunk_bytes; up to concurrency() tasks ("pumps") of the
// executor each take a chunk under the mutex, move it without, and report it under the mutex again: two short critical
// sections (about 100 ns) a chunk of 1 MiB (about 100 us). A pump gives its thread back to the executor's other tasks
// after slice_bytes. Jobs of stream_min_bytes and more are written past the cache.
// Memory: max_jobs jobs. The state outlives the engine until the last job has completed; the executor must outlive
// both.
#pragma once

#include "base/executor.h"
#include "transfer/copy_engine.h"
#include "transfer/stream_copy.h"

#include <cstdint>
#include <memory>

namespace tiercel {

struct HostCopyOptions {
  std::size_t max_jobs = 256;
  std::uint64_t chunk_bytes = 1U << 20U;
  std::uint64_t slice_bytes = 8U << 20U;
  std::uint64_t stream_min_bytes = 1U << 20U;
  StreamKernel kernel = best_stream_kernel();
};

class HostCopyEngine final : public CopyEngine {
 public:
  explicit HostCopyEngine(Executor& executor, const HostCopyOptions& options = {});
  ~HostCopyEngine() override;

  void close() noexcept override;
  [[nodiscard]] std::uint64_t in_flight() const noexcept override;

 private:
  class State;
  [[nodiscard]] bool submit_impl(CopyJob& job) override;

  std::shared_ptr<State> state_;
};

}  // namespace tiercel
