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
/// Probes that the device answers with an error: by then it is time to look for the file by its path.
constexpr std::uint32_t kFailedProbes = 8;

}  // namespace

void FileWatch::reset() noexcept {
  running_ = false;
  next_look_ns_ = deadline_after(clock_.now_ns(), options_.probe_interval_ns);
  mismatches_ = 0;
  failed_probes_ = 0;
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
  running_ = true;
  std::string cut_off;
  const Result<std::uint64_t> size = device_.file()->backend().size();
  if (size && *size < metadata.layout().file_bytes()) {
    cut_off = "the file has " + std::to_string(*size) + " bytes of " + std::to_string(metadata.layout().file_bytes());
  }
  constexpr std::uint64_t kBytes = 2 * kPageBytes;
  const std::shared_ptr<std::byte> pages = allocate_pages(kBytes);
  DeviceIo io{.kind = IoKind::kRead, .io_class = IoClass::kProbe, .offset = 0, .segment_count = 1, .keep = pages};
  io.segments[0] = {.data = pages.get(), .bytes = kBytes};
  io.done = [this, &metadata, cut_off, bytes = pages.get(), probe](const Status& status) {
    const std::uint64_t now_ns = clock_.now_ns();
    const Status outcome = looked(metadata, bytes, cut_off, status);
    if (probe) return probed(outcome, now_ns);
    if (outcome) return;
    if (outcome.error().code == ErrorCode::kTimeout) return breaker_.on_stall(now_ns, outcome.error().message);
    breaker_.on_read_failure(now_ns, outcome.error().message);
  };
  io.ended = [this] { running_ = false; };
  device_.submit(std::move(io));
}

void FileWatch::probed(const Status& outcome, std::uint64_t now_ns) {
  breaker_.on_probe(outcome.has_value(), now_ns, outcome ? "" : outcome.error().message);
  const bool refused = !outcome && outcome.error().code == ErrorCode::kIo && outcome.error().os_error != 0;
  failed_probes_ = refused ? failed_probes_ + 1 : 0;
  if (failed_probes_ >= kFailedProbes) lost_ = {.cause = outcome.error().message};
}

Status FileWatch::looked(const Metadata& metadata, const std::byte* pages, const std::string& cut_off,
                         const Status& status) {
  const bool ends_before = !status && status.error().code == ErrorCode::kIo && status.error().os_error == 0;
  if (!cut_off.empty() || ends_before) {
    const std::string cause = cut_off.empty() ? status.error().message : cut_off;
    lost_ = {.cause = cause, .empty = ends_before || (status && all_zero({pages, 2 * kPageBytes}))};
    return fail(ErrorCode::kIo, cause);
  }
  if (!status) return status;
  Superblock found;
  const ConstPageSpan page(pages + superblock_offset(metadata), kPageBytes);
  if (decode(page, found) == Fault::kNone && found.uuid == metadata.superblock().uuid) {
    mismatches_ = 0;
    return {};
  }
  next_look_ns_ = clock_.now_ns();
  const std::string cause = "the superblock is not the one that was written";
  if (++mismatches_ >= kMismatches) lost_ = {.cause = cause};
  return fail(ErrorCode::kCorrupt, cause);
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
  if (running_ || !device_.room(IoClass::kProbe)) return UINT64_MAX;  // something ends first
  return breaker_.reads_open() ? breaker_.next_probe() : std::min(next_look_ns_, breaker_.next_probe());
}

}  // namespace tiercel::disk
