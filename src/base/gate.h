// Gate: counts what is in flight and proves that nothing is at destruction.
//
// enter() answers an empty Pass once close() was called. Safe from any thread. The destructor aborts while a Pass
// lives.
#pragma once

#include "base/check.h"

#include <atomic>
#include <cstdint>
#include <utility>

namespace tiercel {

class Gate {
 public:
  /// One thing in flight; move-only.
  class Pass {
   public:
    Pass() = default;
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&& other) noexcept {
      if (this != &other) {
        leave();
        gate_ = std::exchange(other.gate_, nullptr);
      }
      return *this;
    }
    ~Pass() { leave(); }
    [[nodiscard]] explicit operator bool() const noexcept { return gate_ != nullptr; }

   private:
    friend class Gate;
    explicit Pass(Gate* gate) noexcept : gate_(gate) {}
    void leave() noexcept {
      if (gate_ != nullptr) std::exchange(gate_, nullptr)->state_.fetch_sub(1, std::memory_order_acq_rel);
    }
    Gate* gate_ = nullptr;
  };

  Gate() = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate() { TIERCEL_CHECK(in_flight() == 0, "gate destroyed with work in flight"); }

  [[nodiscard]] Pass enter() noexcept {
    std::uint64_t seen = state_.load(std::memory_order_acquire);
    while ((seen & kClosed) == 0) {
      if (state_.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return Pass(this);
    }
    return {};
  }
  void close() noexcept { state_.fetch_or(kClosed, std::memory_order_acq_rel); }
  [[nodiscard]] bool closed() const noexcept { return (state_.load(std::memory_order_acquire) & kClosed) != 0; }
  [[nodiscard]] std::uint64_t in_flight() const noexcept { return state_.load(std::memory_order_acquire) & ~kClosed; }

 private:
  static constexpr std::uint64_t kClosed = std::uint64_t{1} << 63U;
  std::atomic<std::uint64_t> state_{0};  // closed bit and count; enter/leave/close pair with each other (acq_rel)
};

}  // namespace tiercel
