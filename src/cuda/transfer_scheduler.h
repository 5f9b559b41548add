// TransferScheduler: when the next chunk of DMA may be queued (DESIGN, rule 5). A plain object: time is an argument.
//
// Stream priorities do not order copy engines, so at most `depth` chunks a direction are queued at any time: a load
// that comes, and a foreign copy, wait for those alone. Stores keep to their pace; while loads wait or move they keep
// to the floor instead, a share of the link by time, so that a load that is stuck cannot starve them. One thread at a
// time.
#pragma once

#include "transfer/copy_plan.h"

#include <array>
#include <cstdint>

namespace tiercel::gpu {

struct TransferLimits {
  std::uint32_t depth = 2;
  std::uint64_t store_bytes_per_second = 0;  ///< 0: no pace
  std::uint64_t link_bytes_per_second = 0;
  std::uint32_t store_floor_percent = 10;  ///< 100 and more: loads do not hold stores back
};

class TransferScheduler {
 public:
  explicit TransferScheduler(const TransferLimits& limits) : limits_(limits) {}

  /// Whether loads wait or move.
  void set_loads_active(bool active) noexcept { loads_active_ = active; }
  [[nodiscard]] bool may_start(CopyDirection direction, std::uint64_t now_ns) const noexcept;
  void started(CopyDirection direction, std::uint64_t bytes, std::uint64_t now_ns) noexcept;
  void ended(CopyDirection direction) noexcept;
  [[nodiscard]] std::uint32_t queued(CopyDirection direction) const noexcept { return queued_[index(direction)]; }
  /// When the pace lets the next store start; in the past if it would now.
  [[nodiscard]] std::uint64_t next_store_ns() const noexcept { return next_store_ns_; }

 private:
  static std::size_t index(CopyDirection direction) noexcept { return static_cast<std::size_t>(direction); }
  /// 0: no limit.
  [[nodiscard]] std::uint64_t store_rate() const noexcept;

  const TransferLimits limits_;
  std::array<std::uint32_t, 2> queued_{};
  std::uint64_t next_store_ns_ = 0;
  bool loads_active_ = false;
};

}  // namespace tiercel::gpu
