#include "policy/hit_density.h"

#include "base/check.h"
#include "policy/tight_growth.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace tiercel {
namespace {

constexpr std::uint64_t kSample = 64;
constexpr std::uint64_t kShortestRefit = 20;
constexpr std::uint64_t kLongestRefit = 300;
constexpr std::uint64_t kHalveAfter = 10'000;  // uses
constexpr std::uint8_t kManyChildren = 3;
constexpr float kPaceKept = 0.7F;
constexpr float kPaceSteps = 8;    // an octave
constexpr float kPaceLowest = -6;  // log2 of seconds
constexpr float kFirstPaceEnd_s = 0.5;
constexpr float kPaceGrowth = 2.5;

std::uint32_t output_class(std::uint32_t tokens) {
  return std::min<std::uint32_t>(static_cast<std::uint32_t>(std::bit_width(tokens / 16)) - (tokens >= 16 ? 1 : 0),
                                 ReuseFeatures::kOutputs - 1);
}

std::uint32_t fresh_class(std::size_t fresh) {
  return std::min<std::uint32_t>(static_cast<std::uint32_t>(std::bit_width(fresh)), ReuseFeatures::kFreshs - 1);
}

std::uint8_t pace_code(float log_gap) {
  return static_cast<std::uint8_t>(std::clamp(1 + (log_gap - kPaceLowest) * kPaceSteps + 0.5F, 1.0F, 255.0F));
}
float log_gap_of(std::uint8_t pace) { return static_cast<float>(pace - 1) / kPaceSteps + kPaceLowest; }

std::array<std::uint32_t, 256> make_pace_classes() {
  std::array<std::uint32_t, 256> classes{};
  classes[0] = ReuseFeatures::kPaces - 1;
  for (unsigned pace = 1; pace < classes.size(); ++pace) {
    const float steps =
        (log_gap_of(static_cast<std::uint8_t>(pace)) - std::log2(kFirstPaceEnd_s)) / std::log2(kPaceGrowth);
    classes[pace] =
        static_cast<std::uint32_t>(std::clamp(steps + 1, 0.0F, static_cast<float>(ReuseFeatures::kPaces - 2)));
  }
  return classes;
}
const std::array<std::uint32_t, 256> kPaceClasses = make_pace_classes();

std::uint8_t next_pace(std::uint8_t pace, double gap_s) {
  const float log_gap = std::log2(std::max(static_cast<float>(gap_s), 0.01F));
  return pace_code(pace == 0 ? log_gap : kPaceKept * log_gap_of(pace) + (1 - kPaceKept) * log_gap);
}

}  // namespace

HitDensityPolicy::HitDensityPolicy(const Options& options)
    : options_(options),
      random_(options.seed),
      numbers_(options.capacity),
      ghosts_(options.ghosts),
      next_refit_(kShortestRefit) {
  TIERCEL_CHECK(options.capacity > 0, "a policy of at least one block");
  TIERCEL_CHECK(options.capacity < kNone / 2 && options.ghosts < kNone / 2, "more blocks than indexes");
}

double HitDensityPolicy::age_s(const Record& record) const noexcept {
  constexpr double kTick_s = static_cast<double>(std::uint64_t{1} << kTickShift) * 1e-9;
  return (now_tick_ - record.tick) * kTick_s;
}

double HitDensityPolicy::worth(Index node) const noexcept {
  const Record& record = records_[nodes_[node].record];
  return model_.worth(record.cell, age_s(record));
}

bool HitDensityPolicy::holds(std::uint64_t block) const { return numbers_.find(block, name_of()) != kNone; }

void HitDensityPolicy::use(const Use& use) {
  now_tick_ = static_cast<std::uint32_t>(use.now_ns >> kTickShift);
  ++uses_;
  if (!use.blocks.empty()) {
    hold_path(use.blocks);
    name_cells(use.output_tokens);
    evict_until_capacity();
  }
  refit_when_due();
}

