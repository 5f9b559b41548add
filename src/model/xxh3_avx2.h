// xxh3_avx2: XXH3-64 with 32-byte vectors, for processors that have them (__builtin_cpu_supports("avx2")).
//
// The same number as XXH3_64bits_withSeed of the library, which is compiled for the oldest processor that we run on and
// so takes two to three times as long. Pure; any thread. Its file is compiled for AVX2 alone: it must include nothing
// with inline functions that others share, or the linker might choose the copies that old processors cannot run.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tiercel {

[[nodiscard]] std::uint64_t xxh3_avx2(const void* data, std::size_t bytes, std::uint64_t seed) noexcept;

}  // namespace tiercel
