// Leaves of the host copy: a strided move by ordinary or by non-temporal stores.
//
// Non-temporal stores write whole cache lines without reading them first and without pushing others out of the cache: a
// large copy moves 2 bytes over the memory bus for each byte and not 3. They are weakly ordered: stream_fence() comes
// before anything that tells another thread about the bytes. The kernel is chosen at run time from what the processor
// has; a kernel must be called only where kernel_supported() says so. Pure functions on memory of the caller.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tiercel {

enum class StreamKernel : std::uint8_t {
  kPortable = 0,  ///< memcpy
  kAvx2 = 1,
  kAvx512 = 2,
};

struct MoveLevel {
  std::uint64_t count = 1;
  std::uint64_t to_stride_bytes = 0;
  std::uint64_t from_stride_bytes = 0;
};

/// rows of row_bytes under two levels; source and target do not overlap.
struct Move {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  std::uint64_t row_bytes = 0;
  MoveLevel outer{};
  MoveLevel inner{};
};

[[nodiscard]] bool kernel_supported(StreamKernel kernel) noexcept;
/// The widest that this processor has; kPortable in builds with a sanitizer, which does not see vector stores.
[[nodiscard]] StreamKernel best_stream_kernel() noexcept;

/// By memcpy: for what is small enough to stay in the cache.
void plain_move(const Move& move) noexcept;
/// `after`: where the next move will read, or any address that is no secret if there is none; it is prefetched.
void stream_move(StreamKernel kernel, const Move& move, const std::byte* after) noexcept;
void stream_fence() noexcept;
/// Asks for the first lines of a source that comes soon.
void prefetch_start(const std::byte* from) noexcept;

}  // namespace tiercel