/// Of its known blocks the last decides whether this use continues the one before: else it is a prefix shared by many.
void HitDensityPolicy::hold_path(std::span<const std::uint64_t> blocks) {
  path_.clear();
  known_ = 0;
  continues_ = false;
  inherited_pace_ = 0;
  Index parent = kNone;
  for (; path_.size() < blocks.size(); path_.push_back(parent)) {  // what is held is a prefix
    const Index node = numbers_.find(blocks[path_.size()], name_of());
    if (node == kNone) break;
    parent = node;
    const Node& last = nodes_[node];
    known_ = path_.size() + 1;
    if (known_ == blocks.size() || numbers_.find(blocks[known_], name_of()) == kNone) {
      continues_ = last.children_ever < kManyChildren && 2 * known_ >= records_[last.record].full_blocks;
    }
    learn_reuse(nodes_[node]);
    inherited_pace_ = last.pace;
  }
  while (path_.size() < blocks.size()) {
    const std::uint64_t name = blocks[path_.size()];
    const GhostRuns::Index run = ghosts_.find(name);
    if (run != GhostRuns::kNone) {
      const bool leading = known_ == path_.size();
      const std::size_t shared = revive_run(run, blocks.subspan(path_.size()), parent);
      if (leading) known_ += shared;
      continue;
    }
    if (parent != kNone && nodes_[parent].children_ever < kManyChildren) ++nodes_[parent].children_ever;
    parent = hold_new(name, parent);
    path_.push_back(parent);
  }
}

/// Holds those blocks of a run that the sequence shares, as if they had never gone; the rest of the run is forgotten.
std::size_t HitDensityPolicy::revive_run(GhostRuns::Index index, std::span<const std::uint64_t> blocks, Index& parent) {
  using Place = ReuseFeatures::Place;
  const GhostRuns::Run run = ghosts_.run(index);
  const Record record = records_[run.record];
  std::uint32_t shared = ghosts_.shared(index, blocks);
  for (std::uint32_t i = 1; i < shared; ++i) {  // of another run, so a mark that agrees by chance
    if (ghosts_.find(blocks[i]) != GhostRuns::kNone) shared = i;
  }
  const std::uint32_t rest = run.blocks - shared;
  const double gap_s = age_s(record);
  model_.on_reuse(record.cell, gap_s, shared);
  if (rest > 0) model_.on_forgotten(record.cell, gap_s, rest);
  leave_record(run.record, run.blocks);
  ghosts_.remove(index);
  const Place place = model_.features_of(record.cell).place;
  const std::uint8_t inside = place == Place::kWideFork ? 3 : place == Place::kFork ? 2 : 1;
  const std::uint8_t last = rest > 0 ? inside : run.children_of_last;
  const std::uint8_t pace = next_pace(run.pace, gap_s);
  if (known_ == path_.size()) {
    continues_ = last < kManyChildren && 2 * (known_ + shared) >= record.full_blocks;
    inherited_pace_ = pace;
  }
  for (std::uint32_t i = 0; i < shared; ++i) {
    parent = hold_new(blocks[i], parent);
    nodes_[parent].children_ever = (i + 1 == shared ? last : inside) & 3U;
    nodes_[parent].pace = pace;
    path_.push_back(parent);
  }
  return shared;
}

HitDensityPolicy::Index HitDensityPolicy::hold_new(std::uint64_t name, Index parent) {
  const Index node = take_node(name);
  nodes_[node].parent = parent;
  ++held_;
  if (parent != kNone) add_child(parent);
  add_leaf(node);
  return node;
}

void HitDensityPolicy::learn_reuse(Node& node) {
  const Record& record = records_[node.record];
  const double gap_s = age_s(record);
  model_.on_reuse(record.cell, gap_s);
  node.pace = next_pace(node.pace, gap_s);
  leave_record(node.record, 1);
}

