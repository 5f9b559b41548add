#include "metrics/reference.h"

#include "metrics/metric.h"

namespace tiercel::metrics {
namespace {

constexpr std::string_view kIntroduction = R"(# Metrics

<!-- Generated from the table in src/metrics/metric.cc; run the test metrics_test with TIERCEL_REGENERATE=1 in the
     environment to write it again. -->

The Prometheus text of a cache (`tiercel::prometheus_text`, `tiercel_cache_metrics`). Counters start at 0 when the
cache is opened and move after the thing happened. Histograms have bounds of 4^n microseconds, n = 0 to 11, in seconds.

)";
constexpr std::string_view kTableHead = "| metric | type | labels | meaning |\n|---|---|---|---|\n";

std::string joined(std::span<const std::string_view> values) {
  std::string text;
  for (const std::string_view value : values) text += (text.empty() ? "" : ", ") + std::string(value);
  return text;
}

std::string labels(const Metric& metric) {
  if (std::holds_alternative<TierField>(metric.field)) return "`tier`: " + joined(tier_names());
  if (!metric.outcomes.empty()) return "`" + std::string(metric.label) + "`: " + joined(metric.outcomes);
  return "";
}

}  // namespace

std::string_view table_head() noexcept { return kTableHead; }

std::string table_rows() {
  std::string text;
  for (const Metric& metric : metrics()) {
    text.append("| `").append(metric.name).append("` | ").append(type_name(metric.type)).append(" | ");
    text.append(labels(metric)).append(" | ").append(metric.meaning).append(" |\n");
  }
  return text;
}

std::string reference_markdown() { return std::string(kIntroduction).append(kTableHead).append(table_rows()); }

}  // namespace tiercel::metrics
