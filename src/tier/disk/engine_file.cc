// The life of the engine's file: opened, recovered, lost, closed.
#include "base/log.h"
#include "tier/disk/engine.h"

#include <algorithm>
#include <utility>

namespace tiercel {

using disk::Device;

void DiskTier::Engine::advance() {
  const bool closing = mailbox_.closing();
  switch (phase_) {
    case Phase::kNone: {
      const bool unended = device_.in_flight() > 0 || (opening_ != nullptr && opening_->in_flight() > 0);
      if (closing) {
        finish_closing();
      } else if (!unended && clock_.now_ns() >= next_try_ns_) {
        // Not before: an old operation that lands on a file opened anew would be nobody's.
        begin_opening();
      }
      break;
    }
    case Phase::kOpening:
      if (closing) opening_->stop();
      if (opening_->step(0)) {
        if (closing) {
          opening_.reset();
          phase_ = Phase::kNone;
        } else if (const Status& status = opening_->status(); status) {
          opened();
        } else {
          open_failed(status.error());
        }
      }
      break;
    case Phase::kRaising:
      if (closing) {
        phase_ = Phase::kNone;
      } else if (raised_ && !*raised_) {
        const Error error = raised_->error();
        give_up_file(error);
        open_failed(error);
      } else if (raised_) {
        begin_recovery();
      }
      break;
    case Phase::kRecovering:
      recovered_bytes_ = recovery_->reader().report().bytes_read;
      if (closing) {
        give_up_file({.code = ErrorCode::kClosed, .message = "the disk tier is closed"});
      } else if (owner_is_at_it_ = events_.go_on(); owner_is_at_it_) {
        break;
      } else if (recovery_->step()) {
        recovered();
      }
      break;
    case Phase::kUp:
      if (closing && !hurried_ && mailbox_.hurried() && !mailbox_.has_mail()) {
        const Error error{.code = ErrorCode::kClosed, .message = "the disk tier is closed"};
        hurried_ = true;
        volume_->fail_reads(error);
        volume_->fail_writes(error);
      }
      if (closing && volume_->idle() && !mailbox_.has_mail()) {
        phase_ = Phase::kClosing;
        if (breaker_.reads_open() || breaker_.writes_open()) return finish_closing();
        volume_->close([this](const Status&) { phase_ = Phase::kNone; });
      }
      break;
    case Phase::kClosing:
    case Phase::kClosed:
      break;
  }
}

void DiskTier::Engine::begin_opening() {
  lock_.reset();  // of the file before: nothing of it runs any more
  discards_ = discard_wanted_;
  opening_ = std::make_unique<disk::Opening>(disk::OpenRequest{.directory = options_.directory,
                                                               .capacity = options_.capacity,
                                                               .extent_bytes = options_.extent_bytes,
                                                               .min_slot_bytes = options_.min_slot_bytes,
                                                               .max_namespaces = options_.max_namespaces,
                                                               .log_pages = options_.log_pages,
                                                               .depth = Device::file_depth(options_.depth),
                                                               .io_deadline_ns = options_.io_deadline_ns,
                                                               .reset = discards_ || (options_.reset && !opened_once_),
                                                               .must_exist = opened_once_ && !discards_,
                                                               .direct = options_.direct,
                                                               .ended_operations = &counters_.ended_operations},
                                             files_, clock_);
  phase_ = Phase::kOpening;
}

void DiskTier::Engine::open_failed(const Error& error) {
  phase_ = Phase::kNone;
  // Twice as long each time, to a limit: what is missing or held is looked for again, not asked for all the time.
  const std::uint64_t wait_ns = options_.probe_interval_ns << std::min(failed_opens_, 4U);
  ++failed_opens_;
  next_try_ns_ = deadline_after(clock_.now_ns(), wait_ns);
  const bool ours = error.code == ErrorCode::kIo || error.code == ErrorCode::kTimeout ||
                    error.code == ErrorCode::kNotFound || error.code == ErrorCode::kOutOfMemory;
  if (cause_ != error.message && state() != DiskState::kStarting) {
    log_line(LogLevel::kWarn, "disk_open", options_.directory + ": " + error.message);
  }
  set_state(ours ? DiskState::kOff : DiskState::kRefused, error.message);
}

void DiskTier::Engine::opened() {
  disk::OpenedFile opened = opening_->take();
  opening_.reset();
  lock_ = std::move(opened.lock);
  failed_opens_ = 0;
  opened_once_ = true;
  breaker_.reset();
  pacer_.reset();
  mailbox_.set_backend(&opened.file->backend());
  device_.open(std::move(opened.file));
  watch_.reset();
  registration_.reset();
  volume_ = std::make_unique<disk::Volume>(
      disk::Shared{options_, clock_, device_, breaker_, pacer_, counters_, mailbox_}, opened.metadata);
  if (opened.lost_slots > 0) {
    log_line(LogLevel::kWarn, "disk_shrunk",
             options_.directory + ": " + std::to_string(opened.lost_slots) + " blocks had no room in the smaller file");
  }
  if (opened.metadata->epoch() > epoch_) return begin_recovery();
  // A new file in the place of one that was lost counts its boots anew; generations may not.
  phase_ = Phase::kRaising;
  raised_.reset();
  volume_->raise_epoch(epoch_ + 1, [this](const Status& status) { raised_ = status; });
}

void DiskTier::Engine::begin_recovery() {
  phase_ = Phase::kRecovering;
  recovered_bytes_ = 0;
  disk::RecoverySink& sink = *this;
  recovery_ = std::make_unique<disk::Recovery>(
      volume_->share_metadata(), *device_.file(), clock_,
      disk::Recovery::Options{.patience_ns = options_.io_deadline_ns, .ended_operations = &counters_.ended_operations},
      sink);
}

void DiskTier::Engine::on_region(const disk::TombstoneIndex& buried) {
  const disk::Metadata& metadata = volume_->metadata();
  epoch_ = metadata.epoch();
  if (discards_) discard_wanted_ = false;  // also what was asked for since: this file has nothing
  const disk::Shape& shape = metadata.layout().shape();
  const std::vector<std::uint64_t> sizes = metadata.slot_sizes();
  const std::vector<Tombstone> tombstones = buried.names();
  events_.on_opened(
      {.extents = shape.extents,
       .extent_bytes = shape.extent_bytes,
       .min_slot_bytes = shape.min_slot_bytes,
       .epoch = epoch_,
       .slot_bytes = sizes,
       .tombstones = tombstones,
       .discarded = discards_,
       .header =
           [held = volume_->share_metadata()](std::uint32_t slot, DiskBlock& to) {
             // The epochs are the driver's to read; what on_found has named was looked at with them.
             return held->examine({.slot = slot, .epochs = UINT64_MAX}, to).fault == disk::Fault::kNone;
           },
       .prefetch_header = [held = volume_->share_metadata()](std::uint32_t slot) { held->prefetch_header(slot); }});
  update_doors();
}

void DiskTier::Engine::on_found(std::span<const DiskBlock> blocks) { events_.on_found(blocks); }

void DiskTier::Engine::recovered() {
  if (const Status& status = recovery_->status(); !status) {
    // Not readable now: as if it had not opened.
    const Error error = status.error();
    lose(error.message, false);
    return open_failed(error);
  }
  const DiskRecovery report = std::move(recovery_->reader().report());
  phase_ = Phase::kUp;
  quiet_ = false;
  volume_->recovered(recovery_->reader().buried());
  recovery_.reset();
  judge();  // who is told that all is indexed finds the state that goes with it
  events_.on_recovered(report);
}

/// Every copy in the file is gone for the owner; the file is looked for again at once.
void DiskTier::Engine::lose(const std::string& cause, bool empty_it) {
  set_state(DiskState::kOff, cause);
  take_mail();
  give_up_file({.code = ErrorCode::kIo, .message = "the file is lost: " + cause}, empty_it);
  next_try_ns_ = clock_.now_ns();
  events_.on_lost();
}

void DiskTier::Engine::give_up_file(const Error& error, bool empty_it) {
  mailbox_.set_doors({});
  mailbox_.set_backend(nullptr);
  recovery_.reset();
  device_.give_up(empty_it);
  watch_.reset();
  if (volume_ != nullptr) volume_->drop(error);
  volume_.reset();
  if (phase_ != Phase::kClosed) phase_ = Phase::kNone;
}

void DiskTier::Engine::finish_closing() {
  give_up_file({.code = ErrorCode::kClosed, .message = "the disk tier is closed"});
  // Not by destruction alone: whoever holds a block of a closed cache must not keep its directory from the next one.
  const bool unended = device_.in_flight() > 0 || (opening_ != nullptr && opening_->in_flight() > 0);
  if (!unended) lock_.reset();
  phase_ = Phase::kClosed;
  set_state(DiskState::kClosed, "");
}

}  // namespace tiercel
