// WorkBudget: how much a slice of policy work may do, in units of about 50 ns, counted and not timed, so that the same
// calls do the same. Work is spent after it is done: a slice ends at most one step beyond its budget. One thread.
#pragma once

#include <cstdint>

namespace tiercel {

class WorkBudget {
 public:
  explicit WorkBudget(std::uint64_t units) noexcept : units_(units) {}

  [[nodiscard]] bool any_left() const noexcept { return spent_ < units_; }
  void spend(std::uint64_t units) noexcept { spent_ += units; }
  [[nodiscard]] std::uint64_t spent() const noexcept { return spent_; }

  static constexpr std::uint64_t kUnlimited = UINT64_MAX;
  /// The largest step of any policy here.
  static constexpr std::uint64_t kLargestStep = 80;

 private:
  std::uint64_t units_;
  std::uint64_t spent_ = 0;
};

}  // namespace tiercel
