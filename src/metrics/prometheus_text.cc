// prometheus_text of stats.h: the table of metrics as prometheus-cpp's families, written by its text serialiser.
#include "metrics/metric.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <sstream>
#include <vector>

namespace tiercel {
namespace {

using metrics::Metric;
using metrics::Type;
using prometheus::ClientMetric;

constexpr double kNsPerSecond = 1e9;

ClientMetric sample(Type type, std::uint64_t value, double unit = 1) {
  ClientMetric metric;
  (type == Type::kCounter ? metric.counter.value : metric.gauge.value) = static_cast<double>(value) * unit;
  return metric;
}

ClientMetric labelled(Type type, std::uint64_t value, std::string_view label, std::string_view label_value,
                      double unit = 1) {
  ClientMetric metric = sample(type, value, unit);
  metric.label.push_back({.name = std::string(label), .value = std::string(label_value)});
  return metric;
}

ClientMetric sample(const LatencyHistogram& histogram) {
  ClientMetric metric;
  metric.histogram.sample_sum = static_cast<double>(histogram.sum_ns) / kNsPerSecond;
  std::uint64_t cumulative = 0;
  for (std::size_t i = 0; i + 1 < LatencyHistogram::kBuckets; ++i) {
    cumulative += histogram.counts[i];
    metric.histogram.bucket.push_back(
        {.cumulative_count = cumulative,
         .upper_bound = static_cast<double>(LatencyHistogram::bound_ns(i)) / kNsPerSecond});
  }
  metric.histogram.sample_count =
      histogram.count();  // the serialiser writes the bucket of the rest, le="+Inf", from it
  return metric;
}

prometheus::MetricType prometheus_type(Type type) {
  switch (type) {
    case Type::kCounter:
      return prometheus::MetricType::Counter;
    case Type::kGauge:
      return prometheus::MetricType::Gauge;
    case Type::kHistogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

/// The samples of one metric, by the form of its field.
struct Samples {
  const Metric& metric;
  const Stats& stats;

  std::vector<ClientMetric> operator()(metrics::TierField field) const {
    std::vector<ClientMetric> samples;
    samples.reserve(kTierCount);
    for (std::size_t tier = 0; tier < kTierCount; ++tier) {
      samples.push_back(labelled(metric.type, stats.tiers[tier].*field, "tier", metrics::tier_names()[tier]));
    }
    return samples;
  }
  std::vector<ClientMetric> operator()(metrics::PlainField field) const { return {sample(metric.type, stats.*field)}; }
  template <std::size_t N>
  std::vector<ClientMetric> operator()(metrics::ArrayField<N> field) const {
    std::vector<ClientMetric> samples;
    samples.reserve(metric.outcomes.size());
    for (std::size_t i = 0; i < metric.outcomes.size(); ++i) {
      samples.push_back(labelled(metric.type, (stats.*field)[i], metric.label, metric.outcomes[i], metric.unit));
    }
    return samples;
  }
  std::vector<ClientMetric> operator()(metrics::HistogramField field) const { return {sample(stats.*field)}; }
};

}  // namespace

std::string prometheus_text(const Stats& stats) {
  std::vector<prometheus::MetricFamily> families;
  for (const Metric& metric : metrics::metrics()) {
    families.push_back({.name = std::string(metric.name),
                        .help = std::string(metric.meaning),
                        .type = prometheus_type(metric.type),
                        .metric = std::visit(Samples{metric, stats}, metric.field)});
  }
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return std::move(out).str();
}

}  // namespace tiercel