void HitDensityPolicy::name_cells(std::uint32_t output_tokens) {
  using Place = ReuseFeatures::Place;
  path_records_.clear();
  ReuseFeatures features{.output = output_class(output_tokens), .fresh = fresh_class(path_.size() - known_)};
  for (std::size_t i = 0; i < path_.size(); ++i) {
    Node& node = nodes_[path_[i]];
    if (i >= known_ && continues_) node.pace = inherited_pace_;
    features.place = i + 1 == path_.size()                 ? Place::kLast
                     : node.children_ever >= kManyChildren ? Place::kWideFork
                     : node.children_ever == 2             ? Place::kFork
                     : i >= known_                         ? Place::kNew
                                                           : Place::kReused;
    features.pace = kPaceClasses[node.pace];
    const ReuseCell cell = model_.cell_of(features);
    auto found = std::find_if(path_records_.rbegin(), path_records_.rend(),
                              [cell](const auto& record) { return record.first == cell; });
    if (found == path_records_.rend()) {
      path_records_.emplace_back(
          cell,
          take_record({.tick = now_tick_, .full_blocks = static_cast<std::uint32_t>(path_.size() - 1), .cell = cell}));
      found = path_records_.rbegin();
    }
    node.record = found->second;
    ++records_[node.record].blocks;
  }
}

void HitDensityPolicy::leave_record(Index index, std::uint32_t blocks) {
  Record& record = records_[index];
  record.blocks -= blocks;
  if (record.blocks > 0) return;
  record.tick = free_record_;
  free_record_ = index;
}

HitDensityPolicy::Index HitDensityPolicy::take_record(const Record& record) {
  Index index = free_record_;
  if (index == kNone) {
    index = static_cast<Index>(records_.size());
    push_tightly(records_, record);
  } else {
    free_record_ = records_[index].tick;
    records_[index] = record;
  }
  return index;
}

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

void HitDensityPolicy::evict_until_capacity() {
  while (held_ > options_.capacity) {
    Index victim = worst_of_a_sample();
    double value = worth(victim);
    for (;;) {
      const Index parent = evict(victim);
      if (held_ <= options_.capacity || parent == kNone || nodes_[parent].is_leaf == 0) break;
      const double parent_value = worth(parent);
      if (parent_value > value) break;
      victim = parent;
      value = parent_value;
    }
  }
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
  } else if (options_.ghosts == 0 || was_end_of_its_use(node)) {
    model_.on_forgotten(records_[node.record].cell, age_s(records_[node.record]));
    leave_record(node.record, 1);
  } else {
    if (ghosts_.full()) forget(ghosts_.oldest());
    growing_ = ghosts_.add({.name = node.name,
                            .record = node.record,
                            .blocks = 1,
                            .pace = node.pace,
                            .children_of_last = node.children_ever});
  }
  growing_parent_ = node.parent;
}

void HitDensityPolicy::forget(GhostRuns::Index index) {
  const GhostRuns::Run& run = ghosts_.run(index);
  const Record& record = records_[run.record];
  model_.on_forgotten(record.cell, age_s(record), run.blocks);
  leave_record(run.record, run.blocks);
  ghosts_.remove(index);
}

void HitDensityPolicy::refit_when_due() {
  if (uses_ % kHalveAfter == 0) model_.age_counts();
  if (uses_ < next_refit_) return;
  next_refit_ = uses_ + std::clamp(uses_ / 50, kShortestRefit, kLongestRefit);
  for (const Record& record : records_) {
    if (record.blocks > 0) model_.add_waiting(record.cell, age_s(record), record.blocks);
  }
  model_.refit();
}

std::uint64_t HitDensityPolicy::bytes() const noexcept {
  return nodes_.capacity() * sizeof(Node) + records_.capacity() * sizeof(Record) + leaves_.capacity() * sizeof(Index) +
         numbers_.bytes() + ghosts_.bytes() + model_.bytes();
}

}  // namespace tiercel
