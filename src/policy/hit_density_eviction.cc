// Of the HitDensityPolicy: the blocks that it holds, which of them goes, and what is remembered of those that went.
#include "policy/hit_density.h"
#include "policy/tight_growth.h"

#include <algorithm>

namespace tiercel {
namespace {

constexpr std::uint64_t kSample = 64;

// Work of a step, in units of WorkBudget.
constexpr std::uint64_t kSampleWork = 64;
constexpr std::uint64_t kEvictWork = 4;

}  // namespace

HitDensityPolicy::Index HitDensityPolicy::take_node(std::uint64_t name) {
  Index index = free_node_;
  if (index == kNone) {
    index = static_cast<Index>(nodes_.size());
    push_tightly(nodes_, Node{});
  } else {
    free_node_ = nodes_[index].parent;
    nodes_[index] = Node{};
  }
  nodes_[index].name = name;
  numbers_.insert(index, name_of());
  return index;
}

void HitDensityPolicy::add_child(Index parent) {
  if (nodes_[parent].is_leaf != 0) remove_leaf(parent);
  ++nodes_[parent].place;
}

void HitDensityPolicy::add_leaf(Index node) {
  nodes_[node].is_leaf = 1;
  nodes_[node].place = static_cast<Index>(leaves_.size());
  push_tightly(leaves_, node);
}

void HitDensityPolicy::remove_leaf(Index node) {
  const Index place = nodes_[node].place;
  leaves_[place] = leaves_.back();
  nodes_[leaves_[place]].place = place;
  leaves_.pop_back();
  nodes_[node].is_leaf = 0;
  nodes_[node].place = 0;
}

/// The worst of a sample goes, then its parents while theirs is no higher.
void HitDensityPolicy::evict_next(WorkBudget& work) {
  if (held_ <= options_.capacity) {
    victim_ = kNone;
    end_use();
    return;
  }
  if (victim_ == kNone) {
    victim_ = worst_of_a_sample();
    victim_worth_ = worth(victim_);
    work.spend(kSampleWork);
    return;
  }
  work.spend(kEvictWork);
  victim_ = evict(victim_);
  if (victim_ == kNone) return;
  const double parent_worth = nodes_[victim_].is_leaf != 0 ? worth(victim_) : victim_worth_ + 1;
  if (parent_worth > victim_worth_) victim_ = kNone;
  victim_worth_ = parent_worth;
}

HitDensityPolicy::Index HitDensityPolicy::worst_of_a_sample() {
  const bool all = leaves_.size() <= kSample;
  Index worst = kNone;
  double least = 0;
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(kSample, leaves_.size()); ++i) {
    const Index leaf = leaves_[all ? i : random_.below(leaves_.size())];
    const double value = worth(leaf);
    if (worst == kNone || value < least) {
      worst = leaf;
      least = value;
    }
  }
  return worst;
}

/// Answers the parent.
HitDensityPolicy::Index HitDensityPolicy::evict(Index leaf) {
  const Index parent = nodes_[leaf].parent;
  remove_leaf(leaf);
  --held_;
  remember(leaf);
  numbers_.erase(nodes_[leaf].name, name_of());
  nodes_[leaf] = Node{.parent = free_node_};
  free_node_ = leaf;
  if (parent != kNone) {
    --nodes_[parent].place;
    if (nodes_[parent].place == 0) add_leaf(parent);
  }
  return parent;
}

/// The last block of a use, often not full, seldom comes back once it is gone: it is not worth a ghost of its own.
bool HitDensityPolicy::was_end_of_its_use(const Node& node) const {
  return node.children_ever == 0 && model_.features_of(records_[node.record].cell).place == ReuseFeatures::Place::kLast;
}

void HitDensityPolicy::remember(Index index) {
  const Node& node = nodes_[index];
  if (growing_parent_ == index && ghosts_.may_grow(growing_, node.record)) {
    ghosts_.grow(growing_, node.name, node.pace);
  } else if (ghost_bytes_ < GhostRuns::kBytesPerRun || was_end_of_its_use(node)) {
    model_.on_forgotten(records_[node.record].cell, age_s(records_[node.record]));
    leave_record(node.record, 1);
  } else {
    for (int i = 0; i < 2 && ghosts_.size() > 0 && (ghosts_.full() || !has_room_for_ghosts(1)); ++i) {
      forget(ghosts_.oldest());
    }
    growing_ = ghosts_.add({.name = node.name,
                            .record = node.record,
                            .blocks = 1,
                            .pace = node.pace,
                            .children_of_last = node.children_ever});
  }
  growing_parent_ = node.parent;
}

bool HitDensityPolicy::has_room_for_ghosts(std::uint64_t more) const {
  const std::uint64_t records = used_records_ - std::min(used_records_, options_.capacity);
  return (ghosts_.size() + more) * GhostRuns::kBytesPerRun + records * sizeof(Record) <= ghost_bytes_;
}

void HitDensityPolicy::forget(GhostRuns::Index index) {
  const GhostRuns::Run& run = ghosts_.run(index);
  const Record& record = records_[run.record];
  model_.on_forgotten(record.cell, age_s(record), run.blocks);
  leave_record(run.record, run.blocks);
  ghosts_.remove(index);
}

}  // namespace tiercel
