#include "tier/disk/file_watch.h"

#include <algorithm>
#include <cstring>

namespace tiercel::disk {
namespace {

/// Where the copy of the superblock lies that counts: updates go to the other one.
std::uint64_t superblock_offset(const Metadata& metadata) {
  return kPageBytes - metadata.update(metadata.superblock()).offset();
}

/// One look that finds another superblock may be a read that went wrong; this many in a row are another file.
constexpr std::uint32_t kMismatches = 2;

}  // namespace

void FileWatch::reset() noexcept {
  running_ = false;
  next_look_ns_ = deadline_after(clock_.now_ns(), options_.probe_interval_ns);
  mismatches_ = 0;
  lost_.reset();
}

void FileWatch::step(const Metadata& metadata, bool now_please) {
  const std::uint64_t now_ns = clock_.now_ns();
  if (now_please) next_look_ns_ = now_ns;
  if (running_ || !device_.room(IoClass::kProbe)) return;
  const Breaker::Probe probe = breaker_.take_probe(now_ns);
  counters_.probes = breaker_.probes();
  if (probe == Breaker::Probe::kWrite) return probe_writes();
  if (probe == Breaker::Probe::kRead) return look(metadata, true);
  if (now_ns >= next_look_ns_ && !breaker_.reads_open()) look(metadata, false);
}

void FileWatch::look(const Metadata& metadata, bool probe) {
  next_look_ns_ = deadline_after(clock_.now_ns(), options_.probe_interval_ns);
  const Result<std::uint64_t> size = device_.file()->backend().size();
  if (size && *size < metadata.layout().file_bytes()) {
    lost_ = "the file has " + std::to_string(*size) + " bytes of " + std::to_string(metadata.layout().file_bytes());
    if (probe) breaker_.on_probe(false, clock_.now_ns(), *lost_);
    return;
  }
  running_ = true;
  const std::shared_ptr<std::byte> page = allocate_pages(kPageBytes);
  DeviceIo io{.kind = IoKind::kRead,
              .io_class = IoClass::kProbe,
              .offset = superblock_offset(metadata),
              .segment_count = 1,
              .keep = page};
  io.segments[0] = {.data = page.get(), .bytes = kPageBytes};
  io.done = [this, &metadata, bytes = page.get(), probe](const Status& status) {
    looked(metadata, bytes, probe, status);
  };
  io.ended = [this] { running_ = false; };
  device_.submit(std::move(io));
}

void FileWatch::looked(const Metadata& metadata, const std::byte* page, bool probe, const Status& status) {
  const std::uint64_t now_ns = clock_.now_ns();
  Status outcome = status;
  if (status) {
    Superblock found;
    const bool same =
        decode(ConstPageSpan(page, kPageBytes), found) == Fault::kNone && found.uuid == metadata.superblock().uuid;
    mismatches_ = same ? 0 : mismatches_ + 1;
    if (!same) {
      outcome = fail(ErrorCode::kCorrupt, "the superblock is not the one that was written");
      next_look_ns_ = now_ns;
    }
    if (mismatches_ >= kMismatches) lost_ = outcome.error().message;
  }
  if (probe) return breaker_.on_probe(outcome.has_value(), now_ns, outcome ? "" : outcome.error().message);
  if (outcome) return;
  if (outcome.error().code == ErrorCode::kTimeout) return breaker_.on_stall(now_ns, outcome.error().message);
  breaker_.on_read_failure(now_ns, outcome.error().message);
}

void FileWatch::probe_writes() {
  running_ = true;
  const std::shared_ptr<std::byte> page = allocate_pages(kPageBytes);
  std::memset(page.get(), static_cast<int>(breaker_.probes() & 0xFFU), kPageBytes);
  DeviceIo io{
      .kind = IoKind::kWrite, .io_class = IoClass::kProbe, .offset = kScratchOffset, .segment_count = 1, .keep = page};
  io.segments[0] = {.data = page.get(), .bytes = kPageBytes};
  io.done = [this](const Status& status) {
    breaker_.on_probe(status.has_value(), clock_.now_ns(), status ? "" : status.error().message);
    if (!status && status.error().code == ErrorCode::kTimeout)
      breaker_.on_stall(clock_.now_ns(), status.error().message);
  };
  io.ended = [this] { running_ = false; };
  device_.submit(std::move(io));
}

std::uint64_t FileWatch::next_event() const noexcept {
  if (running_) return UINT64_MAX;
  return breaker_.reads_open() ? breaker_.next_probe() : std::min(next_look_ns_, breaker_.next_probe());
}

}  // namespace tiercel::disk
