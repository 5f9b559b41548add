#include "policy/hit_density.h"

#include "base/check.h"
#include "policy/tight_growth.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace tiercel {
namespace {

constexpr std::uint64_t kLookedAt = 2;  // blocks of a use, in capacities: its end is often what should go
constexpr std::uint64_t kShortestRefit = 20;
constexpr std::uint64_t kLongestRefit = 300;
constexpr std::uint64_t kJudgedAfter = 1'000;  // uses
constexpr double kMayFallBehind = 0.005;       // of the block uses
constexpr std::uint64_t kHalveAfter = 10'000;  // uses
constexpr std::uint8_t kManyChildren = 3;
constexpr std::uint64_t kSessionTags = UINT16_MAX;
constexpr double kEndedUnseen = 0.02;  // of its worth, for a block of an ended session before any was seen
constexpr float kPaceKept = 0.7F;
constexpr float kPaceSteps = 8;    // an octave
constexpr float kPaceLowest = -6;  // log2 of seconds
constexpr float kFirstPaceEnd_s = 0.5;
constexpr float kPaceGrowth = 2.5;

// Work of a step, in units of WorkBudget.
constexpr std::uint64_t kHoldWork = 4;
constexpr std::uint64_t kShadowWork = 2;
constexpr std::uint64_t kNameWork = 1;
constexpr std::uint64_t kCountWork = 1;

std::uint32_t output_class(std::uint32_t tokens) {
  return std::min<std::uint32_t>(static_cast<std::uint32_t>(std::bit_width(tokens / 16)) - (tokens >= 16 ? 1 : 0),
                                 ReuseFeatures::kOutputs - 1);
}

std::uint32_t fresh_class(std::size_t fresh) {
  return std::min<std::uint32_t>(static_cast<std::uint32_t>(std::bit_width(fresh)), ReuseFeatures::kFreshs - 1);
}

std::array<double, 2 * HitDensityPolicy::kMostPriority + 1> make_priority_weights() {
  std::array<double, 2 * HitDensityPolicy::kMostPriority + 1> weights{};
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights[i] = std::pow(HitDensityPolicy::kPriorityWeight, static_cast<double>(i) - HitDensityPolicy::kMostPriority);
  }
  return weights;
}
const auto kPriorityWeights = make_priority_weights();

/// 16 bits of a session's number, 0 for none: an ended one is taken for another that has the same until that is used.
std::uint16_t tag_of(std::uint64_t session) {
  if (session == HitDensityPolicy::kNoSession) return 0;
  return static_cast<std::uint16_t>(1 + session * 0x9E37'79B9'7F4A'7C15U % kSessionTags);
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

/// Of the shadow; none where the ghosts' bytes are too few.
std::uint64_t shadow_capacity(const HitDensityPolicy::Options& options) {
  return options.capacity <= options.ghosts ? options.capacity : 0;
}

/// What the shadow leaves.
std::uint64_t ghost_bytes(const HitDensityPolicy::Options& options) {
  return options.ghosts * HitDensityPolicy::kBytesPerGhost - shadow_capacity(options) * ShadowLru::kBytesPerBlock;
}

}  // namespace

HitDensityPolicy::HitDensityPolicy(const Options& options)
    : options_(options),
      random_(options.seed),
      numbers_(options.capacity),
      shadow_(shadow_capacity(options)),
      ghosts_(std::min(options.ghosts, ghost_bytes(options) / GhostRuns::kBytesPerRun)),
      ghost_bytes_(ghost_bytes(options)),
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
  const double worth = safety_.fell_back_at_use != 0 ? 1 / (1 + age_s(record)) : learned_worth(nodes_[node], record);
  return record.priority == 0 ? worth
                              : worth * kPriorityWeights[static_cast<std::size_t>(record.priority + kMostPriority)];
}

double HitDensityPolicy::learned_worth(const Node& node, const Record& record) const noexcept {
  if (!is_of_ended_session(node)) return model_.worth(record.cell, age_s(record));
  const auto ended = model_.ended_of(record.cell);
  return ended ? model_.worth(*ended, age_s(record)) : kEndedUnseen * model_.worth(record.cell, age_s(record));
}

bool HitDensityPolicy::is_of_ended_session(const Node& node) const noexcept {
  return !ended_.empty() && node.is_shared == 0 && ended_[node.session];
}

/// A block that came back after it had gone is taken for one of the session that brought it back.
void HitDensityPolicy::use_by_session(Node& node, bool is_new) noexcept {
  if (is_new) {
    node.session = session_;
  } else if (node.session != session_) {
    node.is_shared = 1;
  }
}

bool HitDensityPolicy::holds(std::uint64_t block) const { return numbers_.find(block, name_of()) != kNone; }

