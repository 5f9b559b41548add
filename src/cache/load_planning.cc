#include "cache/load_planning.h"

#include <algorithm>
#include <cmath>

namespace tiercel::detail {
namespace {

constexpr auto kHost = static_cast<std::size_t>(TierId::kHost);
constexpr auto kDisk = static_cast<std::size_t>(TierId::kDisk);
static_assert(LoadPlanner::kTiers == kTierCount && LoadPlanner::kReasons == kLoadPlans);
static_assert(static_cast<int>(LoadPlanner::Reason::kAll) == static_cast<int>(LoadPlanned::kAll) &&
              static_cast<int>(LoadPlanner::Reason::kSlower) == static_cast<int>(LoadPlanned::kSlower) &&
              static_cast<int>(LoadPlanner::Reason::kDeadline) == static_cast<int>(LoadPlanned::kDeadline) &&
              static_cast<int>(LoadPlanner::Reason::kNotKnown) == static_cast<int>(LoadPlanned::kEngineNotKnown) &&
              static_cast<int>(LoadPlanner::Reason::kNotTried) == static_cast<int>(LoadPlanned::kTierNotKnown));

constexpr double kWorthPredictingNs = 1e6;  // what is shorter delays no request

}  // namespace

void LoadPlanning::decide(LoadPlan& draft) noexcept {
  draft.question.runs = draft.runs;
  draft.question.queued_bytes[kDisk] = queued_bytes_.load(std::memory_order_relaxed);
  const PrefillModel engine = draft.pace->get();
  {
    MutexLock lock(mutex_);
    draft.plan = planner_.plan(engine, draft.question, clock_.now_ns());
    last_ = draft.plan;
  }
  plans_[static_cast<std::size_t>(draft.plan.reason)].add();
  left_blocks_.add(draft.plan.left_blocks);
  probe_blocks_.add(draft.plan.probe_blocks);
}

std::optional<std::uint64_t> LoadPlanning::go_on(const LoadPlan& plan, const LoadPlanner::Progress& progress) noexcept {
  const auto longer = LoadPlanner::go_on(plan.pace->get(), plan.question, progress);
  asked_again_.add();
  if (!longer) given_up_.add();
  return longer;
}

void LoadPlanning::ended(const LoadPlan& plan, const Ended& ended) noexcept {
  left_blocks_.add(ended.left_blocks);
  const double predicted = plan.plan.load_ns;
  const auto took = static_cast<double>(ended.took_ns);
  if (predicted <= 0 || std::max(predicted, took) < kWorthPredictingNs) return;
  // What was not waited for to its end took longer at least.
  if (!ended.complete && took < predicted) return;
  MutexLock lock(mutex_);
  load_errors_.add(predicted, took);
}

void LoadPlanning::add_prefill(EnginePace& pace, const PrefillTime& prefill) noexcept {
  if (prefill.tokens == 0 || prefill.time.count() <= 0) return;
  const PrefillSpan span{.context = prefill.context_tokens, .tokens = prefill.tokens};
  const double predicted = pace.get().predict_ns(span);
  pace.add(span, static_cast<std::uint64_t>(prefill.time.count()));
  if (predicted <= 0) return;
  MutexLock lock(mutex_);
  prefill_errors_.add(predicted, static_cast<double>(prefill.time.count()));
}

void LoadPlanning::add_host(std::uint64_t bytes, std::uint64_t ns) noexcept {
  MutexLock lock(mutex_);
  planner_.add({.tier = kHost, .bytes = bytes, .ns = std::max<std::uint64_t>(1, ns)});
}

void LoadPlanning::Reads::end(bool read) noexcept {
  if (!read) failed_.store(true, std::memory_order_relaxed);
  if (parts_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const std::uint64_t bytes = bytes_.load(std::memory_order_relaxed);
  if (failed_.load(std::memory_order_relaxed) || bytes == 0) return;
  const std::uint64_t served = planning_.served_bytes_.load(std::memory_order_relaxed) - served_before_;
  const std::uint64_t ns = planning_.clock_.now_ns() - started_ns_;
  MutexLock lock(planning_.mutex_);
  planning_.planner_.add({.tier = kDisk,
                          .bytes = bytes,
                          .other_bytes = served - std::min(served, bytes),
                          .ns = std::max<std::uint64_t>(1, ns)});
}

LoadPlanner::Plan LoadPlanning::last() const noexcept {
  MutexLock lock(mutex_);
  return last_;
}

void LoadPlanning::add_to(Stats& stats) const noexcept {
  for (std::size_t i = 0; i < kLoadPlans; ++i) stats.load_plans[i] = plans_[i].get();
  stats.planned_left_blocks = left_blocks_.get();
  stats.plans_asked_again = asked_again_.get();
  stats.plans_given_up = given_up_.get();
  stats.plan_probe_blocks = probe_blocks_.get();
  MutexLock lock(mutex_);
  stats.load_errors_permille = load_errors_.shares();
  stats.prefill_errors_permille = prefill_errors_.shares();
}

void LoadPlanning::Errors::add(double predicted, double measured) noexcept {
  const double permille = 1000 * std::abs(measured - predicted) / predicted;
  permille_[count_++ % kKept] = static_cast<std::uint32_t>(std::min(permille, 1e9));
}

std::array<std::uint64_t, 2> LoadPlanning::Errors::shares() const noexcept {
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(count_, kKept));
  if (count == 0) return {};
  std::array<std::uint32_t, kKept> sorted = permille_;
  std::sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count));
  return {sorted[(count - 1) / 2], sorted[(count - 1) * 9 / 10]};
}

}  // namespace tiercel::detail
