#include "service/wire/frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace tiercel::wire {
namespace {

static_assert(std::endian::native == std::endian::little, "frames are little-endian, as every machine that we run on");

constexpr std::size_t kLeastRoom = 4096;
constexpr std::size_t kFirstCapacity = std::size_t{64} << 10U;

constexpr std::size_t padded(std::size_t bytes) { return (bytes + 7) & ~std::size_t{7}; }

}  // namespace

std::span<std::byte> FrameReader::room() {
  if (begin_ == end_) begin_ = end_ = 0;
  if (capacity() - end_ < kLeastRoom) {
    if (begin_ > 0) {  // a multiple of 8: what moves stays aligned
      std::memmove(data(), data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    const std::size_t needed = std::max(kFirstCapacity, end_ + kLeastRoom);
    if (capacity() < needed) buffer_.resize(std::max(needed, 2 * capacity()) / sizeof(Chunk));
  }
  return {data() + end_, capacity() - end_};
}

Result<std::optional<std::span<const std::byte>>> FrameReader::next() {
  const std::size_t there = end_ - begin_;
  if (there < kFrameHeaderBytes) return std::nullopt;
  std::uint32_t head[2];
  std::memcpy(head, data() + begin_, sizeof(head));
  if (head[1] != 0 || head[0] == 0 || head[0] > max_payload_) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("a frame of {} bytes (marks {:#x}); valid is 1 to {}", head[0], head[1], max_payload_));
  }
  const std::size_t whole = kFrameHeaderBytes + padded(head[0]);
  if (there < whole) return std::nullopt;
  const std::span<const std::byte> payload(data() + begin_ + kFrameHeaderBytes, head[0]);
  begin_ += whole;
  return payload;
}

void OutBuffer::add_frame(std::span<const std::byte> payload) {
  const std::size_t at = bytes_.size();
  bytes_.resize(at + kFrameHeaderBytes + padded(payload.size()));  // the rest is zero
  const auto length = static_cast<std::uint32_t>(payload.size());
  std::memcpy(bytes_.data() + at, &length, sizeof(length));
  std::memcpy(bytes_.data() + at + kFrameHeaderBytes, payload.data(), payload.size());
}

void OutBuffer::sent(std::size_t bytes) noexcept {
  sent_ += bytes;
  if (sent_ == bytes_.size()) {
    bytes_.clear();
    sent_ = 0;
    if (bytes_.capacity() > 4 * kFirstCapacity) bytes_.shrink_to_fit();
  } else if (sent_ >= kFirstCapacity) {
    bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(sent_));
    sent_ = 0;
  }
}

}  // namespace tiercel::wire
