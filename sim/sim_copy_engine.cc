#include "sim/sim_copy_engine.h"

#include "base/check.h"

#include <cstring>
#include <utility>
#include <variant>

namespace tiercel::sim {

SimCopyEngine::~SimCopyEngine() {
  close();
  while (!jobs_.empty()) (void)run();
}

bool SimCopyEngine::submit_impl(CopyJob& job) {
  TIERCEL_CHECK(std::holds_alternative<ByteCopy>(job.work), "a simulated copy is a plain range");
  if (closed_ || jobs_.size() == max_jobs_) return false;
  jobs_.push_back({.copy = std::get<ByteCopy>(job.work), .done = std::move(job.done)});
  return true;
}

bool SimCopyEngine::run() {
  const std::size_t which = random_.below(jobs_.size());
  Moving& moving = jobs_[which];
  const ByteCopy copy = moving.copy;
  const std::uint64_t end = moving.moved == 0 && copy.bytes > 1 ? copy.bytes / 2 : copy.bytes;
  std::memcpy(copy.to + moving.moved, copy.from + moving.moved, end - moving.moved);
  moving.moved = end;
  trace_.event("copy: job {} of {} at byte {} of {}", {which, jobs_.size(), end, copy.bytes});
  if (end < copy.bytes) return true;
  const CopyDone done = std::move(moving.done);
  jobs_.erase(jobs_.begin() + static_cast<std::ptrdiff_t>(which));
  ++completing_;
  if (done) done({});
  --completing_;
  return true;
}

}  // namespace tiercel::sim
