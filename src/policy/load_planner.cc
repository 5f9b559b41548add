#include "policy/load_planner.h"

#include <algorithm>
#include <utility>

namespace tiercel {
namespace {

constexpr std::uint64_t kProbeBytes = std::uint64_t{4} << 20U;
constexpr std::uint64_t kMostProbeBlocks = 8;
constexpr std::uint64_t kLongProbe = 16;  // times as long, for few blocks do not tell latency from bandwidth
constexpr std::uint64_t kLongProbeEvery = 16;
constexpr double kFewSamples = 6;       // since a tier's speed changed
constexpr double kProbeShare = 10;      // probes, and likewise long ones, take at most a tenth of a tier's time
constexpr double kDeadlineShare = 0.8;  // that a load is expected to take: half of all take longer than expected
constexpr double kFaster = 0.7;         // of what was expected
constexpr double kLateness = 1.25;      // of what was expected, before a load is looked at again
constexpr double kLeastLookNs = 500'000;

/// Of what is computed when the first `blocks` are loaded. One token at least.
double compute_ns(const PrefillModel& engine, const LoadPlanner::Question& question, std::uint64_t blocks) noexcept {
  const std::uint64_t most = question.prompt_tokens - std::min<std::uint64_t>(question.prompt_tokens, 1);
  const std::uint64_t from = std::min(std::max(blocks * question.block_tokens, question.context_tokens), most);
  return engine.predict_ns({.context = from, .tokens = question.prompt_tokens - from});
}

double for_all(const LoadPlanner::Question& question) noexcept { return 1 + static_cast<double>(question.waiting); }

std::uint64_t as_ns(double ns) noexcept {
  return ns >= 9e18 ? UINT64_MAX : static_cast<std::uint64_t>(std::max(0.0, ns));
}

}  // namespace

std::string_view LoadPlanner::reason_name(Reason reason) noexcept {
  switch (reason) {
    case Reason::kAll:
      return "all";
    case Reason::kSlower:
      return "slower";
    case Reason::kDeadline:
      return "deadline";
    case Reason::kNotKnown:
      return "engine_not_known";
    case Reason::kNotTried:
      return "tier_not_known";
  }
  return "unknown";
}

double LoadPlanner::predict_ns(std::size_t tier, std::uint64_t bytes, std::uint64_t queued_bytes) const noexcept {
  return tiers_[tier].times.predict_ns({1, static_cast<double>(bytes) + static_cast<double>(queued_bytes)});
}

LoadPlanner::TierSpeed LoadPlanner::speed(std::size_t tier) const noexcept {
  const auto& rates = tiers_[tier].times.rates();
  return {.latency_ns = rates[0], .bytes_per_second = rates[1] > 0 ? 1e9 / rates[1] : 0};
}

void LoadPlanner::add(const Read& read) noexcept {
  if (read.bytes == 0 || read.ns == 0) return;
  Tier& tier = tiers_[read.tier];
  const double expected = predict_ns(read.tier, read.bytes, read.other_bytes);
  tier.faster = expected > 0 && static_cast<double>(read.ns) < kFaster * expected;
  tier.times.add({1, static_cast<double>(read.bytes) + static_cast<double>(read.other_bytes)},
                 static_cast<double>(read.ns));
}

double LoadPlanner::load_ns(const Question& question, const Part& part) const noexcept {
  double ns = 0;
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    const std::uint64_t blocks = part.of_tier[tier];
    if (blocks > 0) ns += predict_ns(tier, blocks * question.block_bytes, question.queued_bytes[tier]);
  }
  if (question.copy_bytes_per_second > 0) {
    ns += static_cast<double>(part.blocks * question.block_bytes) * 1e9 / question.copy_bytes_per_second;
  }
  return ns;
}

/// A tier stays on its side until the other is better by kMargin: what would change it counts for more than it costs.
LoadPlanner::Choice LoadPlanner::weigh(const PrefillModel& engine, const Question& question, const Part& part,
                                       const Part& all) const noexcept {
  Choice choice{
      .part = part, .load_ns = load_ns(question, part), .compute_ns = compute_ns(engine, question, part.blocks)};
  choice.cost = choice.load_ns + choice.compute_ns * for_all(question);
  for (std::size_t tier = 1; tier < kTiers; ++tier) {  // what is in RAM is left for nothing but a fast engine
    if (all.of_tier[tier] > 0 && (part.of_tier[tier] == 0) != tiers_[tier].left) choice.cost *= 1 + kMargin;
  }
  return choice;
}

