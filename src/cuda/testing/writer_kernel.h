// A kernel that works for a while and then writes known words: what an engine's compute does to its pages.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace tiercel::gpu {

/// After about `delay_cycles` of one thread, fills `words` 4-byte words with hash(seed, index).
[[nodiscard]] cudaError_t launch_writer(std::uint32_t* to, std::uint64_t words, std::uint32_t seed,
                                        std::uint64_t delay_cycles, cudaStream_t stream) noexcept;
/// Counts in `wrong` the words that are not what launch_writer() with this seed left.
[[nodiscard]] cudaError_t launch_checker(const std::uint32_t* words_at, std::uint64_t words, std::uint32_t seed,
                                         unsigned long long* wrong, cudaStream_t stream) noexcept;

/// The word at `index` for `seed`.
[[nodiscard]]
#if defined(__CUDACC__)
__host__ __device__
#endif
    inline std::uint32_t written_word(std::uint32_t seed, std::uint64_t index) noexcept {
  std::uint64_t x = index * 0x9E3779B97F4A7C15U + seed * 0xD1B54A32D192ED03U;
  x ^= x >> 32U;
  x *= 0xD6E8FEB86659FD93U;
  return static_cast<std::uint32_t>(x >> 32U);
}

}  // namespace tiercel::gpu
