#include "tier/disk/memory_registration.h"

#include "base/log.h"
#include "tier/disk/format.h"

#include <fmt/format.h>

#include <algorithm>

namespace tiercel::disk {
namespace {

constexpr std::uint64_t kMostPieces = 1024;
constexpr std::uint64_t kLargestPiece = std::uint64_t{1} << 30U;  // the system's limit
constexpr std::uint64_t kShare = 10;                              // of the driver's time, one part

}  // namespace

MemoryRegistration::MemoryRegistration(const DiskOptions& options, const Clock& clock)
    : options_(options),
      clock_(clock),
      piece_bytes_(std::clamp(options.memory_piece_bytes, kPageBytes, kLargestPiece)) {
  for (const struct iovec& region : options.memory) total_bytes_ += region.iov_len;
  while (total_bytes_ / piece_bytes_ > kMostPieces && piece_bytes_ <= kLargestPiece / 2) piece_bytes_ *= 2;
  reset();
}

void MemoryRegistration::reset() noexcept {
  region_ = 0;
  offset_ = 0;
  registered_bytes_ = 0;
  next_ns_ = 0;
  begun_ = false;
  ended_ = total_bytes_ == 0;
}

struct iovec MemoryRegistration::next_piece() const noexcept {
  const struct iovec& region = options_.memory[region_];
  return {.iov_base = static_cast<std::byte*>(region.iov_base) + offset_,
          .iov_len = std::min<std::uint64_t>(piece_bytes_, region.iov_len - offset_)};
}

void MemoryRegistration::step(IoBackend& backend) {
  if (ended_) return;
  if (!begun_) begun_ = !options_.memory_ready || options_.memory_ready();
  const std::uint64_t start_ns = begun_ ? clock_.now_ns() : 0;
  if (!begun_ || start_ns < next_ns_) return;
  const struct iovec piece = next_piece();
  const Status status = backend.register_memory({&piece, 1});
  if (status) {
    registered_bytes_ += piece.iov_len;
    offset_ += piece.iov_len;
    if (offset_ >= options_.memory[region_].iov_len) {
      ++region_;
      offset_ = 0;
    }
  }
  ended_ = !status || region_ == options_.memory.size();
  const std::uint64_t now_ns = clock_.now_ns();
  next_ns_ = now_ns + (kShare - 1) * (now_ns - start_ns);
  if (!ended_) return;
  log_line(LogLevel::kInfo, "disk_register_memory",
           fmt::format("{}: {} of {} MiB of memory are registered for its IO{}", options_.directory,
                       registered_bytes_ >> 20U, total_bytes_ >> 20U, status ? "" : ": " + status.error().message));
}

}  // namespace tiercel::disk
