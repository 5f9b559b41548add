// Traffic: copies that go on while something else is measured, and the small copies of others beside them.
#pragma once

#include "cuda/cuda_handles.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace tiercel::gpu {

/// Something that moves `bytes` each time it is called, and returns when it has.
struct Traffic {
  std::string name;
  std::uint64_t bytes = 0;
  std::function<void()> once;
};

/// Traffic without end on a thread of its own. The traffic outlives it.
class Beside {
 public:
  /// Returns when the traffic has run once.
  explicit Beside(const Traffic& traffic);
  /// Runs that have ended since the constructor.
  [[nodiscard]] std::uint64_t rounds() const noexcept { return rounds_.load() - first_; }
  /// Bytes a second since the constructor, to the nearest end of a round.
  [[nodiscard]] double stop();

 private:
  void work();

  const Traffic& traffic_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> rounds_{0};
  std::chrono::steady_clock::time_point begin_;
  std::chrono::steady_clock::time_point last_;
  std::uint64_t first_ = 0;
  std::thread thread_;
};

enum class SmallCopies : std::uint8_t { kOut, kIn };

/// Seconds of each of the copies of 4 KiB that are made one after another for so long, 50 us apart.
[[nodiscard]] std::vector<double> small_copies(const CudaStream& stream, std::byte* gpu, std::byte* host,
                                               double seconds, SmallCopies direction);

}  // namespace tiercel::gpu
