// Arena: the bytes of the host tier (G2), one mapping cut into extents by a SlotTable that lives beside it.
//
// Owns the mapping. Spread evenly over the NUMA nodes by range, so that a rank finds slots near its GPU. Pages are
// provided in the background by `start_prefault`: slots can be used meanwhile, an untouched page is provided at its
// first use. Reading the members is safe from any thread.
#pragma once

#include "base/executor.h"
#include "base/mapping.h"

#include <tiercel/config.h>
#include <tiercel/result.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace tiercel {

class Arena : public std::enable_shared_from_this<Arena> {
 public:
  /// `host.capacity` must be set (the caller has resolved 0) and a multiple of host.extent_bytes.
  [[nodiscard]] static Result<std::shared_ptr<Arena>> create(const HostConfig& host);

  explicit Arena(Mapping mapping) : mapping_(std::move(mapping)) {}

  [[nodiscard]] std::byte* data() const noexcept { return mapping_.data(); }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return mapping_.bytes(); }
  [[nodiscard]] const Mapping& mapping() const noexcept { return mapping_; }

  /// Queues the first touch of every page on `executor`, in pieces of `piece_bytes` in address order, so that several
  /// threads share it. Stops early, with one line in the log, where pages run out or the kernel is too old; a full
  /// queue does not stop it. Afterwards the whole arena is resident.
  void start_prefault(Executor& executor, std::uint64_t piece_bytes);
  /// What start_prefault has provided so far.
  [[nodiscard]] std::uint64_t prefaulted_bytes() const noexcept { return prefaulted_.load(std::memory_order_acquire); }
  void stop_prefault() noexcept { stop_.store(true, std::memory_order_release); }

 private:
  static bool queue_prefault(const std::shared_ptr<Arena>& arena, Executor& executor,
                             std::uint64_t piece_bytes) noexcept;
  static void prefault_pieces(const std::shared_ptr<Arena>& arena, Executor& executor, std::uint64_t piece_bytes);

  Mapping mapping_;
  std::atomic<std::uint64_t> next_{0};        // the next piece to touch; relaxed: only uniqueness matters
  std::atomic<std::uint64_t> prefaulted_{0};  // pairs: the toucher (release) with prefaulted_bytes (acquire)
  std::atomic<bool> stop_{false};             // pairs: stop_prefault (release) with the toucher (acquire)
};

}  // namespace tiercel
