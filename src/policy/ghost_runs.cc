#include "policy/ghost_runs.h"

#include "base/check.h"
#include "policy/tight_growth.h"

namespace tiercel {
namespace {

/// Part of a name; a false match makes a run seem longer than what is shared, once in 65,536.
std::uint16_t mark_of(std::uint64_t name) { return static_cast<std::uint16_t>((name * 0x9E3779B97F4A7C15U) >> 48U); }

}  // namespace

GhostRuns::Index GhostRuns::find(std::uint64_t name) const { return numbers_.find(name, name_of()); }

std::uint32_t GhostRuns::shared(Index index, std::span<const std::uint64_t> names) const {
  const Run& run = runs_[index];
  for (std::size_t i = 0; i < kMarks; ++i) {
    if (kMarkedFromEnd[i] >= run.blocks) break;
    const std::uint32_t place = run.blocks - 1U - kMarkedFromEnd[i];
    if (place < names.size() && mark_of(names[place]) == run.marks[i]) return place + 1;
  }
  return 1;
}

void GhostRuns::mark(Run& run) {
  for (std::size_t i = 0; i < kMarks; ++i) {
    if (run.blocks == kMarkedFromEnd[i] + 1) run.marks[i] = mark_of(run.name);
  }
}

GhostRuns::Index GhostRuns::add(const Run& run) {
  TIERCEL_CHECK(!full() && run.blocks == 1, "a run begins with one block, where there is room");
  Index index = free_;
  if (index == kNone) {
    index = static_cast<Index>(runs_.size());
    push_tightly(runs_, run);
  } else {
    free_ = runs_[index].older;
    runs_[index] = run;
  }
  mark(runs_[index]);
  numbers_.insert(index, name_of());
  link_newest(index);
  ++count_;
  return index;
}

void GhostRuns::grow(Index index, std::uint64_t name, std::uint8_t pace) {
  Run& run = runs_[index];
  numbers_.erase(run.name, name_of());
  run.name = name;
  run.pace = pace;
  ++run.blocks;
  mark(run);
  numbers_.insert(index, name_of());
  if (newest_ != index) {
    unlink(index);
    link_newest(index);
  }
}

void GhostRuns::remove(Index index) {
  numbers_.erase(runs_[index].name, name_of());
  unlink(index);
  runs_[index] = Run{.older = free_};
  free_ = index;
  --count_;
}

void GhostRuns::link_newest(Index index) {
  runs_[index].older = newest_;
  runs_[index].newer = kNone;
  (newest_ == kNone ? oldest_ : runs_[newest_].newer) = index;
  newest_ = index;
}

void GhostRuns::unlink(Index index) {
  const Run& run = runs_[index];
  (run.older == kNone ? oldest_ : runs_[run.older].newer) = run.newer;
  (run.newer == kNone ? newest_ : runs_[run.newer].older) = run.older;
}

}  // namespace tiercel
