#include "cuda/bench/grid_budgets.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>

namespace tiercel::gpu {
namespace {

constexpr std::uint64_t kLongBytes = 512'000'000;
constexpr std::uint64_t kLargeBytes = 16'000'000;
constexpr std::uint64_t kOneBlockBytes = 36 * 65536;  // 2.25 MiB: Qwen3-8B, 16 tokens

/// What a cell has of a budget: the value and the most that it may be. Nothing: the budget is not about it.
struct Measured {
  double value = 0;
  double most = 0;
  std::string text;
};
using Look = std::function<std::optional<Measured>(const MeasuredCell&)>;

BudgetOutcome judge(std::string what, const std::vector<MeasuredCell>& cells, const Look& look) {
  BudgetOutcome outcome{.what = std::move(what)};
  double worst = 0;
  for (const MeasuredCell& cell : cells) {
    const auto measured = look(cell);
    if (!measured) continue;
    const double over = measured->value - measured->most;
    if (outcome.cells == 0 || over > worst) {
      worst = over;
      outcome.worst = fmt::format("{} ({})", measured->text, cell.name());
    }
    ++outcome.cells;
    if (over > 0) ++outcome.missed;
  }
  return outcome;
}

std::optional<Measured> at_least(std::optional<double> share, double least) {
  if (!share) return std::nullopt;
  return Measured{-*share, -least, fmt::format("{:.1f} %", *share)};
}

std::optional<Measured> at_most(std::optional<double> value, double most, const char* unit) {
  if (!value) return std::nullopt;
  return Measured{*value, most, fmt::format("{:.1f}{}", *value, unit)};
}

std::optional<double> own(const MeasuredCell& cell, Figure figure) { return cell.get(GridWay::kAuto, figure); }

std::optional<Measured> slower_than_allowed(const MeasuredCell& cell) {
  const auto slower = own(cell, Figure::kDecodeSlowerP50);
  const auto memory = own(cell, Figure::kDecodeMemory);
  if (cell.key.direction == GridDirection::kBoth || !slower || !memory) return std::nullopt;
  return Measured{*slower, *memory + 1.5, fmt::format("{:.1f} %, allowed {:.1f}", *slower, *memory + 1.5)};
}

/// What decode loses beyond what one contiguous copy of the same bytes costs it, against the stage's part of the
/// memory's bandwidth: for where that copy alone is over the budget above.
std::optional<Measured> slower_than_contiguous(const MeasuredCell& cell) {
  const auto bare = [&](Figure figure) { return cell.get(GridWay::kContiguous, figure); };
  const auto slower = own(cell, Figure::kDecodeSlowerP50);
  const auto memory = own(cell, Figure::kDecodeMemory);
  const auto rate = own(cell, Figure::kDecodeGbPerS);
  const auto bare_slower = bare(Figure::kDecodeSlowerP50);
  const auto bare_memory = bare(Figure::kDecodeMemory);
  const auto bare_rate = bare(Figure::kDecodeGbPerS);
  if (cell.key.direction == GridDirection::kBoth || !slower || !memory || !rate) return std::nullopt;
  if (!bare_slower || !bare_memory || !bare_rate || *bare_rate <= 0) return std::nullopt;
  const double most = *memory - *bare_memory * *rate / *bare_rate + 1.5;
  return Measured{*slower - *bare_slower, most, fmt::format("{:.1f} %, allowed {:.1f}", *slower - *bare_slower, most)};
}

/// Replays that did not begin, beyond those that are missing because each took longer.
std::optional<double> blocked(const MeasuredCell& cell, Figure slower_p50, Figure lost) {
  const auto slower = own(cell, slower_p50);
  const auto all = own(cell, lost);
  if (!slower || !all) return std::nullopt;
  return *all - (1 - 1 / (1 + *slower / 100)) * 100;
}

std::optional<Measured> most_blocked(const MeasuredCell& cell) {
  const auto decode = blocked(cell, Figure::kDecodeSlowerP50, Figure::kDecodeLost);
  const auto prefill = blocked(cell, Figure::kPrefillSlowerP50, Figure::kPrefillLost);
  return at_most(decode && prefill ? std::max(*decode, *prefill) : decode ? decode : prefill, 1, " %");
}

std::optional<Measured> foreign(const MeasuredCell& cell) {
  const auto out = own(cell, Figure::kForeignOutP99Us);
  const auto in = own(cell, Figure::kForeignInP99Us);
  if (!out || !in) return std::nullopt;
  return at_most(std::max(*out, *in), 150, " us");
}

}  // namespace

std::vector<BudgetOutcome> grid_budgets(const std::vector<MeasuredCell>& cells) {
  const auto add = [&](std::vector<BudgetOutcome>& outcomes, std::string what, const Look& look) {
    outcomes.push_back(judge(std::move(what), cells, look));
  };
  std::vector<BudgetOutcome> outcomes;
  for (const GridDirection direction : {GridDirection::kLoad, GridDirection::kStore}) {
    const char* name = direction == GridDirection::kLoad ? "loads" : "stores";
    add(outcomes, fmt::format("{} >= 98 % of contiguous, 512 MB and more", name),
        [=](const MeasuredCell& c) -> std::optional<Measured> {
          if (c.key.direction != direction || c.bytes < kLongBytes) return std::nullopt;
          return at_least(own(c, Figure::kShare), 98);
        });
    add(outcomes, fmt::format("{} <= contiguous + 60 us, below 512 MB", name),
        [=](const MeasuredCell& c) -> std::optional<Measured> {
          if (c.key.direction != direction || c.bytes >= kLongBytes) return std::nullopt;
          return at_most(own(c, Figure::kOverUs), 60, " us");
        });
  }
  add(outcomes, "both ways >= 95 % of the contiguous pair, 512 MB and more",
      [](const MeasuredCell& c) -> std::optional<Measured> {
        if (c.key.direction != GridDirection::kBoth || c.bytes < kLongBytes) return std::nullopt;
        return at_least(own(c, Figure::kShare), 95);
      });
  add(outcomes, "one block of 2.25 MiB <= 1.3 x contiguous, submit included",
      [](const MeasuredCell& c) -> std::optional<Measured> {
        const auto share = own(c, Figure::kShare);
        if (c.key.blocks != 1 || c.bytes != kOneBlockBytes || !share) return std::nullopt;
        return Measured{100 / *share, 1.3, fmt::format("{:.2f} x", 100 / *share)};
      });
  add(outcomes, "submit <= 10 us + 50 ns a block", [](const MeasuredCell& c) {
    return at_most(own(c, Figure::kSubmitUs), 10 + 0.05 * static_cast<double>(c.key.blocks), " us");
  });
  add(outcomes, "at most 3 % behind the best other way, 16 MB and more",
      [](const MeasuredCell& c) -> std::optional<Measured> {
        if (c.bytes < kLargeBytes) return std::nullopt;
        return at_most(c.behind_percent(), 3, " % behind");
      });
  add(outcomes, "decode slowed at full speed <= share of the memory + 1.5 % (p50)", slower_than_allowed);
  add(outcomes, "  beyond one contiguous copy <= the stage's share + 1.5 %", slower_than_contiguous);
  add(outcomes, "replays lost to blocked launches <= 1 %", most_blocked);
  add(outcomes, "a foreign 4 KiB copy <= 150 us (p99)", foreign);
  return outcomes;
}

}  // namespace tiercel::gpu
