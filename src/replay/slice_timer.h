// SliceTimer: how long the slices of a policy's work take, by the processor time of the calling thread, less what
// reading that clock takes. One thread.
#pragma once

#include "base/function_ref.h"

#include <array>
#include <cstdint>

namespace tiercel {

struct SliceTimes {
  std::uint64_t slices = 0;
  std::uint64_t longest_ns = 0;
  std::uint64_t p9999_ns = 0;  ///< at most so long were all but one in ten thousand; to an eighth of an octave
  std::uint64_t over_50_us = 0;
};

class SliceTimer {
 public:
  SliceTimer();
  void run(FunctionRef<void()> slice);
  [[nodiscard]] SliceTimes times() const;

 private:
  static constexpr std::size_t kSteps = 8;  // an octave
  std::uint64_t clock_ns_ = 0;              // of reading the clock
  SliceTimes times_;
  std::array<std::uint64_t, 64 * kSteps> by_length_{};
};

/// Processor time of the calling thread.
[[nodiscard]] std::uint64_t thread_cpu_ns();

}  // namespace tiercel
