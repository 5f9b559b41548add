// Frames: how messages lie on the stream. A frame is u32 length (little-endian), u32 zero, then `length` bytes, padded
// to a multiple of 8 so that every payload is aligned for its verifier. One thread at a time.
#pragma once

#include <tiercel/result.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace tiercel::wire {

inline constexpr std::size_t kFrameHeaderBytes = 8;

/// Cuts a stream into payloads. Memory: grows up to one frame of the largest size and the next read.
class FrameReader {
 public:
  explicit FrameReader(std::size_t max_payload) : max_payload_(max_payload) {}

  /// Where the next bytes of the stream go; at least 4 KiB. Ends the payloads that were given before.
  [[nodiscard]] std::span<std::byte> room();
  /// So many bytes were written to the front of room().
  void filled(std::size_t bytes) noexcept { end_ += bytes; }
  /// The next whole payload, 8-byte aligned, or nothing yet. kInvalidArgument: what came is no frame, or one that is
  /// larger than allowed; the stream cannot be read on.
  [[nodiscard]] Result<std::optional<std::span<const std::byte>>> next();

 private:
  struct Chunk {  // 8 bytes each, for the alignment
    alignas(8) std::byte bytes[8];
  };
  [[nodiscard]] std::byte* data() noexcept { return buffer_.empty() ? nullptr : buffer_[0].bytes; }
  [[nodiscard]] std::size_t capacity() const noexcept { return buffer_.size() * sizeof(Chunk); }

  std::size_t max_payload_;
  std::vector<Chunk> buffer_;
  std::size_t begin_ = 0;  // a multiple of 8
  std::size_t end_ = 0;
};

/// Bytes that wait to be sent.
class OutBuffer {
 public:
  void add_frame(std::span<const std::byte> payload);
  [[nodiscard]] std::span<const std::byte> pending() const noexcept { return std::span(bytes_).subspan(sent_); }
  [[nodiscard]] bool empty() const noexcept { return sent_ == bytes_.size(); }
  void sent(std::size_t bytes) noexcept;

 private:
  std::vector<std::byte> bytes_;
  std::size_t sent_ = 0;
};

}  // namespace tiercel::wire