void HitDensityPolicy::begin(const Use& use) {
  TIERCEL_CHECK(!is_in_use(), "one use at a time");
  now_tick_ = static_cast<std::uint32_t>(use.now_ns >> kTickShift);
  ++uses_;
  if (uses_ % kHalveAfter == 0) model_.age_counts();
  total_ = use.blocks.size();
  const auto looked_at = use.blocks.first(std::min<std::uint64_t>(total_, kLookedAt * options_.capacity));
  names_.assign(looked_at.begin(), looked_at.end());
  path_.clear();
  path_records_.clear();
  named_ = 0;
  known_ = 0;
  continues_ = false;
  inherited_pace_ = 0;
  session_ = tag_of(use.session);
  if (session_ != 0 && !ended_.empty()) ended_[session_] = false;
  ends_session_ = use.ends_session;
  priority_ = std::clamp<std::int8_t>(use.priority, -kMostPriority, kMostPriority);
  below_forks_ = true;
  output_class_ = output_class(use.output_tokens);
  held_before_ = 0;
  shadow_held_ = 0;
  shadow_misses_ = shadow_.capacity() == 0;
  untouched_ = shadow_misses_ ? 0 : names_.size();
  stage_ = names_.empty() ? Stage::kEvict : Stage::kHold;
}

bool HitDensityPolicy::work(WorkBudget& work) {
  while (work.any_left()) {
    switch (stage_) {
      case Stage::kHold:
        hold_next(work);
        break;
      case Stage::kShadow:
        go_on_with_shadow();
        work.spend(kShadowWork);
        break;
      case Stage::kName:
        name_cell();
        work.spend(kNameWork);
        break;
      case Stage::kEvict:
        evict_next(work);
        break;
      case Stage::kNone:
        if (!is_counting_ && !model_.is_refitting()) return false;
        refit_next(work);
        break;
    }
  }
  return stage_ != Stage::kNone || is_counting_ || model_.is_refitting();
}

void HitDensityPolicy::use(const Use& use) {
  begin(use);
  WorkBudget all(WorkBudget::kUnlimited);
  (void)work(all);
}

/// Of its known blocks the last decides whether this use continues the one before: else it is a prefix shared by many.
void HitDensityPolicy::hold_next(WorkBudget& work) {
  work.spend(kHoldWork);
  const std::uint64_t name = names_[path_.size()];
  const Index parent = path_.empty() ? kNone : path_.back();
  if (revival_.shared > 0) {
    if (revival_.done == 0 || ghosts_.find(name) == GhostRuns::kNone) {
      const Index node = hold_new(name, parent);
      nodes_[node].children_ever = revival_.inside & 3U;
      nodes_[node].pace = revival_.run.pace;
      path_.push_back(node);
      if (++revival_.done == revival_.shared) end_run();
    } else {  // of another run, so a mark that agrees by chance
      end_run();
    }
  } else if (const Index node = numbers_.find(name, name_of()); node != kNone) {  // what is held is a prefix
    ++held_before_;
    hold_known(node);
  } else if (const GhostRuns::Index run = ghosts_.find(name); run != GhostRuns::kNone) {
    begin_run(run);
  } else {
    if (parent != kNone && nodes_[parent].children_ever < kManyChildren) ++nodes_[parent].children_ever;
    path_.push_back(hold_new(name, parent));
  }
  if (path_.size() == names_.size()) {
    fresh_class_ = fresh_class(total_ - known_);
    stage_ = Stage::kShadow;
  }
}

/// Counts what the shadow held, head first, then touches all, tail first.
void HitDensityPolicy::go_on_with_shadow() {
  if (!shadow_misses_ && shadow_held_ < names_.size() && shadow_.holds(names_[shadow_held_])) {
    ++shadow_held_;
    return;
  }
  shadow_misses_ = true;
  if (untouched_ > 0) {
    shadow_.touch(names_[--untouched_]);
  } else {
    end_shadow();
  }
}

void HitDensityPolicy::end_shadow() {
  stage_ = Stage::kName;
  if (shadow_.capacity() == 0) return;
  safety_.block_uses += total_;
  safety_.hits += held_before_;
  safety_.lru_hits += shadow_held_;
}

void HitDensityPolicy::hold_known(Index index) {
  Node& node = nodes_[index];
  known_ = path_.size() + 1;
  continues_ = node.children_ever < kManyChildren && 2 * known_ >= records_[node.record].full_blocks;
  learn_reuse(node);
  use_by_session(node, false);
  inherited_pace_ = node.pace;
  path_.push_back(index);
}

/// Those blocks of a run that the sequence shares are held as if they had never gone; the rest is forgotten.
void HitDensityPolicy::begin_run(GhostRuns::Index index) {
  using Place = ReuseFeatures::Place;
  const GhostRuns::Run& run = ghosts_.run(index);
  const Place place = model_.features_of(records_[run.record].cell).place;
  revival_ = {.run = run,
              .shared = ghosts_.shared(index, std::span(names_).subspan(path_.size())),
              .inside = static_cast<std::uint8_t>(place == Place::kWideFork ? 3
                                                  : place == Place::kFork   ? 2
                                                                            : 1),
              .leading = known_ == path_.size()};
  revival_.run.pace = next_pace(run.pace, age_s(records_[run.record]));
  ghosts_.remove(index);
}

