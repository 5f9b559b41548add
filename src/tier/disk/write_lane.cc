#include "tier/disk/write_lane.h"

#include "base/check.h"

#include <algorithm>
#include <utility>

namespace tiercel::disk {
namespace {

constexpr std::uint64_t kZeroBytes = 1U << 20U;  // of one piece
constexpr std::uint32_t kZerosAfter = 8;         // operations of data, while both wait

tl::unexpected<Error> dropped() { return fail(ErrorCode::kDropped, "the slot was cleared while it was being written"); }

template <class Map>
std::vector<std::uint32_t> sorted_ids(const Map& map) {
  std::vector<std::uint32_t> ids;
  ids.reserve(map.size());
  for (const auto& [id, value] : map) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace

WriteLane::WriteLane(const Shared& shared, Metadata& metadata, PageWriter& pages, Uncover uncover)
    : shared_(shared),
      metadata_(metadata),
      pages_(pages),
      uncover_(std::move(uncover)),
      zero_pages_(allocate_pages(kZeroBytes)) {}

Status WriteLane::check(const DiskWrite& job) const {
  const Layout& layout = metadata_.layout();
  const DiskBlock& block = job.block;
  const bool place = block.slot < layout.slots() && layout.valid_slot_bytes(block.slot_bytes) &&
                     layout.position_of(block.slot) < layout.slots_of(block.slot_bytes);
  if (!place) {
    return fail(ErrorCode::kInvalidArgument, "slot " + std::to_string(block.slot) + " of " +
                                                 std::to_string(block.slot_bytes) + " bytes is not in the file");
  }
  if (block.length == 0 || block.length > block.slot_bytes) {
    return fail(ErrorCode::kInvalidArgument, "a block of " + std::to_string(block.length) +
                                                 " bytes does not go into a slot of " +
                                                 std::to_string(block.slot_bytes));
  }
  if ((block.generation >> kEpochShift) >= metadata_.epoch() + kEpochsAhead) {
    return fail(ErrorCode::kInvalidArgument,
                "generation " + std::to_string(block.generation) + " is of a boot that has not been yet");
  }
  return {};
}

std::uint64_t WriteLane::offset_of(const SlotJob& place) const {
  return metadata_.layout().data_offset(place.slot, place.slot_bytes);
}

void WriteLane::add(DiskWrite&& write) {
  if (const Status valid = check(write); !valid) {
    shared_.mailbox.answered(DiskMailbox::Kind::kWrite);
    write.done(valid);
    return;
  }
  const std::uint32_t id = next_id_++;
  const std::uint32_t slot = write.block.slot;
  Job& job = jobs_[id];
  ++unanswered_;
  job.place = {
      .id = id, .extent = metadata_.layout().extent_of(slot), .slot = slot, .slot_bytes = write.block.slot_bytes};
  job.write = std::move(write);
  writes_of_[slot].push_back(id);
  if (order_.begin(job.place)) prepare(id);
}

void WriteLane::clear(std::uint32_t slot) {
  if (slot >= metadata_.layout().slots()) return;
  if (const auto found = writes_of_.find(slot); found != writes_of_.end()) {
    for (const std::uint32_t id : std::vector(found->second)) {
      Job& job = jobs_.at(id);
      job.cancelled = true;
      if (!job.has_slot) answer(id, dropped());
    }
  }
  clear_image(slot);
}

void WriteLane::clear_image(std::uint32_t slot) {
  DiskBlock held;
  if (metadata_.header(slot, held) != Fault::kEmpty) pages_.touch(metadata_.clear(slot));
}

void WriteLane::overwrite(std::uint32_t slot, Done done) {
  const std::uint32_t extent = metadata_.layout().extent_of(slot);
  const std::uint64_t queued_cut = order_.cut_of(extent);
  const std::uint64_t slot_bytes = queued_cut != 0 ? queued_cut : metadata_.extent(extent).slot_bytes;
  if (metadata_.layout().position_of(slot) >= metadata_.layout().slots_of(slot_bytes)) return done({});
  const std::uint32_t id = next_id_++;
  Job& job = jobs_[id];
  ++unanswered_;
  job.place = {.id = id, .extent = extent, .slot = slot, .slot_bytes = slot_bytes};
  job.zeroed = std::move(done);
  if (order_.begin(job.place)) prepare(id);
}

/// The job has its slot.
void WriteLane::prepare(std::uint32_t id) {
  Job& job = jobs_.at(id);
  job.has_slot = true;
  if (job.answered) return release(id);
  const std::uint64_t offset = offset_of(job.place);
  if (!job.write) {
    for (std::uint64_t at = 0; at < job.place.slot_bytes; at += kZeroBytes) {
      const std::uint32_t piece = next_id_++;
      const std::uint64_t bytes = std::min(kZeroBytes, job.place.slot_bytes - at);
      zero_pieces_.emplace(piece, ZeroPiece{.job = id, .bytes = bytes});
      zeros_.add({.id = piece, .offset = offset + at, .bytes = bytes});
      ++job.parts;
    }
    return;
  }
  // The old block's header leaves the image before its bytes are overwritten; the file's may stay: its data then
  // disagrees with its checksum.
  clear_image(job.place.slot);
  if (metadata_.extent(job.place.extent).slot_bytes != job.place.slot_bytes) cut(job.place);
  job.parts = 1;  // held until all that follows has been asked for
  if (unwritten_heads_.contains(job.place.extent)) need_head(id);
  need_namespace(id);
  need_log(id);
  if (jobs_.at(id).status) {
    ++job.parts;
    data_.add({.id = id, .offset = offset, .bytes = round_up(job.write->block.length, kPageBytes)});
  }
  part_done(id, {});
}

void WriteLane::cut(const SlotJob& place) {
  (void)metadata_.cut(place.extent, place.slot_bytes);
  const Layout& layout = metadata_.layout();
  const std::uint32_t first = layout.header_page(layout.slot_at(place.extent, 0));
  for (std::uint32_t page = first; page < first + layout.extent_header_pages(); ++page) pages_.forget(page);
  unwritten_heads_.insert(place.extent);
}

void WriteLane::need_head(std::uint32_t id) {
  const Job& job = jobs_.at(id);
  ++jobs_.at(id).parts;
  pages_.want(metadata_.layout().head_page(job.place.extent),
              [this, id, extent = job.place.extent](const Status& status) {
                // The extent cannot have been cut again: this job has been in it all the time.
                if (status) unwritten_heads_.erase(extent);
                part_done(id, status);
              });
}

void WriteLane::need_namespace(std::uint32_t id) {
  Job& job = jobs_.at(id);
  const BlockHash& fingerprint = job.write->block.fingerprint;
  std::optional<std::uint32_t> namespace_id = metadata_.namespace_id(fingerprint);
  if (!namespace_id) {
    const Result<std::uint32_t> added = metadata_.add_namespace(fingerprint, job.write->block.owner);
    if (!added) {
      job.status = tl::unexpected<Error>(added.error());
      return;
    }
    namespace_id = *added;
    new_namespaces_.try_emplace(*added);
  } else if (metadata_.set_owner(*namespace_id, job.write->block.owner)) {
    new_namespaces_.try_emplace(*namespace_id);  // of a file that knew no tenants
  }
  const auto found = new_namespaces_.find(*namespace_id);
  if (found == new_namespaces_.end()) return;
  ++job.parts;
  found->second.jobs.push_back(id);
  if (std::exchange(found->second.writing, true)) return;
  pages_.want(metadata_.layout().namespace_page(*namespace_id), [this, number = *namespace_id](const Status& written) {
    if (!written) return namespace_written(number, written);
    pages_.sync([this, number](const Status& synced) { namespace_written(number, synced); });
  });
}

void WriteLane::need_log(std::uint32_t id) {
  Job& job = jobs_.at(id);
  if (uncover_(job.write->block, [this, id](const Status& status) { part_done(id, status); })) ++job.parts;
}

void WriteLane::namespace_written(std::uint32_t namespace_id, const Status& status) {
  NewNamespace& entry = new_namespaces_.at(namespace_id);
  entry.writing = false;
  const std::vector<std::uint32_t> waited = std::exchange(entry.jobs, {});
  if (status) new_namespaces_.erase(namespace_id);
  for (const std::uint32_t id : waited) part_done(id, status);
}

void WriteLane::start(bool reads_wait) {
  for (;;) {
    if (!waiting() || !shared_.device.room(IoClass::kData)) return;
    const std::uint64_t now_ns = shared_.clock.now_ns();
    const std::uint64_t most = std::min(shared_.pacer.allowance(reads_wait, now_ns), shared_.options.merge_bytes);
    if (most == 0) return;
    const bool zeros = data_.empty() || (!zeros_.empty() && since_zeros_ >= kZerosAfter);
    since_zeros_ = zeros ? 0 : since_zeros_ + 1;
    start(*(zeros ? zeros_ : data_).take(most, now_ns), zeros);
  }
}

void WriteLane::start(const IoBatch& batch, bool zeros) {
  std::vector<std::uint32_t> ids(batch.ids.begin(), batch.ids.begin() + static_cast<std::ptrdiff_t>(batch.count));
  const auto owners = std::make_shared<std::vector<std::shared_ptr<void>>>();
  DeviceIo io{.kind = IoKind::kWrite, .offset = batch.offset, .segment_count = batch.count};
  std::uint64_t left = batch.bytes;
  for (std::size_t i = 0; i < batch.count; ++i) {
    if (zeros) {
      const ZeroPiece piece = zero_pieces_.extract(ids[i]).mapped();
      ids[i] = piece.job;
      owners->push_back(zero_pages_);
      io.segments.at(i) = {.data = zero_pages_.get(), .bytes = piece.bytes};
    } else {
      DiskWrite& write = *jobs_.at(ids[i]).write;
      owners->push_back(std::move(write.owner));
      // The same type serves reads and writes; a write does not touch it.
      io.segments.at(i) = {.data = const_cast<std::byte*>(write.from),
                           .bytes = round_up(write.block.length, kPageBytes)};
    }
    left -= io.segments.at(i).bytes;
    ++jobs_.at(ids[i]).flying;
  }
  TIERCEL_CHECK(left == 0, "the parts of a write are not its bytes");
  io.keep = owners;
  io.done = [this, ids](const Status& status) {
    for (const std::uint32_t id : ids) part_done(id, status);
  };
  io.ended = [this, ids, bytes = batch.bytes] {
    shared_.pacer.write_ended(bytes);
    for (const std::uint32_t id : ids) {
      --jobs_.at(id).flying;
      release(id);
    }
  };
  shared_.pacer.write_started(batch.bytes, shared_.clock.now_ns());
  ++shared_.counters.write_operations;
  shared_.device.submit(std::move(io));
}

void WriteLane::part_done(std::uint32_t id, const Status& status) {
  Job& job = jobs_.at(id);
  if (!status && job.status) job.status = status;
  if (--job.parts > 0) return;
  if (!job.status) return answer(id, job.status);
  if (!job.write) return answer(id, {});
  if (job.cancelled) return answer(id, dropped());
  publish(id);
}

void WriteLane::publish(std::uint32_t id) {
  const Job& job = jobs_.at(id);
  const std::uint32_t page = metadata_.put(job.write->block);
  pages_.want(page, [this, id](const Status& status) { published(id, status); });
}

void WriteLane::published(std::uint32_t id, const Status& status) {
  const Job& job = jobs_.at(id);
  if (job.cancelled) return answer(id, status ? Status(dropped()) : status);
  // The caller hears that there is no block, so there is none.
  if (!status) clear_image(job.place.slot);
  answer(id, status);
}

/// The status is a copy: the job that it may come from is gone when the caller hears it.
void WriteLane::answer(std::uint32_t id, Status status) {  // NOLINT(performance-unnecessary-value-param)
  Job& job = jobs_.at(id);
  TIERCEL_CHECK(!job.answered, "a write is answered twice");
  job.answered = true;
  --unanswered_;
  if (!job.write) {
    const Done done = std::move(job.zeroed);
    release(id);
    return done(status);
  }
  const DiskWrite write = std::move(*job.write);
  if (const auto found = writes_of_.find(job.place.slot); found != writes_of_.end()) {
    std::erase(found->second, id);
    if (found->second.empty()) writes_of_.erase(found);
  }
  if (status) {
    ++shared_.counters.written_blocks;
    shared_.counters.written_bytes += write.block.length;
  } else if (status.error().code == ErrorCode::kTimeout) {
    ++shared_.counters.deadlines;
  }
  release(id);
  shared_.mailbox.answered(DiskMailbox::Kind::kWrite);
  write.done(status);
}

/// Forgets the job when it is answered and its IO has ended; the slot goes to the next.
void WriteLane::release(std::uint32_t id) {
  const Job& job = jobs_.at(id);
  if (!job.answered || !job.has_slot || job.flying > 0) return;
  const SlotJob place = job.place;
  jobs_.erase(id);
  for (const std::uint32_t next : order_.end(place)) prepare(next);
}

void WriteLane::fail_waiting(const Error& error) {
  const Status status = tl::unexpected<Error>(error);
  // Whoever waits for a slot is answered now and leaves when it would have had it.
  for (const std::uint32_t id : sorted_ids(jobs_)) {
    Job& job = jobs_.at(id);
    if (job.status && job.parts > 0) job.status = status;
    if (!job.has_slot && !job.answered) answer(id, status);
  }
  for (const std::uint32_t id : data_.take_all()) part_done(id, status);
  for (const std::uint32_t piece : zeros_.take_all()) part_done(zero_pieces_.extract(piece).mapped().job, status);
}

void WriteLane::drop(const Error& error) {
  const Status status = tl::unexpected<Error>(error);
  auto jobs = std::exchange(jobs_, {});
  for (const std::uint32_t id : sorted_ids(jobs)) {
    Job& job = jobs.at(id);
    if (job.answered || !job.write) continue;
    shared_.mailbox.answered(DiskMailbox::Kind::kWrite);
    job.write->done(status);
  }
}

}  // namespace tiercel::disk
