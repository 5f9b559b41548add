#include "tier/disk/disk_mailbox.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace tiercel::disk {

void DiskMailbox::rouse() noexcept {
  if (!waiting_) return;
  waiting_ = false;
  if (backend_ != nullptr) backend_->wake();
  roused_.notify_all();
}

DiskSubmit DiskMailbox::read(DiskRead&& job) {
  const MutexLock lock(mutex_);
  if (!doors_.reads) return DiskSubmit::kOff;
  if (!room(Kind::kRead)) return DiskSubmit::kBusy;
  count(Kind::kRead).fetch_add(1, std::memory_order_acq_rel);
  mail_.reads.push_back(std::move(job));
  rouse();
  return DiskSubmit::kTaken;
}

DiskSubmit DiskMailbox::write(DiskWrite&& job) {
  const MutexLock lock(mutex_);
  if (!doors_.writes) return DiskSubmit::kOff;
  if (!room(Kind::kWrite)) return DiskSubmit::kBusy;
  count(Kind::kWrite).fetch_add(1, std::memory_order_acq_rel);
  mail_.ordered.emplace_back(std::move(job));
  rouse();
  return DiskSubmit::kTaken;
}

void DiskMailbox::clear(std::uint32_t slot) {
  const MutexLock lock(mutex_);
  if (!doors_.clears) return;  // there is no file whose header it could be
  mail_.ordered.emplace_back(ClearJob{slot});
}

DiskSubmit DiskMailbox::bury(std::span<const Tombstone> tombstones, std::span<const std::uint32_t> slots,
                             std::function<void(const Status&)> done, BuryScope scope) {
  BuryJob job{.tombstones = {tombstones.begin(), tombstones.end()},
              .slots = {slots.begin(), slots.end()},
              .done = std::move(done),
              .scope = scope};
  const MutexLock lock(mutex_);
  if (!doors_.writes) return DiskSubmit::kOff;
  if (!room(Kind::kBury)) return DiskSubmit::kBusy;
  count(Kind::kBury).fetch_add(1, std::memory_order_acq_rel);
  mail_.ordered.emplace_back(std::move(job));
  rouse();
  return DiskSubmit::kTaken;
}

DiskSubmit DiskMailbox::checkpoint(std::vector<std::uint32_t> coldest_first) {
  const MutexLock lock(mutex_);
  if (!doors_.writes) return DiskSubmit::kOff;
  if (count(Kind::kCheckpoint).load(std::memory_order_acquire) > 0) return DiskSubmit::kBusy;
  count(Kind::kCheckpoint).fetch_add(1, std::memory_order_acq_rel);
  mail_.checkpoint = std::move(coldest_first);
  rouse();
  return DiskSubmit::kTaken;
}

void DiskMailbox::forget_deletes(std::uint64_t epoch) noexcept {
  const MutexLock lock(mutex_);
  if (!doors_.clears) return;
  mail_.forget_deletes = std::max(mail_.forget_deletes.value_or(0), epoch);
  rouse();
}

void DiskMailbox::wake() noexcept {
  const MutexLock lock(mutex_);
  woken_ = true;
  rouse();
}

void DiskMailbox::close() noexcept {
  const MutexLock lock(mutex_);
  doors_ = {};
  closing_.store(true, std::memory_order_release);
  woken_ = true;
  rouse();
}

void DiskMailbox::hurry() noexcept {
  hurried_.store(true, std::memory_order_release);
  wake();
}

std::uint64_t DiskMailbox::unanswered() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& jobs : counts_) sum += jobs.load(std::memory_order_acquire);
  return sum;
}

bool DiskMailbox::has_mail() const noexcept {
  const MutexLock lock(mutex_);
  return mail_waits();
}

void DiskMailbox::set_doors(const Doors& doors) {
  const MutexLock lock(mutex_);
  doors_ = closing() ? Doors{} : doors;
}

void DiskMailbox::take(Mail& mail) {
  const MutexLock lock(mutex_);
  std::swap(mail, mail_);
}

void DiskMailbox::refuse(const Mail& mail, const Error& error) {
  const Status status = tl::unexpected<Error>(error);
  for (const DiskRead& read : mail.reads) {
    answered(Kind::kRead);
    read.done(status);
  }
  for (const OrderedJob& job : mail.ordered) {
    if (const auto* write = std::get_if<DiskWrite>(&job)) {
      answered(Kind::kWrite);
      write->done(status);
    } else if (const auto* burial = std::get_if<BuryJob>(&job)) {
      answered(Kind::kBury);
      burial->done(status);
    }
  }
  if (mail.checkpoint) answered(Kind::kCheckpoint);
}

void DiskMailbox::set_backend(IoBackend* backend) noexcept {
  const MutexLock lock(mutex_);
  backend_ = backend;
}

bool DiskMailbox::begin_wait() noexcept {
  const MutexLock lock(mutex_);
  if (std::exchange(woken_, false) || mail_waits()) return false;
  waiting_ = true;
  return true;
}

void DiskMailbox::end_wait() noexcept {
  const MutexLock lock(mutex_);
  waiting_ = false;
  woken_ = false;
}

void DiskMailbox::wait(std::uint64_t wait_ns) {
  // Far enough for any wait, near enough not to overflow the system's clock.
  const auto time = std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(wait_ns, std::uint64_t{1} << 60U)));
  MutexLock lock(mutex_);
  if (std::exchange(woken_, false) || mail_waits()) return;
  waiting_ = true;
  roused_.wait_for(lock.native(), time, [this]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return !waiting_; });
  waiting_ = false;
  woken_ = false;
}

}  // namespace tiercel::disk