void HitDensityPolicy::end_run() {
  const auto& run = revival_.run;
  const std::uint32_t shared = revival_.done;
  const std::uint32_t rest = run.blocks - shared;
  const Record record = records_[run.record];
  const double gap_s = age_s(record);
  model_.on_reuse(record.cell, gap_s, shared);
  if (rest > 0) model_.on_forgotten(record.cell, gap_s, rest);
  leave_record(run.record, run.blocks);
  const std::uint8_t last = rest > 0 ? revival_.inside : run.children_of_last;
  nodes_[path_.back()].children_ever = last & 3U;
  if (revival_.leading) {
    known_ = path_.size();
    continues_ = last < kManyChildren && 2 * known_ >= record.full_blocks;
    inherited_pace_ = run.pace;
  }
  revival_.shared = 0;
}

HitDensityPolicy::Index HitDensityPolicy::hold_new(std::uint64_t name, Index parent) {
  const Index node = take_node(name);
  nodes_[node].parent = parent;
  use_by_session(nodes_[node], true);
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

void HitDensityPolicy::name_cell() {
  using Place = ReuseFeatures::Place;
  const std::size_t at = ends_session_ ? path_.size() - 1 - named_ : named_;
  ++named_;
  Node& node = nodes_[path_[at]];
  if (at >= known_ && continues_) node.pace = inherited_pace_;
  if (node.children_ever > 1) below_forks_ = false;
  const bool is_ended = ends_session_ && (session_ == 0 ? below_forks_ : node.is_shared == 0);
  const Place place = is_ended                              ? Place::kEnded
                      : at + 1 == total_                    ? Place::kLast
                      : node.children_ever >= kManyChildren ? Place::kWideFork
                      : node.children_ever == 2             ? Place::kFork
                      : at >= known_                        ? Place::kNew
                                                            : Place::kReused;
  const ReuseCell cell =
      model_.cell_of({.place = place, .output = output_class_, .fresh = fresh_class_, .pace = kPaceClasses[node.pace]});
  auto found = std::find_if(path_records_.rbegin(), path_records_.rend(), [cell, this](const auto& record) {
    return record.first == cell && records_[record.second].blocks < UINT16_MAX;
  });
  if (found == path_records_.rend()) {
    path_records_.emplace_back(
        cell, take_record({.tick = now_tick_,
                           .full_blocks = static_cast<std::uint16_t>(std::min<std::size_t>(total_ - 1, UINT16_MAX)),
                           .cell = cell,
                           .priority = priority_}));
    found = path_records_.rbegin();
  }
  node.record = found->second;
  ++records_[node.record].blocks;
  if (named_ == path_.size()) stage_ = Stage::kEvict;
}

void HitDensityPolicy::leave_record(Index index, std::uint32_t blocks) {
  Record& record = records_[index];
  record.blocks = static_cast<std::uint16_t>(record.blocks - blocks);
  if (record.blocks > 0) return;
  record.tick = free_record_;
  free_record_ = index;
  --used_records_;
}

HitDensityPolicy::Index HitDensityPolicy::take_record(const Record& record) {
  ++used_records_;
  if (ghosts_.size() > 0 && !has_room_for_ghosts(0)) forget(ghosts_.oldest());
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

void HitDensityPolicy::end_use() {
  stage_ = Stage::kNone;
  if (ends_session_ && session_ != 0) {
    if (ended_.empty()) ended_.resize(kSessionTags + 1);
    ended_[session_] = true;
  }
  if (safety_.fell_back_at_use == 0 && uses_ > kJudgedAfter && safety_.lru_hits > safety_.hits &&
      static_cast<double>(safety_.lru_hits - safety_.hits) > kMayFallBehind * static_cast<double>(safety_.block_uses)) {
    safety_.fell_back_at_use = uses_;
  }
  if (uses_ < next_refit_ || is_counting_ || model_.is_refitting()) return;
  next_refit_ = uses_ + std::clamp(uses_ / 50, kShortestRefit, kLongestRefit);
  counted_ = 0;
  is_counting_ = true;
}

void HitDensityPolicy::refit_next(WorkBudget& work) {
  if (!is_counting_) {
    model_.refit(work);
    return;
  }
  for (; work.any_left() && counted_ < records_.size(); ++counted_, work.spend(kCountWork)) {
    const Record& record = records_[counted_];
    if (record.blocks > 0) model_.add_waiting(record.cell, age_s(record), record.blocks);
  }
  if (counted_ < records_.size()) return;
  is_counting_ = false;
  model_.begin_refit();
}

std::uint64_t HitDensityPolicy::bytes() const noexcept {
  return nodes_.capacity() * sizeof(Node) + records_.capacity() * sizeof(Record) + leaves_.capacity() * sizeof(Index) +
         numbers_.bytes() + shadow_.bytes() + ghosts_.bytes() + model_.bytes();
}

std::string HitDensityPolicy::Safety::text() const {
  const std::string counts = std::to_string(hits) + " hits where LRU would have had " + std::to_string(lru_hits) +
                             ", of " + std::to_string(block_uses) + " block uses";
  return fell_back_at_use == 0
             ? "goes by what was learnt: " + counts
             : "fell back to LRU at use " + std::to_string(fell_back_at_use) + ", having missed too much: " + counts;
}

}  // namespace tiercel
