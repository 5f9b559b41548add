// PrefillModel: how long an engine computes the KV of a prompt, learnt from what the engine reports. The time of n
// tokens behind c others is a + b n + d n (c + n / 2): what a step costs, the layers, and attention over all that came
// before.
//
// Deterministic; no clock, no IO, no locks; one thread. One object an engine and model.
#pragma once

#include "policy/fitted_times.h"

#include <cstdint>

namespace tiercel {

/// `tokens` of a prompt, behind `context` others whose KV is there.
struct PrefillSpan {
  std::uint64_t context = 0;
  std::uint64_t tokens = 0;
};

class PrefillModel {
 public:
  void add(const PrefillSpan& span, std::uint64_t ns) noexcept { times_.add(parts(span), static_cast<double>(ns)); }

  /// Nothing was reported yet.
  [[nodiscard]] bool is_empty() const noexcept { return times_.samples() == 0; }
  [[nodiscard]] std::uint64_t samples() const noexcept { return times_.samples(); }
  /// Nanoseconds on average; 0 for no tokens, and while nothing was reported.
  [[nodiscard]] double predict_ns(const PrefillSpan& span) const noexcept {
    return span.tokens == 0 ? 0 : times_.predict_ns(parts(span));
  }

 private:
  using Times = FittedTimes<3>;
  static Times::Parts parts(const PrefillSpan& span) noexcept {
    const auto n = static_cast<double>(span.tokens);
    return {n > 0 ? 1.0 : 0.0, n, n * (static_cast<double>(span.context) + n / 2)};
  }
  Times times_{1};
};

}  // namespace tiercel
