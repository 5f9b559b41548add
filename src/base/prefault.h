// Prefault: provides the pages of mappings in the background, so that no store pays for a first touch under a lock.
//
// A first touch of a 2 MiB page costs from 0.1 ms to several where the kernel has to make room for it. Work goes to an
// executor in pieces, mapping after mapping in address order, shared by its threads; each task queues the next one, so
// that other work gets its turn in between. The chain keeps the mappings alive. Where pages run out or the kernel is
// too old, it ends early with one line in the log: an untouched page is then provided at its first use. Any thread.
#pragma once

#include "base/executor.h"
#include "base/mapping.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace tiercel {

class Prefault : public std::enable_shared_from_this<Prefault> {
 public:
  struct Options {
    std::vector<std::shared_ptr<const Mapping>> mappings;
    std::uint64_t piece_bytes = 64ULL << 20U;
  };
  explicit Prefault(Options options);

  /// Once. Never fails: where no task can be queued, a line in the log says so and nothing is provided. `executor` must
  /// live until the queued tasks have run.
  void start(Executor& executor);

  /// What has been provided so far.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return provided_.load(std::memory_order_acquire); }
  [[nodiscard]] bool done() const noexcept { return bytes() == total_; }
  void stop() noexcept { stop_.store(true, std::memory_order_release); }

 private:
  struct Piece {
    const Mapping* mapping = nullptr;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
  };
  static bool queue(const std::shared_ptr<Prefault>& prefault, Executor& executor) noexcept;
  static void run(const std::shared_ptr<Prefault>& prefault, Executor& executor);
  [[nodiscard]] Piece piece(std::uint64_t number) const noexcept;

  const Options options_;
  std::uint64_t total_ = 0;
  std::atomic<std::uint64_t> next_{0};      // the next piece; relaxed: only uniqueness matters
  std::atomic<std::uint64_t> provided_{0};  // pairs: the toucher (release) with bytes() (acquire)
  std::atomic<bool> stop_{false};           // pairs: stop() (release) with the toucher (acquire)
};

}  // namespace tiercel
