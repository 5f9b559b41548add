#include "io/faulty_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace tiercel {
namespace {

constexpr std::byte kFlippedBit{1};

std::uint64_t total_bytes(std::span<const struct iovec> buffers) {
  std::uint64_t total = 0;
  for (const struct iovec& buffer : buffers) total += buffer.iov_len;
  return total;
}

std::vector<struct iovec> first_bytes(std::span<const struct iovec> buffers, std::uint64_t bytes) {
  std::vector<struct iovec> kept;
  for (const struct iovec& buffer : buffers) {
    if (bytes == 0) break;
    kept.push_back({.iov_base = buffer.iov_base, .iov_len = std::min<std::uint64_t>(buffer.iov_len, bytes)});
    bytes -= kept.back().iov_len;
  }
  return kept;
}

void flip(std::span<const struct iovec> buffers, std::uint64_t at) {
  for (const struct iovec& buffer : buffers) {
    if (at < buffer.iov_len) {
      static_cast<std::byte*>(buffer.iov_base)[at] ^= kFlippedBit;
      return;
    }
    at -= buffer.iov_len;
  }
}

/// Where a page-aligned range of `bytes` can begin in memory that has a page more.
std::byte* page_start(std::byte* memory) {
  constexpr std::uintptr_t kPageMask = 4095;
  const std::uintptr_t past = reinterpret_cast<std::uintptr_t>(memory) & kPageMask;
  return past == 0 ? memory : memory + (kPageMask + 1 - past);
}

}  // namespace

void FaultPlan::add(std::uint64_t number, const IoFault& fault) {
  const MutexLock lock(mutex_);
  by_number_[number] = fault;
}

void FaultPlan::set_for_all(IoKind kind, const std::optional<IoFault>& fault) {
  const MutexLock lock(mutex_);
  by_kind_[static_cast<std::size_t>(kind)] = fault;
}

std::uint64_t FaultPlan::started() const {
  const MutexLock lock(mutex_);
  return started_;
}

std::optional<IoFault> FaultPlan::next(IoKind kind) {
  const MutexLock lock(mutex_);
  const auto found = by_number_.find(started_++);
  return found != by_number_.end() ? found->second : by_kind_[static_cast<std::size_t>(kind)];
}

FaultyBackend::FaultyBackend(std::unique_ptr<IoBackend> inner, std::shared_ptr<FaultPlan> plan)
    : IoDecorator(std::move(inner)), plan_(std::move(plan)), operations_(depth()) {}

bool FaultyBackend::start(const IoOperation& operation) {
  Operation& slot = operations_[operation.id];
  if (!slot.refused) slot.fault = plan_->next(operation.kind);
  slot.kind = operation.kind;
  slot.asked = operation.buffers;
  const bool started = slot.fault ? start_changed(operation, slot) : inner().start(operation);
  slot.refused = !started;
  return started;
}

bool FaultyBackend::start_changed(const IoOperation& operation, Operation& slot) {
  const IoFault& fault = *slot.fault;
  IoOperation changed = operation;
  switch (fault.kind) {
    case IoFault::Kind::kFail:
      answered_.push_back({.id = operation.id, .result = -fault.error});
      return true;
    case IoFault::Kind::kLose:
      answered_.push_back({.id = operation.id, .result = static_cast<std::int64_t>(total_bytes(operation.buffers))});
      return true;
    case IoFault::Kind::kShort:
      slot.passed = first_bytes(operation.buffers, fault.bytes);
      if (slot.passed.empty() && operation.kind != IoKind::kSync) {
        answered_.push_back({.id = operation.id, .result = 0});
        return true;
      }
      changed.buffers = slot.passed;
      break;
    case IoFault::Kind::kCorrupt:
      if (operation.kind != IoKind::kWrite) break;  // a read is changed when it has ended
      slot.copy.resize(total_bytes(operation.buffers) + 4096);
      slot.passed = {{.iov_base = page_start(slot.copy.data()), .iov_len = total_bytes(operation.buffers)}};
      changed.buffers = slot.passed;
      for (std::byte* to = page_start(slot.copy.data()); const struct iovec& buffer : operation.buffers) {
        std::memcpy(to, buffer.iov_base, buffer.iov_len);
        to += buffer.iov_len;
      }
      flip(slot.passed, fault.bytes);
      break;
    case IoFault::Kind::kFailAfter:
      break;
  }
  return inner().start(changed);
}

std::size_t FaultyBackend::reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) {
  std::size_t count = 0;
  for (; count < reaped.size() && !answered_.empty(); ++count) {
    reaped[count] = answered_.front();
    answered_.pop_front();
  }
  const std::size_t own = count;
  count += inner().reap(reaped.subspan(count), count > 0 ? 0 : wait_ns);
  for (IoReaped& entry : reaped.subspan(own, count - own)) {
    entry.result = result_of(operations_[entry.id], entry.result);
  }
  return count;
}

std::int64_t FaultyBackend::result_of(const Operation& operation, std::int64_t result) const {
  if (!operation.fault || result < 0) return result;
  if (operation.fault->kind == IoFault::Kind::kFailAfter) return -operation.fault->error;
  if (operation.fault->kind == IoFault::Kind::kCorrupt && operation.kind == IoKind::kRead &&
      operation.fault->bytes < static_cast<std::uint64_t>(result)) {
    flip(operation.asked, operation.fault->bytes);
  }
  return result;
}

}  // namespace tiercel
