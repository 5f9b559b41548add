#include "service/client/holdings.h"

#include "base/check.h"
#include "base/make_room.h"

namespace tiercel::service {

bool Holdings::granted(const wire::Place& place) {
  if (place.length() == 0 || place.offset() > arena_->bytes() || place.length() > arena_->bytes() - place.offset()) {
    return false;
  }
  const MutexLock lock(mutex_);
  if (place.slot() >= counts_.size()) return false;
  make_room(to_return_, held_slots_ + 1);  // giving back must not allocate
  Count& count = counts_[place.slot()];
  if (count.handles == 0) ++held_slots_;
  ++count.handles;
  ++count.grants;
  return true;
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

bool Holdings::hand_back(std::uint32_t slot) noexcept {
  const MutexLock lock(mutex_);
  Count& count = counts_[slot];
  if (count.handles != 1 || count.grants != 1) return false;
  count = {};
  --held_slots_;
  return true;
}

void Holdings::take_again(std::uint32_t slot) noexcept {
  const MutexLock lock(mutex_);
  Count& count = counts_[slot];
  if (count.handles == 0) ++held_slots_;
  ++count.handles;
  ++count.grants;
}

std::vector<wire::Grants> Holdings::take_returned() {
  const MutexLock lock(mutex_);
  std::vector<wire::Grants> returned = to_return_;  // a copy: the vector keeps its room
  to_return_.clear();
  return returned;
}

std::vector<wire::Grants> Holdings::all() {
  const MutexLock lock(mutex_);
  std::vector<wire::Grants> held;
  for (std::uint32_t slot = 0; slot < counts_.size(); ++slot) {
    if (counts_[slot].grants > 0) held.emplace_back(slot, counts_[slot].grants);
  }
  to_return_.clear();
  return held;
}

bool Holdings::empty() const {
  const MutexLock lock(mutex_);
  return held_slots_ == 0;
}

}  // namespace tiercel::service
