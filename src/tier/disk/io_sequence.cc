#include "tier/disk/io_sequence.h"

namespace tiercel::disk {

IoPort::~IoPort() {
  for (const Pending& pending : waiting_) pending->job = {};  // its `done` holds the outcome that holds it
}

Pending IoPort::transfer(IoKind kind, std::uint64_t offset, IoSegment segment, std::shared_ptr<void> owner) {
  IoJob job;
  job.kind = kind;
  job.offset = offset;
  job.segments[0] = segment;
  job.segment_count = 1;
  job.owner = std::move(owner);
  return enqueue(std::move(job));
}

Pending IoPort::sync() {
  IoJob job;
  job.kind = IoKind::kSync;
  return enqueue(std::move(job));
}

Pending IoPort::enqueue(IoJob job) {
  auto pending = std::make_shared<IoOutcome>();
  job.deadline_ns = deadline_after(clock_.now_ns(), patience_ns_);
  job.done = [pending, ended = ended_](const Status& status) {
    if (ended != nullptr && (status || status.error().code != ErrorCode::kTimeout)) ++*ended;
    pending->status = status;
    pending->ended = true;
  };
  pending->job = std::move(job);
  waiting_.push_back(pending);
  submit_waiting();
  return pending;
}

void IoPort::submit_waiting() {
  while (!waiting_.empty()) {
    const Pending& first = waiting_.front();
    if (clock_.now_ns() >= first->job.deadline_ns) {
      first->status =
          fail(ErrorCode::kTimeout, "disk file: an operation found no place in the queue until its deadline");
      first->ended = true;
    } else if (!file_->submit(std::move(first->job))) {
      return;
    }
    first->job = {};
    waiting_.pop_front();
  }
}

std::optional<Standstill> IoPort::take_ready() {
  if (!ready()) return std::nullopt;
  return std::exchange(standstill_, std::nullopt);
}

bool Sequence::step() {
  if (!steps_.begun() || steps_.ended()) return true;
  port_.submit_waiting();
  if (const auto ready = port_.take_ready()) ready->coroutine.resume();
  return steps_.ended();
}

}  // namespace tiercel::disk
