#include "service/client/holdings.h"

#include "base/check.h"

namespace tiercel::service {

Holdings::Grant Holdings::granted(const wire::Place& place, std::uint64_t epoch) {
  if (place.length() == 0 || place.offset() > arena_->bytes() || place.length() > arena_->bytes() - place.offset()) {
    return Grant::kOutside;
  }
  const MutexLock lock(mutex_);
  if (place.slot() >= counts_.size()) return Grant::kOutside;
  if (epoch != epoch_) return Grant::kStale;
  const std::size_t most = to_return_.size() + held_slots_ + 1;
  if (to_return_.capacity() < most) to_return_.reserve(2 * most);  // giving back must not allocate
  Count& count = counts_[place.slot()];
  if (count.handles == 0) ++held_slots_;
  ++count.handles;
  ++count.grants;
  return Grant::kTaken;
}

void Holdings::keep_life(FileDescriptor life) noexcept {
  const MutexLock lock(mutex_);
  life_ = std::move(life);  // the one before is closed after the new one has its lock
}

void Holdings::retain(std::uint32_t slot) noexcept {
  const MutexLock lock(mutex_);
  ++counts_[slot].handles;
}

void Holdings::release(std::uint32_t slot) noexcept {
  bool first = false;
  {
    const MutexLock lock(mutex_);
    Count& count = counts_[slot];
    TIERCEL_CHECK(count.handles > 0, "a slot is released as often as it was held");
    if (--count.handles > 0) return;
    first = to_return_.empty();
    to_return_.emplace_back(slot, std::exchange(count.grants, 0));
    --held_slots_;
  }
  if (first && returned_) returned_();
}

bool Holdings::hand_back(std::uint32_t slot, std::uint64_t epoch) noexcept {
  const MutexLock lock(mutex_);
  Count& count = counts_[slot];
  if (epoch != epoch_ || count.handles != 1 || count.grants != 1) return false;
  count = {};  // its place in held_slots_ stays until take_again or handed_over: there must be room to return it
  return true;
}

bool Holdings::take_again(std::uint32_t slot, std::uint64_t epoch) noexcept {
  const MutexLock lock(mutex_);
  if (epoch != epoch_) {
    --held_slots_;
    return false;
  }
  Count& count = counts_[slot];
  if (count.handles > 0) --held_slots_;  // granted anew meanwhile
  ++count.handles;
  ++count.grants;
  return true;
}

void Holdings::handed_over() noexcept {
  const MutexLock lock(mutex_);
  --held_slots_;
}

std::vector<wire::Grants> Holdings::take_returned(std::uint64_t epoch) {
  const MutexLock lock(mutex_);
  if (epoch != epoch_ || to_return_.empty()) return {};
  std::vector<wire::Grants> returned = to_return_;  // a copy: the vector keeps its room
  to_return_.clear();
  return returned;
}

Holdings::All Holdings::all() {
  const MutexLock lock(mutex_);
  All all;
  for (std::uint32_t slot = 0; slot < counts_.size(); ++slot) {
    if (counts_[slot].grants > 0) all.grants.emplace_back(slot, counts_[slot].grants);
  }
  to_return_.clear();
  all.epoch = ++epoch_;
  return all;
}

bool Holdings::empty() const {
  const MutexLock lock(mutex_);
  return held_slots_ == 0;
}

}  // namespace tiercel::service
