// The table of metrics: every field of Stats once, with the name, the labels and the meaning that it is exported with.
//
// The Prometheus text and docs/metrics.md are both written from it; a new field of Stats is one row in metric.cc.
// Constant data, safe from any thread.
#pragma once

#include <tiercel/stats.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <variant>

namespace tiercel::metrics {

enum class Type : std::uint8_t { kCounter, kGauge, kHistogram };

using TierField = std::uint64_t TierStats::*;  ///< one sample a tier, label tier=
using PlainField = std::uint64_t Stats::*;     ///< one sample
template <std::size_t N>
using ArrayField = std::array<std::uint64_t, N> Stats::*;  ///< one sample an entry, each with its label
using HistogramField = LatencyHistogram Stats::*;          ///< seconds

struct Metric {
  std::string_view name;
  Type type = Type::kGauge;
  std::string_view meaning;
  std::variant<TierField, PlainField, ArrayField<2>, ArrayField<kLoadPlans>, ArrayField<6>, ArrayField<kLoadOutcomes>,
               HistogramField>
      field;
  std::span<const std::string_view> outcomes = {};  ///< values of the label, of an ArrayField
  std::string_view label = "outcome";               ///< of an ArrayField
  double unit = 1;                                  ///< what one of an ArrayField counts for
};

[[nodiscard]] std::span<const Metric> metrics() noexcept;

/// "counter", "gauge", "histogram"
[[nodiscard]] std::string_view type_name(Type type) noexcept;

/// The values of tier=, by TierId.
[[nodiscard]] std::span<const std::string_view> tier_names() noexcept;

}  // namespace tiercel::metrics
