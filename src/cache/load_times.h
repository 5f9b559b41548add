// LoadTimes: how long loads have taken lately, what came from RAM apart from what came from disk. Safe from any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tiercel::detail {

class LoadTimes {
 public:
  /// So many blocks were there after `ns`, and nothing was read for them.
  void add_host(std::uint64_t ns, std::size_t blocks) noexcept { add(host_ns_per_block_, ns, blocks); }
  /// So many blocks were read, or were not there yet when the load was given up after `ns`. Reading is what took the
  /// time, whatever was in RAM besides.
  void add_disk(std::uint64_t ns, std::size_t blocks) noexcept { add(disk_ns_per_block_, ns, blocks); }

  /// Nanoseconds; 0: nothing like it was measured yet.
  [[nodiscard]] std::uint64_t predict_ns(std::size_t host_blocks, std::size_t disk_blocks) const noexcept {
    const std::uint64_t host_ns = host_ns_per_block_.load(std::memory_order_relaxed);
    const std::uint64_t disk_ns = disk_ns_per_block_.load(std::memory_order_relaxed);
    if (disk_blocks > 0 && disk_ns == 0) return 0;
    return host_ns * host_blocks + disk_ns * disk_blocks;
  }

 private:
  static void add(std::atomic<std::uint64_t>& mean, std::uint64_t ns, std::size_t blocks) noexcept {
    if (blocks == 0) return;
    const std::uint64_t now = std::max<std::uint64_t>(1, ns / blocks);
    const std::uint64_t before = mean.load(std::memory_order_relaxed);
    mean.store(before == 0 ? now : (7 * before + now) / 8, std::memory_order_relaxed);
  }

  std::atomic<std::uint64_t> host_ns_per_block_{0};  // relaxed: statistics
  std::atomic<std::uint64_t> disk_ns_per_block_{0};
};

}  // namespace tiercel::detail
