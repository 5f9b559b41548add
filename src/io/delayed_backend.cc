#include "io/delayed_backend.h"

#include <algorithm>
#include <utility>

namespace tiercel {

void DelayGate::hold(IoKind kind) {
  const MutexLock lock(mutex_);
  holding_[static_cast<std::size_t>(kind)] = true;
}

void DelayGate::hold_all() {
  const MutexLock lock(mutex_);
  holding_.fill(true);
}

void DelayGate::delay(IoKind kind, std::uint64_t delay_ns) {
  const MutexLock lock(mutex_);
  delay_ns_[static_cast<std::size_t>(kind)] = delay_ns;
}

void DelayGate::limit(IoKind kind, std::uint64_t bytes_per_second) {
  const MutexLock lock(mutex_);
  bytes_per_second_[static_cast<std::size_t>(kind)] = bytes_per_second;
  busy_until_ns_[static_cast<std::size_t>(kind)] = 0;
}

void DelayGate::release(std::size_t count) {
  const MutexLock lock(mutex_);
  tickets_ += count;
  wake_all();
}

void DelayGate::release_all() {
  const MutexLock lock(mutex_);
  holding_.fill(false);
  tickets_ = 0;
  wake_all();
}

std::size_t DelayGate::held() const {
  const MutexLock lock(mutex_);
  return held_;
}

DelayGate::Decision DelayGate::enter(IoKind kind, std::uint64_t bytes) {
  const auto index = static_cast<std::size_t>(kind);
  const MutexLock lock(mutex_);
  ++held_;
  Decision decision{.held = holding_[index]};
  if (delay_ns_[index] == 0 && bytes_per_second_[index] == 0) return decision;
  std::uint64_t from_ns = clock_.now_ns();
  if (bytes_per_second_[index] > 0) {
    const double takes_ns = static_cast<double>(bytes) * 1e9 / static_cast<double>(bytes_per_second_[index]);
    from_ns = std::max(from_ns, busy_until_ns_[index]) + static_cast<std::uint64_t>(takes_ns);
    busy_until_ns_[index] = from_ns;
  }
  decision.due_ns = deadline_after(from_ns, delay_ns_[index]);
  return decision;
}

bool DelayGate::may_go(IoKind kind, const Decision& decision) {
  const MutexLock lock(mutex_);
  if (decision.due_ns > 0 && clock_.now_ns() < decision.due_ns) return false;
  if (!decision.held || !holding_[static_cast<std::size_t>(kind)]) return true;
  if (tickets_ == 0) return false;
  --tickets_;
  return true;
}

void DelayGate::went() {
  const MutexLock lock(mutex_);
  --held_;
}

void DelayGate::add(DelayedBackend* backend) {
  const MutexLock lock(mutex_);
  backends_.insert(backend);
}

void DelayGate::remove(DelayedBackend* backend) {
  const MutexLock lock(mutex_);
  backends_.erase(backend);
}

void DelayGate::wake_all() {
  for (DelayedBackend* backend : backends_) backend->wake();
}

DelayedBackend::DelayedBackend(std::unique_ptr<IoBackend> inner, std::shared_ptr<DelayGate> gate)
    : IoDecorator(std::move(inner)), gate_(std::move(gate)) {
  gate_->add(this);
}

DelayedBackend::~DelayedBackend() { gate_->remove(this); }

bool DelayedBackend::start(const IoOperation& operation) {
  std::uint64_t bytes = 0;
  for (const struct iovec& buffer : operation.buffers) bytes += buffer.iov_len;
  held_.push_back({.operation = operation, .decision = gate_->enter(operation.kind, bytes)});
  start_what_may_go();
  return true;
}

void DelayedBackend::start_what_may_go() {
  for (auto entry = held_.begin(); entry != held_.end();) {
    if (!gate_->may_go(entry->operation.kind, entry->decision)) {
      ++entry;
      continue;
    }
    if (!inner().start(entry->operation)) {
      entry->decision = {};  // free to go, as soon as there is room
      return;
    }
    gate_->went();
    entry = held_.erase(entry);
  }
}

std::uint64_t DelayedBackend::until_next_due() const {
  const std::uint64_t now_ns = gate_->clock_.now_ns();
  std::uint64_t next_ns = UINT64_MAX;
  for (const Held& held : held_) {
    const std::uint64_t due_ns = held.decision.due_ns;
    if (due_ns > now_ns) next_ns = std::min(next_ns, due_ns - now_ns);
  }
  return next_ns;
}

std::size_t DelayedBackend::reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) {
  start_what_may_go();
  return inner().reap(reaped, std::min(wait_ns, until_next_due()));
}

}  // namespace tiercel
