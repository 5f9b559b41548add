#include "service/http/service_metrics.h"

#include "metrics/metric.h"
#include "metrics/reference.h"

#include <fmt/format.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <sstream>

namespace tiercel::service {
namespace {

using metrics::Type;
using prometheus::ClientMetric;

constexpr double kNsPerSecond = 1e9;

struct Sampled {
  double value = 0;
  std::vector<ClientMetric::Label> labels;
};
using Samples = std::vector<Sampled>;

struct ServiceMetric {
  std::string_view name;
  Type type = Type::kGauge;
  std::string_view labels;  ///< for the reference
  std::string_view meaning;
  Samples (*samples)(const ServiceFigures&) = nullptr;
};

double as_double(std::uint64_t value) { return static_cast<double>(value); }

template <auto field>
Samples listeners(const ServiceFigures& figures) {
  Samples samples;
  for (const ListenerFigures& listener : figures.http.listeners) {
    samples.push_back({.value = as_double(listener.*field), .labels = {{.name = "listener", .value = listener.name}}});
  }
  return samples;
}

template <auto field>
Samples http(const ServiceFigures& figures) {
  return {{.value = as_double(figures.http.*field)}};
}

std::span<const EngineReport> shown_engines(const ServiceFigures& figures) {
  return std::span(figures.engines).first(std::min(figures.engines.size(), kMostEngineSeries));
}

/// One sample for each engine of which `value` is known.
template <class Value>
Samples engines(const ServiceFigures& figures, const Value& value) {
  Samples samples;
  for (const EngineReport& engine : shown_engines(figures)) {
    const std::optional<double> known = value(engine);
    if (known) samples.push_back({.value = *known, .labels = {{.name = "engine", .value = engine.engine_id}}});
  }
  return samples;
}

template <auto field>
Samples kv_pools(const ServiceFigures& figures) {
  return engines(figures, [](const EngineReport& engine) -> std::optional<double> {
    if (!engine.kv_pool) return std::nullopt;
    return as_double((*engine.kv_pool).*field);
  });
}

template <auto field>
Samples engine_counters(const ServiceFigures& figures) {
  return engines(figures, [](const EngineReport& engine) -> std::optional<double> {
    if (!engine.counters) return std::nullopt;
    return as_double((*engine.counters).*field);
  });
}

Samples health(const ServiceFigures& figures) {
  Samples samples;
  for (std::size_t i = 0; i < kHealthStates; ++i) {
    const auto state = static_cast<HealthState>(i);
    samples.push_back({.value = state == figures.health ? 1.0 : 0.0,
                       .labels = {{.name = "state", .value = std::string(health_name(state))}}});
  }
  return samples;
}

Samples arena_stages(const ServiceFigures& figures) {
  Samples samples;
  for (std::size_t i = 0; i < kArenaStages; ++i) {
    const auto stage = static_cast<ArenaStage>(i);
    samples.push_back({.value = stage == figures.arena.stage ? 1.0 : 0.0,
                       .labels = {{.name = "stage", .value = std::string(arena_stage_name(stage))}}});
  }
  return samples;
}

Samples modes(const ServiceFigures& figures) {
  Samples samples;
  for (const EngineReport& engine : shown_engines(figures)) {
    for (std::size_t i = 0; i < kEngineModes; ++i) {
      const auto mode = static_cast<EngineMode>(i);
      samples.push_back({.value = mode == engine.mode ? 1.0 : 0.0,
                         .labels = {{.name = "engine", .value = engine.engine_id},
                                    {.name = "mode", .value = std::string(engine_mode_name(mode))}}});
    }
  }
  return samples;
}

constexpr std::array kMetrics = {
    ServiceMetric{"tiercel_build_info", Type::kGauge, "`version`", "1, with the version that runs as label",
                  [](const ServiceFigures& f) {
                    return Samples{{.value = 1, .labels = {{.name = "version", .value = f.facts.version}}}};
                  }},
    ServiceMetric{
        "tiercel_uptime_seconds", Type::kGauge, "", "time since the service was started",
        [](const ServiceFigures& f) { return Samples{{.value = as_double(f.facts.uptime_ns) / kNsPerSecond}}; }},
    ServiceMetric{"tiercel_health", Type::kGauge, "`state`: ok, degraded, closing",
                  "1 for the state that /healthz answers, 0 for the others", health},
    ServiceMetric{"tiercel_arena_stage", Type::kGauge, "`stage`: serving, withheld, awaited, refused",
                  "1 for what stands between the arena and its use after a restart, 0 for the others", arena_stages},
    ServiceMetric{"tiercel_arena_waiting_processes", Type::kGauge, "",
                  "processes of an earlier run that may still write into the arena; no slot is handed out before they "
                  "have let go, come back or ended",
                  [](const ServiceFigures& f) { return Samples{{.value = as_double(f.arena.waits_for.size())}}; }},
    ServiceMetric{"tiercel_http_connections", Type::kGauge, "`listener`: page, metrics", "open connections",
                  listeners<&ListenerFigures::connections>},
    ServiceMetric{"tiercel_http_refused_connections_total", Type::kCounter, "`listener`: page, metrics",
                  "connections closed because http.connections were open",
                  listeners<&ListenerFigures::refused_connections>},
    ServiceMetric{"tiercel_http_streams", Type::kGauge, "", "live pages open", http<&HttpFigures::streams>},
    ServiceMetric{"tiercel_http_refused_streams_total", Type::kCounter, "",
                  "live pages told to poll because http.streams were open", http<&HttpFigures::refused_streams>},
    ServiceMetric{"tiercel_http_refused_requests_total", Type::kCounter, "",
                  "requests refused for their Host, Origin or method", http<&HttpFigures::refused_requests>},
    ServiceMetric{"tiercel_engines", Type::kGauge, "", "engines connected",
                  [](const ServiceFigures& f) { return Samples{{.value = as_double(f.engines.size())}}; }},
    ServiceMetric{"tiercel_engine_members", Type::kGauge, "`engine`", "processes of the engine that are connected",
                  [](const ServiceFigures& f) {
                    return engines(f, [](const EngineReport& e) { return std::optional<double>(e.members); });
                  }},
    ServiceMetric{"tiercel_engine_mode", Type::kGauge, "`engine`, `mode`: on, store_only, load_only, off",
                  "1 for the mode that the engine is in, 0 for the others", modes},
    ServiceMetric{"tiercel_engine_stored_bytes_total", Type::kCounter, "`engine`", "bytes that the engine committed",
                  engine_counters<&EngineCounters::stored_bytes>},
    ServiceMetric{"tiercel_engine_loaded_bytes_total", Type::kCounter, "`engine`", "bytes that the engine loaded",
                  engine_counters<&EngineCounters::loaded_bytes>},
    ServiceMetric{"tiercel_engine_kv_pool_capacity_bytes", Type::kGauge, "`engine`",
                  "size of the engine's own KV pool in GPU memory, as it reports it", kv_pools<&KvPool::total_bytes>},
    ServiceMetric{"tiercel_engine_kv_pool_used_bytes", Type::kGauge, "`engine`", "bytes in use of that pool",
                  kv_pools<&KvPool::used_bytes>},
    ServiceMetric{"tiercel_engine_kv_pool_free_bytes", Type::kGauge, "`engine`", "bytes free in that pool",
                  kv_pools<&KvPool::free_bytes>},
};

ClientMetric metric_of(Type type, Sampled sampled) {
  ClientMetric metric;
  (type == Type::kCounter ? metric.counter.value : metric.gauge.value) = sampled.value;
  metric.label = std::move(sampled.labels);
  return metric;
}

}  // namespace

std::string service_metrics_text(const ServiceFigures& figures) {
  std::vector<prometheus::MetricFamily> families;
  families.reserve(kMetrics.size());
  for (const ServiceMetric& metric : kMetrics) {
    std::vector<ClientMetric> samples;
    for (Sampled& sampled : metric.samples(figures)) samples.push_back(metric_of(metric.type, std::move(sampled)));
    families.push_back(
        {.name = std::string(metric.name),
         .help = std::string(metric.meaning),
         .type = metric.type == Type::kCounter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge,
         .metric = std::move(samples)});
  }
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, families);
  return text.str();
}

std::string metrics_markdown() {
  std::string text(metrics::table_head());
  for (const ServiceMetric& metric : kMetrics) {
    text += fmt::format("| `{}` | {} | {} | {} |\n", metric.name, metrics::type_name(metric.type), metric.labels,
                        metric.meaning);
  }
  return text + metrics::table_rows();
}

}  // namespace tiercel::service
