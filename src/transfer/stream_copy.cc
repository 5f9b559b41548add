#include "transfer/stream_copy.h"

#include <algorithm>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#define TIERCEL_X86 1
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TIERCEL_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TIERCEL_SANITIZED 1
#endif
#endif

namespace tiercel {
namespace {

constexpr std::uint64_t kLine = 64;
constexpr std::uint64_t kLead = 4096;

/// Where row (o, i) begins. Each kernel spells its loops out: a lambda would not take over the kernel's target.
[[gnu::always_inline]] inline std::byte* to_row(const Move& move, std::uint64_t o, std::uint64_t i) {
  return move.to + o * move.outer.to_stride_bytes + i * move.inner.to_stride_bytes;
}
[[gnu::always_inline]] inline const std::byte* from_row(const Move& move, std::uint64_t o, std::uint64_t i) {
  return move.from + o * move.outer.from_stride_bytes + i * move.inner.from_stride_bytes;
}

#ifdef TIERCEL_X86

[[gnu::always_inline]] inline const std::byte* next_row(const Move& move, std::uint64_t o, std::uint64_t i,
                                                        const std::byte* after) {
  if (i + 1 < move.inner.count) return from_row(move, o, i + 1);
  return o + 1 < move.outer.count ? from_row(move, o + 1, 0) : after;
}

/// Bytes before the next line of the target: written by memcpy, as a line written in part gains nothing.
[[gnu::always_inline]] inline std::uint64_t head_bytes(const std::byte* to, std::uint64_t bytes) {
  return std::min(bytes, (kLine - std::bit_cast<std::uintptr_t>(to) % kLine) % kLine);
}

[[gnu::target("avx2"), gnu::always_inline]] inline void two_lines_avx2(std::byte* to, const std::byte* from) {
  const auto* in = reinterpret_cast<const __m256i*>(from);
  auto* out = reinterpret_cast<__m256i*>(to);
  const __m256i a = _mm256_loadu_si256(in);
  const __m256i b = _mm256_loadu_si256(in + 1);
  const __m256i c = _mm256_loadu_si256(in + 2);
  const __m256i d = _mm256_loadu_si256(in + 3);
  _mm256_stream_si256(out, a);
  _mm256_stream_si256(out + 1, b);
  _mm256_stream_si256(out + 2, c);
  _mm256_stream_si256(out + 3, d);
}

[[gnu::target("avx512f"), gnu::always_inline]] inline void two_lines_avx512(std::byte* to, const std::byte* from) {
  const __m512i a = _mm512_loadu_si512(from);
  const __m512i b = _mm512_loadu_si512(from + kLine);
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), a);
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to + kLine), b);
}

/// One row, and while its last kLead bytes move, prefetches of the row that comes next: where reading jumps, the
/// hardware prefetcher stops. Where it does not jump, prefetches only cost. The kernels are one text for two
/// instruction sets; a template could not take over the target.
#define TIERCEL_STREAM_KERNEL(name, isa)                                                                        \
  [[gnu::target(isa), gnu::always_inline]] inline void row_##name(std::byte* to, const std::byte* from,         \
                                                                  std::uint64_t left, const std::byte* ahead) { \
    const std::uint64_t lead = ahead == from + left ? 0 : kLead;                                                \
    if (const std::uint64_t head = head_bytes(to, left); head != 0) {                                           \
      std::memcpy(to, from, head);                                                                              \
      to += head;                                                                                               \
      from += head;                                                                                             \
      left -= head;                                                                                             \
    }                                                                                                           \
    for (; left >= lead + 2 * kLine; left -= 2 * kLine, to += 2 * kLine, from += 2 * kLine) {                   \
      two_lines_##name(to, from);                                                                               \
    }                                                                                                           \
    for (; left >= 2 * kLine; left -= 2 * kLine, to += 2 * kLine, from += 2 * kLine, ahead += 2 * kLine) {      \
      __builtin_prefetch(ahead, 0, 3);                                                                          \
      __builtin_prefetch(ahead + kLine, 0, 3);                                                                  \
      two_lines_##name(to, from);                                                                               \
    }                                                                                                           \
    if (left != 0) std::memcpy(to, from, left);                                                                 \
  }                                                                                                             \
  [[gnu::target(isa)]] void move_##name(const Move& move, const std::byte* after) noexcept {                    \
    for (std::uint64_t o = 0; o < move.outer.count; ++o) {                                                      \
      for (std::uint64_t i = 0; i < move.inner.count; ++i) {                                                    \
        row_##name(to_row(move, o, i), from_row(move, o, i), move.row_bytes, next_row(move, o, i, after));      \
      }                                                                                                         \
    }                                                                                                           \
  }
TIERCEL_STREAM_KERNEL(avx2, "avx2")
TIERCEL_STREAM_KERNEL(avx512, "avx512f")
#undef TIERCEL_STREAM_KERNEL

#endif  // TIERCEL_X86

}  // namespace

bool kernel_supported(StreamKernel kernel) noexcept {
  switch (kernel) {
    case StreamKernel::kPortable:
      return true;
#ifdef TIERCEL_X86
    case StreamKernel::kAvx2:
      return __builtin_cpu_supports("avx2") != 0;
    case StreamKernel::kAvx512:
      return __builtin_cpu_supports("avx512f") != 0;
#else
    case StreamKernel::kAvx2:
    case StreamKernel::kAvx512:
      return false;
#endif
  }
  return false;
}

StreamKernel best_stream_kernel() noexcept {
#ifdef TIERCEL_SANITIZED
  return StreamKernel::kPortable;
#else
  if (kernel_supported(StreamKernel::kAvx512)) return StreamKernel::kAvx512;
  return kernel_supported(StreamKernel::kAvx2) ? StreamKernel::kAvx2 : StreamKernel::kPortable;
#endif
}

void plain_move(const Move& move) noexcept {
  for (std::uint64_t o = 0; o < move.outer.count; ++o) {
    for (std::uint64_t i = 0; i < move.inner.count; ++i) {
      std::memcpy(to_row(move, o, i), from_row(move, o, i), move.row_bytes);
    }
  }
}

void stream_move(StreamKernel kernel, const Move& move, const std::byte* after) noexcept {
#ifdef TIERCEL_X86
  if (kernel == StreamKernel::kAvx512) return move_avx512(move, after);
  if (kernel == StreamKernel::kAvx2) return move_avx2(move, after);
#endif
  (void)after;
  plain_move(move);
}

void stream_fence() noexcept {
#ifdef TIERCEL_X86
  _mm_sfence();
#endif
}

void prefetch_start(const std::byte* from) noexcept {
  constexpr std::uint64_t kLines = 8;
  for (std::uint64_t line = 0; line < kLines; ++line) __builtin_prefetch(from + line * kLine, 0, 3);
}

}  // namespace tiercel
