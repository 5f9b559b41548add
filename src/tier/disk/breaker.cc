#include "tier/disk/breaker.h"

#include "base/check.h"
#include "base/clock.h"

#include <fmt/format.h>

#include <utility>

namespace tiercel::disk {

void Breaker::open_reads(std::uint64_t now_ns, const std::string& cause) {
  failures_ = 0;
  if (reads_open_) return;
  reads_open_ = true;
  read_cause_ = cause;
  ++trips_;
  next_probe_ns_ = deadline_after(now_ns, options_.probe_interval_ns);
}

void Breaker::on_read_failure(std::uint64_t now_ns, const std::string& cause) {
  if (failures_ == 0 || now_ns - first_failure_ns_ > options_.window_ns) {
    failures_ = 0;
    first_failure_ns_ = now_ns;
  }
  if (++failures_ >= options_.failures) open_reads(now_ns, cause);
}

void Breaker::on_write_failure(std::uint64_t now_ns, const std::string& cause) {
  if (writes_open_) return;
  writes_open_ = true;
  write_cause_ = cause;
  ++trips_;
  if (!reads_open_) next_probe_ns_ = deadline_after(now_ns, options_.probe_interval_ns);
}

void Breaker::on_stall(std::uint64_t now_ns, const std::string& cause) { open_reads(now_ns, cause); }

void Breaker::on_quarantine(std::uint64_t bytes, std::uint64_t now_ns) {
  quarantined_ = bytes;
  if (bytes <= options_.quarantine_bytes) return;
  open_reads(now_ns,
             fmt::format("{} bytes wait for IO that is past its deadline; {} may", bytes, options_.quarantine_bytes));
}

Breaker::Probe Breaker::take_probe(std::uint64_t now_ns) {
  if (now_ns < next_probe()) return Probe::kNone;
  ++probes_;
  running_ = reads_open_ ? Probe::kRead : Probe::kWrite;
  return running_;
}

void Breaker::on_probe(bool ok, std::uint64_t now_ns, const std::string& cause) {
  const Probe probe = std::exchange(running_, Probe::kNone);
  TIERCEL_CHECK(probe != Probe::kNone, "a probe answered that was not sent");
  next_probe_ns_ = deadline_after(now_ns, options_.probe_interval_ns);
  // A device that answers a probe but keeps more than the budget of older operations is not back yet.
  if (ok && probe == Probe::kRead && quarantined_ <= options_.quarantine_bytes) {
    reads_open_ = false;
    failures_ = 0;
    if (writes_open_) next_probe_ns_ = now_ns;
  } else if (ok && probe == Probe::kWrite) {
    writes_open_ = false;
  } else if (!ok) {
    (probe == Probe::kRead ? read_cause_ : write_cause_) = cause;
  }
}

void Breaker::reset() noexcept {
  reads_open_ = false;
  writes_open_ = false;
  failures_ = 0;
  quarantined_ = 0;
  running_ = Probe::kNone;
  next_probe_ns_ = UINT64_MAX;
}

std::uint64_t Breaker::next_probe() const noexcept {
  const bool due = (reads_open_ || writes_open_) && running_ == Probe::kNone;
  return due ? next_probe_ns_ : UINT64_MAX;
}

}  // namespace tiercel::disk
