#include "io/counting_backend.h"

#include <utility>

namespace tiercel {

CountingBackend::CountingBackend(std::unique_ptr<IoBackend> inner, std::shared_ptr<IoCounts> counts)
    : IoDecorator(std::move(inner)), counts_(std::move(counts)), kinds_(depth()) {}

bool CountingBackend::start(const IoOperation& operation) {
  if (!inner().start(operation)) return false;
  kinds_[operation.id] = operation.kind;
  of(operation.kind).started.fetch_add(1, std::memory_order_relaxed);
  return true;
}

std::size_t CountingBackend::reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) {
  const std::size_t count = inner().reap(reaped, wait_ns);
  for (const IoReaped& entry : reaped.first(count)) {
    IoCounts::Kind& kind = of(kinds_[entry.id]);
    kind.ended.fetch_add(1, std::memory_order_relaxed);
    if (entry.result < 0) {
      kind.failed.fetch_add(1, std::memory_order_relaxed);
    } else {
      kind.bytes.fetch_add(static_cast<std::uint64_t>(entry.result), std::memory_order_relaxed);
    }
  }
  return count;
}

}  // namespace tiercel
