#include "policy/shadow_lru.h"

namespace tiercel {
namespace {

std::uint32_t mark_of(std::uint64_t name) {
  name = (name ^ name >> 32U) * 0xD6E8FEB86659FD93U;
  return static_cast<std::uint32_t>(name >> 32U);
}

}  // namespace

ShadowLru::ShadowLru(std::uint64_t capacity) : capacity_(capacity), numbers_(capacity) { entries_.reserve(capacity); }

bool ShadowLru::holds(std::uint64_t block) const { return numbers_.find(mark_of(block), mark_at()) != kNone; }

void ShadowLru::touch(std::uint64_t block) {
  if (capacity_ == 0) return;
  std::uint32_t entry = numbers_.find(mark_of(block), mark_at());
  if (entry != kNone) {
    unlink(entry);
  } else if (entries_.size() < capacity_) {
    entry = static_cast<std::uint32_t>(entries_.size());
    entries_.push_back({.mark = mark_of(block)});
    numbers_.insert(entry, mark_at());
  } else {
    entry = oldest_;
    unlink(entry);
    numbers_.erase(entries_[entry].mark, mark_at());
    entries_[entry].mark = mark_of(block);
    numbers_.insert(entry, mark_at());
  }
  link_newest(entry);
}

void ShadowLru::link_newest(std::uint32_t entry) {
  entries_[entry].older = newest_;
  entries_[entry].newer = kNone;
  (newest_ == kNone ? oldest_ : entries_[newest_].newer) = entry;
  newest_ = entry;
}

void ShadowLru::unlink(std::uint32_t entry) {
  const Entry& gone = entries_[entry];
  (gone.older == kNone ? oldest_ : entries_[gone.older].newer) = gone.newer;
  (gone.newer == kNone ? newest_ : entries_[gone.newer].older) = gone.older;
}

}  // namespace tiercel
