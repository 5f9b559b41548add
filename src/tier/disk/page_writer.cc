#include "tier/disk/page_writer.h"

#include "tier/disk/format.h"

#include <cstring>
#include <utility>

namespace tiercel::disk {

void PageWriter::want(std::uint32_t page, Done done) {
  const MetadataPages::Waiter waiter = next_waiter_++;
  waiters_.emplace(waiter, Waiter{.done = std::move(done)});
  pages_.want(page, waiter);
}

void PageWriter::want_all(Done done) {
  const MetadataPages::Waiter waiter = next_waiter_++;
  const std::uint64_t times = pages_.want_all(waiter);
  if (times == 0) return done({});
  waiters_.emplace(waiter, Waiter{.done = std::move(done), .times = times});
}

void PageWriter::tell(const std::vector<MetadataPages::Waiter>& waiters, const Status& status) {
  for (const MetadataPages::Waiter id : waiters) {
    const auto found = waiters_.find(id);
    if (found == waiters_.end()) continue;
    if (!status && found->second.status) found->second.status = status;
    if (--found->second.times > 0) continue;
    const Waiter waiter = std::move(found->second);
    waiters_.erase(found);
    waiter.done(waiter.status);
  }
}

void PageWriter::start() {
  while (!syncs_.empty() && shared_.device.room(IoClass::kMetadata)) {
    // One sync serves all that wait for one now: what they mean has completed.
    auto waiting = std::exchange(syncs_, {});
    shared_.device.submit({.kind = IoKind::kSync,
                           .io_class = IoClass::kMetadata,
                           .done = [waiting = std::move(waiting)](const Status& status) {
                             for (const Done& done : waiting) done(status);
                           }});
  }
  if (!singles_.empty() && !single_flies_ && shared_.device.room(IoClass::kMetadata)) {
    Single single = std::move(singles_.front());
    singles_.pop_front();
    start(std::move(single));
  }
  while (writes_ < kWrites && pages_.wanted() && shared_.device.room(IoClass::kMetadata)) {
    const auto run = pages_.take(kMostPages);
    if (!run) break;
    start(*run);
  }
}

void PageWriter::start(const MetadataPages::Run& run) {
  const std::uint64_t bytes = std::uint64_t{run.count} * kPageBytes;
  const std::shared_ptr<std::byte> copy = allocate_pages(bytes);
  for (std::uint32_t i = 0; i < run.count; ++i) {
    std::memcpy(copy.get() + i * kPageBytes, metadata_.page(run.page + i).data(), kPageBytes);
  }
  DeviceIo io{
      .kind = IoKind::kWrite, .io_class = IoClass::kMetadata, .offset = metadata_.layout().page_offset(run.page)};
  io.segments[0] = {.data = copy.get(), .bytes = bytes};
  io.segment_count = 1;
  io.keep = copy;
  // A write past its deadline has failed for those who wait, but its pages are not written again before it has ended.
  const auto outcome = std::make_shared<Status>();
  io.done = [this, run, outcome](const Status& status) {
    *outcome = status;
    if (!status) tell(pages_.take_riders(run), status);
  };
  io.ended = [this, run, outcome] {
    --writes_;
    tell(pages_.finish(run, outcome->has_value()), *outcome);
  };
  ++writes_;
  shared_.counters.header_pages += run.count;
  shared_.device.submit(std::move(io));
}

void PageWriter::write_page(std::uint64_t offset, std::shared_ptr<std::byte> page, Done done) {
  singles_.push_back({.offset = offset, .page = std::move(page), .done = std::move(done)});
}

void PageWriter::start(Single single) {
  single_flies_ = true;
  DeviceIo io{.kind = IoKind::kWrite, .io_class = IoClass::kMetadata, .offset = single.offset, .segment_count = 1};
  io.segments[0] = {.data = single.page.get(), .bytes = kPageBytes};
  io.keep = std::move(single.page);
  io.done = std::move(single.done);
  io.ended = [this] { single_flies_ = false; };
  shared_.device.submit(std::move(io));
}

void PageWriter::sync(Done done) { syncs_.push_back(std::move(done)); }

void PageWriter::fail_waiting(const Error& error) {
  const Status status = tl::unexpected<Error>(error);
  for (const Done& done : std::exchange(syncs_, {})) done(status);
  for (const Single& single : std::exchange(singles_, {})) single.done(status);
  tell(pages_.give_up_wanted(), status);
}

}  // namespace tiercel::disk
