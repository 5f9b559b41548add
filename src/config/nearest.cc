#include "config/nearest.h"

#include <tiercel/config.h>

#include <algorithm>
#include <vector>

namespace tiercel::config {
namespace {

constexpr std::size_t kLongestName = 64;  // what is longer is no slip of a key; bounds the work too

/// Optimal string alignment distance, by rows of the usual table.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U);
      row[j] = std::min({replaced, last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::optional<std::string> nearest(std::string_view name, std::span<const std::string> candidates) {
  if (name.size() > kLongestName) return std::nullopt;
  const std::string* best = nullptr;
  std::size_t best_distance = 0;
  for (const std::string& candidate : candidates) {
    const std::size_t letters = std::max(name.size(), candidate.size());
    const std::size_t away = distance(name, candidate);
    if (away > std::max<std::size_t>(1, letters / 3) || away >= letters) continue;
    if (best == nullptr || away < best_distance) {
      best = &candidate;
      best_distance = away;
    }
  }
  return best == nullptr ? std::nullopt : std::optional(*best);
}

std::string did_you_mean(std::string_view name, std::span<const std::string> candidates) {
  const auto near = nearest(name, candidates);
  return near ? "; did you mean " + *near + "?" : std::string();
}

}  // namespace tiercel::config

namespace tiercel {

std::string did_you_mean(std::string_view name, std::span<const std::string> candidates) {
  return config::did_you_mean(name, candidates);
}

}  // namespace tiercel
