// LoadTimes: how long loads have taken lately, what came from RAM apart from what came from disk. Safe from any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tiercel::detail {

class LoadTimes {
 public:
  /// A load of so many blocks took `ns`. What came from disk is what took the time, where anything did.
  void add(std::uint64_t ns, std::size_t host_blocks, std::size_t disk_blocks) noexcept {
    if (host_blocks + disk_blocks == 0) return;
    std::atomic<std::uint64_t>& mean = disk_blocks > 0 ? disk_ns_per_block_ : host_ns_per_block_;
    const std::uint64_t now = std::max<std::uint64_t>(1, ns / (disk_blocks > 0 ? disk_blocks : host_blocks));
    const std::uint64_t before = mean.load(std::memory_order_relaxed);
    mean.store(before == 0 ? now : (7 * before + now) / 8, std::memory_order_relaxed);
  }

  /// Nanoseconds; 0: nothing like it was measured yet.
  [[nodiscard]] std::uint64_t predict_ns(std::size_t host_blocks, std::size_t disk_blocks) const noexcept {
    const std::uint64_t host_ns = host_ns_per_block_.load(std::memory_order_relaxed);
    const std::uint64_t disk_ns = disk_ns_per_block_.load(std::memory_order_relaxed);
    if (disk_blocks > 0 && disk_ns == 0) return 0;
    return host_ns * host_blocks + disk_ns * disk_blocks;
  }

 private:
  std::atomic<std::uint64_t> host_ns_per_block_{0};  // relaxed: statistics
  std::atomic<std::uint64_t> disk_ns_per_block_{0};
};

}  // namespace tiercel::detail
