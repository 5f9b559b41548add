// FittedTimes: how long something takes as a sum of parts, each a rate times what is known of it, learnt from what was
// measured: least squares with rates of at least 0, over about the last kMemory samples.
//
// Each sample counts by its share of what was expected (a second off in two weighs as much as a millisecond off in
// two), so short ones are fitted as well as long ones and the fit is one of the mean. A single stray is cut to four
// times the expected. Three in a row that took longer by far more than samples usually differ, or two that took less,
// are a step: all that was learnt is taken to have become slower, or faster, by as much as the least of them, and is
// forgotten but for two samples' worth. Deterministic; no clock, no IO, no locks; one thread. An addition costs under a
// microsecond for N up to 3.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace tiercel {

template <std::size_t N>
class FittedTimes {
 public:
  using Parts = std::array<double, N>;  ///< what is known of one: each at least 0
  static constexpr double kMemory = 64;

  /// `main`: the part that all is laid to while the samples tell no parts apart.
  explicit FittedTimes(std::size_t main) noexcept : main_(main) {}

  /// It took so long. Not above 0, or without a part above 0: ignored.
  void add(const Parts& parts, double ns) noexcept {
    if (!(ns > 0) || !std::isfinite(ns) || !(parts[main_] > 0)) return;
    const double expected = samples_ == 0 ? 0 : predict_ns(parts);
    if (expected > 0) ns = note_step(std::log(ns / expected)) ? ns : std::min(ns, kStray * expected);
    const double scale = expected > 0 ? expected : ns;
    for (std::size_t i = 0; i < N; ++i) {
      for (std::size_t j = 0; j < N; ++j) {
        products_[i][j] = products_[i][j] * kDecay + parts[i] * parts[j] / (scale * scale);
      }
      sums_[i] = sums_[i] * kDecay + parts[i] * ns / (scale * scale);
    }
    weight_ = weight_ * kDecay + 1;
    ++samples_;
    solve();
  }

  [[nodiscard]] std::uint64_t samples() const noexcept { return samples_; }
  /// How many samples what was learnt stands on: kMemory at most, and two after a step.
  [[nodiscard]] double weight() const noexcept { return weight_; }
  /// Nanoseconds on average; 0 before the first sample.
  [[nodiscard]] double predict_ns(const Parts& parts) const noexcept {
    double ns = 0;
    for (std::size_t i = 0; i < N; ++i) ns += rates_[i] * parts[i];
    return ns;
  }
  /// Nanoseconds for one of each part.
  [[nodiscard]] const Parts& rates() const noexcept { return rates_; }

 private:
  static constexpr double kDecay = 1 - 1 / kMemory;
  static constexpr double kStray = 4;
  static constexpr double kLeastStep = 0.35;   // logarithms: 1.4 times
  static constexpr double kLargestStep = 1.4;  // 4 times is a step however much samples vary
  static constexpr int kSlower = 3;            // strays in a row: some take long by chance, none is fast by chance
  static constexpr int kFaster = 2;
  static constexpr double kRidge = 1e-3;  // what a part must explain to be told apart

  /// True: with this one it is a step, and all was brought to it.
  bool note_step(double off) noexcept {
    const double most = std::clamp(2.5 * spread_, kLeastStep, kLargestStep);
    if (std::abs(off) <= most) {
      spread_ += (std::abs(off) - spread_) / 16;
      strays_ = 0;
      return false;
    }
    const bool same_side = strays_ > 0 && (off > 0) == (stray_off_ > 0);
    stray_off_ = same_side ? (off > 0 ? std::min(off, stray_off_) : std::max(off, stray_off_)) : off;
    strays_ = same_side ? strays_ + 1 : 1;
    if (strays_ < (off > 0 ? kSlower : kFaster)) {
      spread_ += (std::min(std::abs(off), kLargestStep) - spread_) / 32;
      return false;
    }
    const double factor = std::exp(stray_off_);
    const double kept = std::min(1.0, 2 / weight_);
    // The strays before this one are among the samples already; two samples' worth of all is not much of them.
    for (std::size_t i = 0; i < N; ++i) {
      for (std::size_t j = 0; j < N; ++j) products_[i][j] *= kept / (factor * factor);
      sums_[i] *= kept / factor;
    }
    weight_ *= kept;
    strays_ = 0;
    return true;
  }

  /// The best rates of at least 0: the best of all choices of parts that may be above 0, for N is 3 at most.
  void solve() noexcept {
    static_assert(N >= 1 && N <= 3);
    double best = 0;
    Parts found{};
    for (unsigned chosen = 1; chosen < (1U << N); ++chosen) {
      Parts rates{};
      if (!solve(chosen, rates)) continue;
      double gain = 0;  // by how much the squares are fewer than with all rates 0
      for (std::size_t i = 0; i < N; ++i) gain += rates[i] * sums_[i];
      if (gain > best) {
        best = gain;
        found = rates;
      }
    }
    if (best > 0) rates_ = found;
  }

  /// With the parts of `chosen` alone. False: one would be below 0.
  bool solve(unsigned chosen, Parts& rates) const noexcept {
    std::array<std::array<double, N + 1>, N> rows{};
    for (std::size_t i = 0; i < N; ++i) {
      if (((chosen >> i) & 1U) == 0) {
        rows[i][i] = 1;
        continue;
      }
      for (std::size_t j = 0; j < N; ++j) {
        if (((chosen >> j) & 1U) != 0) rows[i][j] = products_[i][j];
      }
      rows[i][i] *= i == main_ ? 1 : 1 + kRidge;
      if (!(rows[i][i] > 0)) return false;
      rows[i][N] = sums_[i];
    }
    for (std::size_t k = 0; k < N; ++k) {  // positive definite, thanks to the ridge: no pivots needed
      if (!(rows[k][k] > 0)) return false;
      for (std::size_t i = k + 1; i < N; ++i) {
        const double times = rows[i][k] / rows[k][k];
        for (std::size_t j = k; j <= N; ++j) rows[i][j] -= times * rows[k][j];
      }
    }
    for (std::size_t k = N; k-- > 0;) {
      double value = rows[k][N];
      for (std::size_t j = k + 1; j < N; ++j) value -= rows[k][j] * rates[j];
      rates[k] = value / rows[k][k];
      if (rates[k] < 0 || !std::isfinite(rates[k])) return false;
    }
    return true;
  }

  std::size_t main_;
  std::array<Parts, N> products_{};
  Parts sums_{};
  Parts rates_{};
  double weight_ = 0;
  std::uint64_t samples_ = 0;
  double spread_ = 0.1;  // of the logarithms of taken / expected, as a mean distance
  int strays_ = 0;
  double stray_off_ = 0;
};

}  // namespace tiercel
