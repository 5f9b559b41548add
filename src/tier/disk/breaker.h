// Breaker: when a directory's device is not asked any more, and when it is tried again.
//
// Two sides. Reads: several errors or stalls in a row within a window, one operation beyond the IO deadline, or more
// bytes in quarantine than the budget open it: nothing is served (kOff). Writes: the first error opens it: nothing is
// written, reads go on (kReadOnly). Each open side is probed at intervals; one probe that succeeds closes it. An
// expired read counts only if its IO is slow by the device's measure: a short deadline of a caller says nothing about
// the device. Pure and deterministic; one thread at a time.
#pragma once

#include <cstdint>
#include <string>

namespace tiercel::disk {

class Breaker {
 public:
  struct Options {
    std::uint32_t failures = 4;                ///< of reads, in a row within the window
    std::uint64_t window_ns = 30'000'000'000;  ///< from the first of them
    std::uint64_t probe_interval_ns = 2'000'000'000;
    std::uint64_t quarantine_bytes = 256U << 20U;
  };
  enum class Probe : std::uint8_t { kNone, kRead, kWrite };

  explicit Breaker(const Options& options) : options_(options) {}

  void on_read_ok() noexcept { failures_ = 0; }
  void on_read_failure(std::uint64_t now_ns, const std::string& cause);
  void on_write_failure(std::uint64_t now_ns, const std::string& cause);
  /// An operation is beyond the IO deadline.
  void on_stall(std::uint64_t now_ns, const std::string& cause);
  /// Bytes of expired operations that have not ended.
  void on_quarantine(std::uint64_t bytes, std::uint64_t now_ns);

  /// What to try now, if anything; the answer comes by on_probe. One probe at a time.
  [[nodiscard]] Probe take_probe(std::uint64_t now_ns);
  void on_probe(bool ok, std::uint64_t now_ns, const std::string& cause);
  /// When take_probe has something next; UINT64_MAX: nothing is open, or a probe runs.
  [[nodiscard]] std::uint64_t next_probe() const noexcept;

  /// Another file: what is known of this one does not count. Trips and probes go on being counted.
  void reset() noexcept;

  [[nodiscard]] bool reads_open() const noexcept { return reads_open_; }
  [[nodiscard]] bool writes_open() const noexcept { return writes_open_; }
  [[nodiscard]] const std::string& cause() const noexcept { return reads_open_ ? read_cause_ : write_cause_; }
  [[nodiscard]] std::uint64_t trips() const noexcept { return trips_; }
  [[nodiscard]] std::uint64_t probes() const noexcept { return probes_; }

 private:
  void open_reads(std::uint64_t now_ns, const std::string& cause);

  Options options_;
  bool reads_open_ = false;
  bool writes_open_ = false;
  std::string read_cause_;
  std::string write_cause_;
  std::uint32_t failures_ = 0;  // of reads, in a row
  std::uint64_t first_failure_ns_ = 0;
  std::uint64_t quarantined_ = 0;
  Probe running_ = Probe::kNone;
  std::uint64_t next_probe_ns_ = UINT64_MAX;
  std::uint64_t trips_ = 0;
  std::uint64_t probes_ = 0;
};

}  // namespace tiercel::disk
