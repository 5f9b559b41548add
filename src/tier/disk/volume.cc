#include "tier/disk/volume.h"

#include <type_traits>
#include <utility>

namespace tiercel::disk {

Volume::Volume(const Shared& shared, std::shared_ptr<Metadata> metadata)
    : shared_(shared),
      metadata_(std::move(metadata)),
      pages_(shared_, *metadata_),
      reads_(shared_, [this](const DiskRead& read) { return find(read); }),
      writes_(
          shared_, *metadata_, pages_,
          [this](const DiskBlock& block, PageWriter::Done done) { return burials_.uncover(block, std::move(done)); }),
      burials_(shared_, *metadata_, pages_, writes_, [this](const SuperblockUpdate& update, PageWriter::Done done) {
        write_superblock(update, std::move(done));
      }) {}

std::optional<ReadLane::Place> Volume::find(const DiskRead& read) const {
  const Layout& layout = metadata_->layout();
  DiskBlock held;
  if (read.slot >= layout.slots() || metadata_->header(read.slot, held) != Fault::kNone) return std::nullopt;
  const bool same =
      held.generation == read.generation && held.slot_bytes == read.slot_bytes && held.length == read.length;
  if (!same) return std::nullopt;
  return ReadLane::Place{.offset = layout.data_offset(read.slot, read.slot_bytes)};
}

void Volume::recovered(const TombstoneIndex& old_log) {
  recovered_ = true;
  burials_.set_old_log(old_log);
  for (const std::uint32_t page : metadata_->repaired_pages()) pages_.touch(page);
  for (OrderedJob& job : std::exchange(held_, {})) run(std::move(job));
  if (held_checkpoint_) begin_checkpoint(*std::exchange(held_checkpoint_, std::nullopt));
}

void Volume::take(Mail& mail) {
  for (DiskRead& read : mail.reads) reads_.add(std::move(read));
  for (OrderedJob& job : mail.ordered) {
    if (recovered_) {
      run(std::move(job));
    } else {
      held_.push_back(std::move(job));
    }
  }
  if (mail.forget_deletes && recovered_) {
    metadata_->carry_epoch(*mail.forget_deletes);
    burials_.renew_log();
  }
  if (!mail.checkpoint) return;
  if (recovered_) {
    begin_checkpoint(*mail.checkpoint);
  } else {
    held_checkpoint_ = std::move(mail.checkpoint);
  }
}

void Volume::run(OrderedJob&& job) {
  std::visit(
      [this]<class Job>(Job&& one) {
        using Kind = std::remove_cvref_t<Job>;
        if constexpr (std::is_same_v<Kind, DiskWrite>) {
          writes_.add(std::forward<Job>(one));
        } else if constexpr (std::is_same_v<Kind, ClearJob>) {
          writes_.clear(one.slot);
        } else {
          burials_.add(std::forward<Job>(one));
        }
      },
      std::move(job));
}

void Volume::start() {
  reads_.start();
  burials_.start();
  pages_.start();
  writes_.start(reads_.waiting());
}

void Volume::begin_checkpoint(std::span<const std::uint32_t> coldest_first) {
  const PageRange range = metadata_->put_checkpoint(coldest_first);
  checkpoint_pages_ = range.count + 1;
  const auto page_done = [this](const Status&) {  // advisory: what is not written is not missed
    if (--checkpoint_pages_ == 0) shared_.mailbox.answered(DiskMailbox::Kind::kCheckpoint);
  };
  for (std::uint32_t page = range.first; page < range.first + range.count; ++page) pages_.want(page, page_done);
  page_done({});
}

void Volume::write_superblock(const SuperblockUpdate& update, PageWriter::Done done) {
  const std::shared_ptr<std::byte> page = allocate_pages(kPageBytes);
  encode(update.superblock, PageSpan(page.get(), kPageBytes));
  pages_.write_page(update.offset(), page, [this, update, done = std::move(done)](const Status& written) {
    if (!written) return done(written);
    pages_.sync([this, update, done](const Status& synced) {
      if (synced) metadata_->apply(update);
      done(synced);
    });
  });
}

void Volume::raise_epoch(std::uint64_t epoch, PageWriter::Done done) {
  Superblock raised = metadata_->superblock();
  raised.boot_epoch = epoch;
  write_superblock(metadata_->update(raised), std::move(done));
}

void Volume::close(PageWriter::Done done) {
  pages_.want_all([this, done = std::move(done)](const Status& written) {
    if (!written) return done(written);
    pages_.sync([this, done](const Status& synced) {
      if (!synced) return done(synced);
      Superblock closed = metadata_->superblock();
      closed.clean = true;
      write_superblock(metadata_->update(closed), done);
    });
  });
}

void Volume::fail_held(const Error& error) {
  for (OrderedJob& job : std::exchange(held_, {})) {
    if (std::holds_alternative<ClearJob>(job)) {
      held_.push_back(std::move(job));
    } else if (const auto* write = std::get_if<DiskWrite>(&job)) {
      shared_.mailbox.answered(DiskMailbox::Kind::kWrite);
      write->done(tl::unexpected<Error>(error));
    } else if (const auto* burial = std::get_if<BuryJob>(&job)) {
      // Its blocks are doomed all the same: their headers go with the next images.
      for (const std::uint32_t slot : burial->slots) held_.emplace_back(ClearJob{slot});
      shared_.mailbox.answered(DiskMailbox::Kind::kBury);
      burial->done(tl::unexpected<Error>(error));
    }
  }
  if (std::exchange(held_checkpoint_, std::nullopt)) shared_.mailbox.answered(DiskMailbox::Kind::kCheckpoint);
}

void Volume::fail_writes(const Error& error) {
  fail_held(error);
  burials_.fail_waiting(error);
  writes_.fail_waiting(error);
  pages_.fail_waiting(error);
}

void Volume::drop(const Error& error) {
  fail_held(error);
  reads_.drop(error);
  burials_.drop(error);
  writes_.drop(error);
  if (std::exchange(checkpoint_pages_, 0) > 0) shared_.mailbox.answered(DiskMailbox::Kind::kCheckpoint);
}

bool Volume::idle() const noexcept {
  return held_.empty() && !held_checkpoint_ && reads_.unanswered() == 0 && writes_.idle() && burials_.idle() &&
         pages_.idle();
}

}  // namespace tiercel::disk
