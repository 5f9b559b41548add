#include "base/prefault.h"

#include "base/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

namespace tiercel {

Prefault::Prefault(Options options) : options_(std::move(options)) {
  for (const auto& mapping : options_.mappings) total_ += mapping->bytes();
}

void Prefault::start(Executor& executor) {
  std::size_t chains = 0;
  for (std::size_t i = 0; i < executor.concurrency(); ++i) chains += queue(shared_from_this(), executor) ? 1U : 0U;
  if (chains == 0) {
    log_line(LogLevel::kWarn, "prefault", "pages are not provided ahead of use: no worker's queue has room for it");
  }
}

bool Prefault::queue(const std::shared_ptr<Prefault>& prefault, Executor& executor) noexcept {
  try {
    return executor.submit([prefault, &executor] { run(prefault, executor); });
  } catch (const std::bad_alloc&) {
    return false;
  }
}

Prefault::Piece Prefault::piece(std::uint64_t number) const noexcept {
  for (const auto& mapping : options_.mappings) {
    const std::uint64_t pieces = (mapping->bytes() + options_.piece_bytes - 1) / options_.piece_bytes;
    if (number < pieces) {
      const std::uint64_t offset = number * options_.piece_bytes;
      return {.mapping = mapping.get(),
              .offset = offset,
              .bytes = std::min(options_.piece_bytes, mapping->bytes() - offset)};
    }
    number -= pieces;
  }
  return {};
}

/// One task touches one piece and queues the next. Where the queue has no room (or the task no memory) it goes on in
/// its own place: the chain ends with the mappings.
void Prefault::run(const std::shared_ptr<Prefault>& prefault, Executor& executor) {
  do {
    const Piece piece = prefault->piece(prefault->next_.fetch_add(1, std::memory_order_relaxed));
    if (piece.mapping == nullptr || prefault->stop_.load(std::memory_order_acquire)) return;
    if (const Status status = piece.mapping->populate(piece.offset, piece.bytes); !status) {
      prefault->stop();
      log_line(LogLevel::kWarn, "prefault",
               fmt::format("pages are not provided ahead of use after {} MiB: {}", prefault->bytes() >> 20U,
                           status.error().message));
      return;
    }
    prefault->provided_.fetch_add(piece.bytes, std::memory_order_acq_rel);
  } while (!queue(prefault, executor));
}

}  // namespace tiercel
