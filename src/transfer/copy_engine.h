// CopyEngine: moves bytes between an engine's memory and the arena, without making the caller wait.
//
// submit() takes a job or says no at once (false: the queue is full or the engine is closed; the job is untouched and
// its completion is never called). A job that was taken completes exactly once, also when the engine is destroyed
// right after: its completion runs on the executor, with no lock held, and never inside submit(). Loads go before
// stores, stores keep a floor; within a direction jobs start in order. Safe from any thread, completions included.
#pragma once

#include "transfer/copy_plan.h"

#include <cstdint>

namespace tiercel {

class CopyEngine {
 public:
  virtual ~CopyEngine() = default;

  [[nodiscard]] bool submit(CopyJob&& job) { return submit_impl(job); }
  /// Refuses later jobs. What was taken completes. Idempotent.
  virtual void close() noexcept = 0;
  /// Jobs taken whose completion has not returned yet.
  [[nodiscard]] virtual std::uint64_t in_flight() const noexcept = 0;

 private:
  /// Moves from `job` only if it answers true.
  [[nodiscard]] virtual bool submit_impl(CopyJob& job) = 0;
};

}  // namespace tiercel
