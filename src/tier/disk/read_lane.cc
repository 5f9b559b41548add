#include "tier/disk/read_lane.h"

#include "tier/disk/layout.h"

#include <algorithm>

namespace tiercel::disk {
namespace {

/// What is due sooner than this goes without company.
constexpr std::uint64_t kAloneNs = 20'000'000;

tl::unexpected<Error> another_block(const DiskRead& read) {
  return fail(ErrorCode::kCorrupt, "slot " + std::to_string(read.slot) + " holds another block");
}

}  // namespace

struct ReadLane::Operation {
  std::vector<std::uint32_t> ids;
  std::uint64_t started_ns = 0;
  std::uint64_t late_bytes = 0;
  bool counted_late = false;
};

ReadLane::ReadLane(const Shared& shared, Find find) : shared_(shared), find_(std::move(find)), queue_(kAloneNs) {}

void ReadLane::add(DiskRead&& job) {
  const std::optional<Place> place = find_(job);
  if (!place) {
    shared_.mailbox.answered(DiskMailbox::Kind::kRead);
    job.done(another_block(job));
    return;
  }
  const std::uint32_t id = next_id_++;
  const std::uint64_t bytes = round_up(job.length, kPageBytes);
  queue_.add({.id = id, .offset = place->offset, .bytes = bytes, .deadline_ns = job.deadline_ns});
  jobs_.emplace(id, Job{.read = std::move(job), .bytes = bytes});
}

void ReadLane::answer(std::uint32_t id, const Status& status) {
  const auto found = jobs_.find(id);
  const DiskRead read = std::move(found->second.read);
  jobs_.erase(found);
  flying_.erase({read.deadline_ns, id});
  if (status) {
    ++shared_.counters.read_blocks;
    shared_.counters.read_bytes += read.length;
  } else if (status.error().code == ErrorCode::kTimeout) {
    ++shared_.counters.deadlines;
  }
  shared_.mailbox.answered(DiskMailbox::Kind::kRead);
  read.done(status);
}

void ReadLane::expire() {
  const std::uint64_t now_ns = shared_.clock.now_ns();
  const Status late = fail(ErrorCode::kTimeout, "the read was not done at its deadline");
  for (const std::uint32_t id : queue_.take_expired(now_ns)) answer(id, late);
  while (!flying_.empty() && flying_.begin()->first <= now_ns) {
    const std::uint32_t id = flying_.begin()->second;
    const Job& job = jobs_.at(id);
    Operation& operation = *job.operation;
    operation.late_bytes += job.bytes;
    late_bytes_ += job.bytes;
    // Counts against the device only if it is slow by its own measure, and once an operation.
    if (!operation.counted_late && now_ns - operation.started_ns >= shared_.options.io_deadline_ns / 10) {
      operation.counted_late = true;
      shared_.breaker.on_read_failure(now_ns, "reads stall");
    }
    answer(id, late);
  }
}

void ReadLane::start() {
  while (!queue_.empty() && shared_.device.room(IoClass::kData)) {
    start(*queue_.take(shared_.options.merge_bytes, shared_.clock.now_ns()));
  }
}

void ReadLane::start(const IoBatch& batch) {
  const auto operation = std::make_shared<Operation>();
  operation->started_ns = shared_.clock.now_ns();
  operation->ids.assign(batch.ids.begin(), batch.ids.begin() + static_cast<std::ptrdiff_t>(batch.count));
  const auto owners = std::make_shared<std::vector<std::shared_ptr<void>>>();
  DeviceIo io{.kind = IoKind::kRead, .offset = batch.offset, .segment_count = batch.count};
  for (std::size_t i = 0; i < batch.count; ++i) {
    Job& job = jobs_.at(batch.ids.at(i));
    io.segments.at(i) = {.data = job.read.to, .bytes = job.bytes};
    owners->push_back(std::move(job.read.owner));
    job.operation = operation.get();
    if (job.read.deadline_ns != UINT64_MAX) flying_.emplace(job.read.deadline_ns, batch.ids.at(i));
  }
  io.keep = owners;
  io.done = [this, operation](const Status& status) { finish(*operation, status); };
  io.ended = [this, operation] {
    late_bytes_ -= operation->late_bytes;
    shared_.pacer.read_ended(shared_.clock.now_ns());
  };
  shared_.pacer.read_started(batch.bytes, operation->started_ns);
  ++shared_.counters.read_operations;
  shared_.device.submit(std::move(io));
}

void ReadLane::finish(Operation& operation, const Status& status) {
  const bool stalled = !status && status.error().code == ErrorCode::kTimeout;
  for (const std::uint32_t id : operation.ids) {
    const auto found = jobs_.find(id);
    if (found == jobs_.end()) continue;  // its deadline came first
    if (stalled) {
      operation.late_bytes += found->second.bytes;
      late_bytes_ += found->second.bytes;
    }
    // The slot may have been given to another block meanwhile; then these are not the bytes that were asked for.
    const bool moved = status && !find_(found->second.read);
    answer(id, moved ? Status(another_block(found->second.read)) : status);
  }
}

void ReadLane::fail_waiting(const Error& error) {
  for (const std::uint32_t id : queue_.take_all()) answer(id, tl::unexpected<Error>(error));
}

void ReadLane::drop(const Error& error) {
  (void)queue_.take_all();
  std::vector<std::uint32_t> ids;
  for (const auto& [id, job] : jobs_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const std::uint32_t id : ids) answer(id, tl::unexpected<Error>(error));
  late_bytes_ = 0;
}

std::uint64_t ReadLane::next_deadline() const noexcept {
  return std::min(queue_.next_deadline(), flying_.empty() ? UINT64_MAX : flying_.begin()->first);
}

}  // namespace tiercel::disk
