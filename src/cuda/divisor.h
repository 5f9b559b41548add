// Divisor: division of 31-bit numbers by a number that is fixed for many of them, as one multiplication.
//
// Granlund and Montgomery, "Division by invariant integers using multiplication" (PLDI 1994), figure 4.1 for N = 32,
// with dividends below 2^31 so that the sum cannot wrap. The same code runs on the CPU and in kernels. A value.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define TIERCEL_ON_GPU __host__ __device__ __forceinline__
#else
#define TIERCEL_ON_GPU inline
#endif

namespace tiercel::gpu {

inline constexpr std::uint64_t kMaxDividend = (std::uint64_t{1} << 31U) - 1;

struct Divisor {
  std::uint32_t value = 1;
  std::uint32_t magic = 1;
  std::uint32_t shift = 0;

  /// `value`: 1 to kMaxDividend.
  [[nodiscard]] static constexpr Divisor of(std::uint32_t value) noexcept {
    std::uint32_t shift = 0;
    while ((std::uint64_t{1} << shift) < value) ++shift;
    const std::uint64_t magic = (((std::uint64_t{1} << shift) - value) << 32U) / value + 1;
    return {value, static_cast<std::uint32_t>(magic), shift};
  }
  /// `n`: at most kMaxDividend.
  [[nodiscard]] TIERCEL_ON_GPU std::uint32_t divide(std::uint32_t n) const noexcept {
#if defined(__CUDA_ARCH__)
    return (__umulhi(n, magic) + n) >> shift;
#else
    return (static_cast<std::uint32_t>((std::uint64_t{n} * magic) >> 32U) + n) >> shift;
#endif
  }
};

}  // namespace tiercel::gpu
