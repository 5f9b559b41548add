#include "tier/disk/write_pacer.h"

#include "base/check.h"

#include <algorithm>

namespace tiercel::disk {

void WritePacer::roll(std::uint64_t now_ns) {
  if (now_ns - window_begin_ns_ < options_.window_ns) return;
  const bool next = now_ns - window_begin_ns_ < 2 * options_.window_ns;
  before_read_ = next ? window_read_ : 0;
  before_written_ = next ? window_written_ : 0;
  window_read_ = 0;
  window_written_ = 0;
  window_begin_ns_ = now_ns;
}

void WritePacer::read_started(std::uint64_t bytes, std::uint64_t now_ns) {
  roll(now_ns);
  ++reads_;
  window_read_ += bytes;
  seen_read_ = true;
  last_read_ns_ = now_ns;
}

void WritePacer::read_ended(std::uint64_t now_ns) {
  TIERCEL_CHECK(reads_ > 0, "a read ended that had not started");
  --reads_;
  last_read_ns_ = now_ns;
}

void WritePacer::write_started(std::uint64_t bytes, std::uint64_t now_ns) {
  roll(now_ns);
  ++writes_;
  write_bytes_ += bytes;
  window_written_ += bytes;
}

void WritePacer::write_ended(std::uint64_t bytes) {
  TIERCEL_CHECK(writes_ > 0 && write_bytes_ >= bytes, "a write ended that had not started");
  --writes_;
  write_bytes_ -= bytes;
}

std::uint64_t WritePacer::allowance(bool reads_wait, std::uint64_t now_ns) {
  roll(now_ns);
  const bool calm = !reads_wait && reads_ == 0 && (!seen_read_ || now_ns - last_read_ns_ >= options_.calm_ns);
  if (calm) {
    if (writes_ >= options_.operations || write_bytes_ >= options_.in_flight_bytes) return 0;
    return std::min(options_.largest_bytes, options_.in_flight_bytes - write_bytes_);
  }
  if (writes_ == 0) return options_.paced_bytes;
  const std::uint64_t read = window_read_ + before_read_;
  const std::uint64_t written = window_written_ + before_written_;
  const bool below_floor = written * 100 < (read + written) * options_.floor_percent;
  return below_floor && writes_ < options_.floor_operations ? options_.paced_bytes : 0;
}

std::uint64_t WritePacer::next_change(std::uint64_t now_ns) const noexcept {
  if (reads_ > 0 || !seen_read_) return UINT64_MAX;
  const std::uint64_t calm_at = last_read_ns_ + options_.calm_ns;
  return calm_at > now_ns ? calm_at : UINT64_MAX;
}

}  // namespace tiercel::disk
