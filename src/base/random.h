// Random: a small seeded generator (SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
// OOPSLA 2014), passed in so that a run repeats from its seed. Not for secrets. One thread at a time.
#pragma once

#include <cstdint>

namespace tiercel {

class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}

  [[nodiscard]] std::uint64_t next() noexcept {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31U);
  }

  /// Uniform in [0, bound); bound > 0. The bias is below 2^-32 for bounds under 2^32.
  [[nodiscard]] std::uint64_t below(std::uint64_t bound) noexcept {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<Wide>(next()) * bound) >> 64U);
  }

 private:
  std::uint64_t state_;
};

}  // namespace tiercel