/// How many blocks of the run come before the deadline.
std::uint64_t LoadPlanner::in_time(const Question& question, const Part& before, const Run& run) const noexcept {
  const double in_time_ns = kDeadlineShare * static_cast<double>(question.deadline_ns);
  std::uint64_t fits = 0;
  std::uint64_t too_many = run.blocks + 1;
  while (too_many - fits > 1) {
    const std::uint64_t middle = fits + (too_many - fits) / 2;
    Part part = before;
    part.add(run.tier, middle);
    (load_ns(question, part) <= in_time_ns ? fits : too_many) = middle;
  }
  return fits;
}

LoadPlanner::Plan LoadPlanner::plan(const PrefillModel& engine, const Question& question, std::uint64_t now_ns) {
  Part all;
  bool tried = true;
  for (const Run& run : question.runs) {
    all.add(run.tier, run.blocks);
    tried = tried && (run.blocks == 0 || is_known(run.tier));
  }
  Plan plan{.blocks = all.blocks};
  const bool known = !engine.is_empty() && question.prompt_tokens > 0;
  if (known) {
    plan.compute_all_ns = compute_ns(engine, question, 0);
    plan.compute_ns = compute_ns(engine, question, all.blocks);
  }
  if (tried) plan.load_ns = load_ns(question, all);
  if (!known || !tried) {
    plan.reason = known ? Reason::kNotTried : Reason::kNotKnown;
    return plan;
  }

  Part part;
  Choice best = weigh(engine, question, part, all);
  bool late = false;
  for (const Run& run : question.runs) {
    const std::uint64_t count = question.deadline_ns == UINT64_MAX ? run.blocks : in_time(question, part, run);
    late = count < run.blocks;
    part.add(run.tier, count);
    const Choice choice = weigh(engine, question, part, all);
    if (choice.cost < best.cost) best = choice;
    if (late) break;
  }
  plan.blocks = best.part.blocks;
  plan.left_blocks = all.blocks - plan.blocks;
  plan.load_ns = best.load_ns;
  plan.compute_ns = best.compute_ns;
  if (plan.left_blocks > 0) {
    plan.reason = late && plan.blocks == part.blocks ? Reason::kDeadline : Reason::kSlower;
    plan.probe_blocks = probe(question, best.part, now_ns);
  }
  for (std::size_t tier = 1; tier < kTiers; ++tier) {
    if (all.of_tier[tier] > 0) tiers_[tier].left = best.part.of_tier[tier] == 0;
  }
  return plan;
}

/// Of the blocks left, from the first of them on; none where the load itself reads from their tier.
std::uint64_t LoadPlanner::probe(const Question& question, const Part& planned, std::uint64_t now_ns) noexcept {
  std::uint64_t position = 0;
  for (const Run& run : question.runs) {
    position += run.blocks;
    if (position <= planned.blocks) continue;
    Tier& tier = tiers_[run.tier];
    if (run.tier == 0 || planned.of_tier[run.tier] > 0 || (now_ns < tier.next_probe_ns && !tier.faster)) return 0;
    const std::uint64_t few =
        std::clamp<std::uint64_t>(kProbeBytes / std::max<std::uint64_t>(1, question.block_bytes), 1, kMostProbeBlocks);
    tier.next_probe_ns = now_ns + as_ns(kProbeShare * predict_ns(run.tier, few * question.block_bytes, 0));
    const bool is_new = std::exchange(tier.faster, false) || tier.times.weight() < kFewSamples;
    const bool is_long = ++tier.probes % kLongProbeEvery == 0 || is_new;
    return std::min(position - planned.blocks, is_long ? kLongProbe * few : few);
  }
  return 0;
}

std::uint64_t LoadPlanner::first_look_ns(const Question& question, const Plan& plan) {
  if (plan.compute_all_ns <= 0) return UINT64_MAX;
  const double saved = plan.compute_all_ns - plan.compute_ns;
  const double wait = plan.load_ns > 0 ? kLateness * plan.load_ns : saved / 4;
  return as_ns(std::max(kLeastLookNs, std::min(wait, saved * for_all(question))));
}

std::optional<std::uint64_t> LoadPlanner::go_on(const PrefillModel& engine, const Question& question,
                                                const Progress& progress) {
  if (engine.is_empty() || question.prompt_tokens == 0) return UINT64_MAX;
  const double saved = for_all(question) * (compute_ns(engine, question, progress.ready_blocks) -
                                            compute_ns(engine, question, progress.asked_blocks));
  const auto elapsed = static_cast<double>(progress.elapsed_ns);
  const auto left = static_cast<double>(progress.asked_blocks - std::min(progress.asked_blocks, progress.ready_blocks));
  const auto came = static_cast<double>(progress.ready_blocks - std::min(progress.ready_blocks, progress.host_blocks));
  // What has waited so long for nothing is expected to take as long again.
  const double expected = came > 0 ? elapsed * left / came : elapsed;
  if (expected >= saved) return std::nullopt;
  return as_ns(std::max(kLeastLookNs, std::min(expected / 2, saved)));
}

}  // namespace tiercel
