#include "tier/disk/bury_lane.h"

#include <algorithm>
#include <set>
#include <utility>

namespace tiercel::disk {

BuryLane::BuryLane(const Shared& shared, Metadata& metadata, PageWriter& pages, WriteLane& writes,
                   WriteSuperblock superblock)
    : shared_(shared), metadata_(metadata), pages_(pages), writes_(writes), write_superblock_(std::move(superblock)) {}

void BuryLane::add(BuryJob&& job) {
  const Layout& layout = metadata_.layout();
  const bool places = std::ranges::all_of(job.slots, [&](std::uint32_t slot) { return slot < layout.slots(); });
  Status refused;
  if (!places) refused = fail(ErrorCode::kInvalidArgument, "a slot to bury is not in the file");
  if (job.tombstones.size() > layout.log_records()) {
    refused = fail(ErrorCode::kLimit, std::to_string(job.tombstones.size()) + " tombstones at once; at most " +
                                          std::to_string(layout.log_records()) + " are possible");
  }
  if (!refused) {
    shared_.mailbox.answered(DiskMailbox::Kind::kBury);
    job.done(refused);
    return;
  }
  // From now on nothing that is on its way into these slots is published, and no new image names them. The zeros wait
  // for their slots, so that a write that comes later stands behind them; they may be in the file before the tombstone
  // is: a header without its bytes is a miss.
  const std::uint32_t id = next_id_++;
  Job& state = jobs_[id];
  state.burial = std::move(job);
  state.parts = 1 + state.burial.slots.size();
  const std::vector<std::uint32_t> slots = state.burial.slots;
  for (const std::uint32_t slot : slots) {
    writes_.clear(slot);
    writes_.overwrite(slot, [this, id](const Status& status) { part_done(id, status); });
  }
  waiting_.push_back(id);
}

void BuryLane::renew_log() noexcept {
  renewal_wanted_ =
      metadata_.free_tombstones() < metadata_.layout().log_records() || metadata_.carried_epoch() > metadata_.epoch();
}

bool BuryLane::uncover(const DiskBlock& block, PageWriter::Done done) {
  if (!old_log_.covers(block)) return false;
  covered_.push_back(std::move(done));
  renewal_wanted_ = renewal_wanted_ || !turning_;
  return true;
}

void BuryLane::start() {
  if (!turning_ && std::exchange(renewal_wanted_, false)) turn();
  while (!turning_ && !waiting_.empty()) {
    const std::uint32_t id = waiting_.front();
    if (jobs_.at(id).burial.tombstones.size() > metadata_.free_tombstones()) {
      log_is_full_ = true;
      return turn();
    }
    waiting_.pop_front();
    append(id);
  }
}

void BuryLane::append(std::uint32_t id) {
  Job& job = jobs_.at(id);
  std::set<std::uint32_t> log_pages;
  for (const Tombstone& tombstone : job.burial.tombstones) log_pages.insert(metadata_.append(tombstone));
  job.parts += log_pages.size();
  const auto missing = std::make_shared<std::size_t>(log_pages.size());
  for (const std::uint32_t page : log_pages) {
    pages_.want(page, [this, id, missing](const Status& written) {
      if (--*missing == 0 && written && jobs_.at(id).status) {
        ++jobs_.at(id).parts;
        pages_.sync([this, id](const Status& synced) {
          if (synced) log_written(id);
          part_done(id, synced);
        });
      }
      part_done(id, written);
    });
  }
  if (log_pages.empty()) log_written(id);
  part_done(id, {});
}

/// The tombstones are durable: the headers may go.
void BuryLane::log_written(std::uint32_t id) {
  Job& job = jobs_.at(id);
  shared_.counters.tombstones += job.burial.tombstones.size();
  std::set<std::uint32_t> header_pages;
  for (const std::uint32_t slot : job.burial.slots) header_pages.insert(metadata_.layout().header_page(slot));
  job.parts += header_pages.size();
  for (const std::uint32_t page : header_pages) {
    pages_.want(page, [this, id](const Status& status) { part_done(id, status); });
  }
  if (job.burial.scope == BuryScope::kSlots) return;
  ++job.parts;
  pages_.want_all([this, id](const Status& status) { part_done(id, status); });
}

void BuryLane::part_done(std::uint32_t id, const Status& status) {
  Job& job = jobs_.at(id);
  if (!status && job.status) job.status = status;
  if (--job.parts > 0) return;
  const bool headers = !job.burial.slots.empty() || job.burial.scope == BuryScope::kTable;
  if (!job.status || !headers) return finish(id, job.status);
  job.parts = 1;
  pages_.sync([this, id](const Status& synced) { finish(id, synced); });
}

/// The status is a copy: the job that it may come from is gone when the caller hears it.
void BuryLane::finish(std::uint32_t id, Status status) {  // NOLINT(performance-unnecessary-value-param)
  const auto found = jobs_.find(id);
  const BuryJob burial = std::move(found->second.burial);
  jobs_.erase(found);
  shared_.mailbox.answered(DiskMailbox::Kind::kBury);
  burial.done(status);
}

void BuryLane::turn() {
  turning_ = true;
  pages_.want_all([this](const Status& written) {
    if (!written) return turned(written);
    pages_.sync([this](const Status& synced) {
      if (!synced) return turned(synced);
      write_superblock_(metadata_.restart_log(), [this](const Status& status) { turned(status); });
    });
  });
}

void BuryLane::turned(const Status& status) {
  turning_ = false;
  const bool was_full = std::exchange(log_is_full_, false);
  if (status) {
    old_log_ = {};
    shared_.counters.full_logs += was_full ? 1 : 0;
  }
  for (const PageWriter::Done& done : std::exchange(covered_, {})) done(status);
}

void BuryLane::fail_waiting(const Error& error) {
  renewal_wanted_ = false;
  if (!turning_) turned(tl::unexpected<Error>(error));
  for (const std::uint32_t id : std::exchange(waiting_, {})) part_done(id, tl::unexpected<Error>(error));
}

void BuryLane::drop(const Error& error) {
  waiting_.clear();
  auto jobs = std::exchange(jobs_, {});
  std::vector<std::uint32_t> ids;
  for (const auto& [id, job] : jobs) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const std::uint32_t id : ids) {
    shared_.mailbox.answered(DiskMailbox::Kind::kBury);
    jobs.at(id).burial.done(tl::unexpected<Error>(error));
  }
}

}  // namespace tiercel::disk
