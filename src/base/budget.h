// Budget: a bound on something in flight (bytes, pins, requests), given out as RAII units. Safe from any thread; never
// waits: an empty Units is the back-pressure. A Budget must outlive its units (checked).
#pragma once

#include "base/check.h"

#include <atomic>
#include <cstdint>
#include <utility>

namespace tiercel {

class Budget {
 public:
  class Units {
   public:
    Units() = default;
    Units(Units&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), amount_(std::exchange(other.amount_, 0)) {}
    Units& operator=(Units&& other) noexcept {
      if (this != &other) {
        give_back();
        budget_ = std::exchange(other.budget_, nullptr);
        amount_ = std::exchange(other.amount_, 0);
      }
      return *this;
    }
    ~Units() { give_back(); }
    [[nodiscard]] explicit operator bool() const noexcept { return budget_ != nullptr; }
    [[nodiscard]] std::uint64_t amount() const noexcept { return amount_; }

   private:
    friend class Budget;
    Units(Budget* budget, std::uint64_t amount) noexcept : budget_(budget), amount_(amount) {}
    void give_back() noexcept {
      if (budget_ != nullptr) std::exchange(budget_, nullptr)->used_.fetch_sub(amount_, std::memory_order_acq_rel);
    }
    Budget* budget_ = nullptr;
    std::uint64_t amount_ = 0;
  };

  explicit Budget(std::uint64_t limit) noexcept : limit_(limit) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;
  ~Budget() { TIERCEL_CHECK(used() == 0, "budget destroyed with units out"); }

  /// `amount` units, or an empty Units if they would exceed the limit.
  [[nodiscard]] Units take(std::uint64_t amount) noexcept {
    std::uint64_t seen = used_.load(std::memory_order_acquire);
    do {
      if (amount > limit_ || seen > limit_ - amount) return {};
    } while (!used_.compare_exchange_weak(seen, seen + amount, std::memory_order_acq_rel));
    return {this, amount};
  }
  [[nodiscard]] std::uint64_t used() const noexcept { return used_.load(std::memory_order_acquire); }
  [[nodiscard]] std::uint64_t limit() const noexcept { return limit_; }

 private:
  const std::uint64_t limit_;
  std::atomic<std::uint64_t> used_{0};  // take and give_back pair with each other (acq_rel)
};

}  // namespace tiercel
