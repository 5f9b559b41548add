// Sample: what the page plots of one second, or of any time between two snapshots of the counters.
//
// A table of columns, each a name and a formula over the older and the newer Stats. Pure; a value that cannot be known
// (a ratio of nothing, a percentile without events) is NaN and becomes null in JSON. Percentiles are interpolated
// inside the bucket that holds them, linearly, as Prometheus' histogram_quantile does, so that page and dashboards
// agree.
#pragma once

#include <tiercel/stats.h>

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace tiercel::service {

struct Column {
  std::string_view name;  ///< "store_bytes_per_second"
  double (*value)(const Stats& before, const Stats& after, double seconds);
};

inline constexpr std::size_t kColumns = 24;
[[nodiscard]] std::span<const Column, kColumns> columns() noexcept;

/// By columns().
using Sample = std::array<double, kColumns>;

/// `seconds` > 0 lie between the two.
[[nodiscard]] Sample sample_of(const Stats& before, const Stats& after, double seconds);

/// The `quantile` (0 to 1) of what happened between two histograms, in seconds; NaN if nothing did.
[[nodiscard]] double quantile_of(const LatencyHistogram& before, const LatencyHistogram& after, double quantile);

/// Everything that counts as an error: a person may have to act.
[[nodiscard]] std::uint64_t errors_of(const Stats& stats);

}  // namespace tiercel::service
