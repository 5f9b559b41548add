// ReplyPace: how long a reader looks for a reply before it sleeps. A call takes a few ten microseconds, and a sleep and
// a wake are a good part of them, so a thread that waits for a reply that comes as soon as the ones before it looks
// again and again for a while; where replies take long (a load that waits for a disk, a service that hangs), or where
// there are few processors to look with, it sleeps at once.
//
// Learns from the waits that it is told of. One thread at a time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tiercel::service {

class ReplyPace {
 public:
  static constexpr std::uint64_t kMostSpin_ns = 60'000;
  static constexpr unsigned kFewestProcessors = 4;

  /// `processors`: that this process may use.
  explicit ReplyPace(unsigned processors) noexcept : enabled_(processors >= kFewestProcessors) {}

  /// How long to look before sleeping; 0: not at all.
  [[nodiscard]] std::uint64_t spin_ns() const noexcept {
    if (!enabled_ || mean_ns_ >= kMostSpin_ns) return 0;
    return std::min(2 * mean_ns_, kMostSpin_ns);
  }
  /// A wait has ended after so long, with a reply or without.
  void waited(std::uint64_t ns) noexcept {
    const std::uint64_t bounded = std::min(ns, 4 * kMostSpin_ns);  // one long wait must not hide many short ones
    mean_ns_ = mean_ns_ - mean_ns_ / 8 + bounded / 8;
  }

 private:
  bool enabled_;
  std::uint64_t mean_ns_ = kMostSpin_ns;
};

}  // namespace tiercel::service
