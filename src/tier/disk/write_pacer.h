// WritePacer: how large a write may start now, so that loads keep their latency beside a full write load.
//
// A read that comes finds in front of it what the device has taken already. So with reads waiting, in flight, or ended
// a moment ago, writes have one small operation in flight; without any, a bounded number of bytes, which is as fast as
// the full depth. Writes never starve: below a tenth of the bytes over a window they may have a few operations.
// Pure and deterministic; one thread at a time.
#pragma once

#include <cstdint>

namespace tiercel::disk {

class WritePacer {
 public:
  struct Options {
    std::uint64_t largest_bytes = 4U << 20U;     ///< of one operation, without reads
    std::uint64_t in_flight_bytes = 32U << 20U;  ///< of all, without reads
    std::uint32_t operations = 32;               ///< in flight, without reads
    std::uint64_t paced_bytes = 1U << 20U;       ///< of one operation, beside reads
    std::uint32_t floor_operations = 4;          ///< in flight beside reads, while below the floor
    std::uint64_t floor_percent = 10;            ///< of all bytes
    std::uint64_t window_ns = 100'000'000;       ///< over which the floor is counted
    std::uint64_t calm_ns = 50'000'000;          ///< after the last read, until writes have the device to themselves
  };
  explicit WritePacer(const Options& options) : options_(options) {}

  /// Another file: nothing of the last one is in flight.
  void reset() { *this = WritePacer(Options(options_)); }

  void read_started(std::uint64_t bytes, std::uint64_t now_ns);
  void read_ended(std::uint64_t now_ns);
  void write_started(std::uint64_t bytes, std::uint64_t now_ns);
  void write_ended(std::uint64_t bytes);

  /// The largest write operation that may start now; 0: none. A single transfer larger than it may go when it is not 0.
  [[nodiscard]] std::uint64_t allowance(bool reads_wait, std::uint64_t now_ns);
  /// While writes are held back: when to ask again, though nothing has ended. UINT64_MAX: no such time.
  [[nodiscard]] std::uint64_t next_change(std::uint64_t now_ns) const noexcept;

  [[nodiscard]] std::uint32_t writes_in_flight() const noexcept { return writes_; }

 private:
  void roll(std::uint64_t now_ns);

  Options options_;
  std::uint32_t reads_ = 0;
  std::uint32_t writes_ = 0;
  std::uint64_t write_bytes_ = 0;  // in flight
  bool seen_read_ = false;
  std::uint64_t last_read_ns_ = 0;
  std::uint64_t window_begin_ns_ = 0;
  std::uint64_t window_read_ = 0;  // bytes started, this window and the one before
  std::uint64_t window_written_ = 0;
  std::uint64_t before_read_ = 0;
  std::uint64_t before_written_ = 0;
};

}  // namespace tiercel::disk
