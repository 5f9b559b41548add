#include "service/http/service_metrics.h"

#include "metrics/metric.h"
#include "metrics/reference.h"
#include "service/http/tenant_list.h"

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

template <auto field>
Samples socket(const ServiceFigures& figures) {
  if (!figures.socket) return {};
  return {{.value = as_double((*figures.socket).*field)}};
}

/// What several have together has no cap: each of them has its own.
constexpr bool is_cap(std::uint64_t TenantTierReport::* field) { return field == &TenantTierReport::cap_bytes; }
constexpr bool is_cap(std::uint64_t TenantReport::* field) { return field == &TenantReport::pinned_cap_bytes; }

template <auto field>
Samples tenant_tiers(const ServiceFigures& figures) {
  Samples samples;
  for (const TenantReport& tenant : figures.tenants) {
    if (is_cap(field) && stands_for_several(tenant)) continue;
    for (std::size_t tier = 0; tier < kTenantTiers; ++tier) {
      samples.push_back({.value = as_double(tenant.tiers[tier].*field),
                         .labels = {{.name = "tenant", .value = tenant.name},
                                    {.name = "tier", .value = std::string(metrics::tier_names()[tier])}}});
    }
  }
  return samples;
}

template <auto field>
Samples tenants(const ServiceFigures& figures) {
  Samples samples;
  for (const TenantReport& tenant : figures.tenants) {
    if (is_cap(field) && stands_for_several(tenant)) continue;
    samples.push_back({.value = as_double(tenant.*field), .labels = {{.name = "tenant", .value = tenant.name}}});
  }
  return samples;
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

/// One sample for each mode; what else `labels` says stands before the mode.
void add_modes(Samples& samples, Mode held, const std::vector<ClientMetric::Label>& labels) {
  for (std::size_t i = 0; i < kModes; ++i) {
    const auto mode = static_cast<Mode>(i);
    samples.push_back({.value = mode == held ? 1.0 : 0.0, .labels = labels});
    samples.back().labels.push_back({.name = "mode", .value = std::string(mode_name(mode))});
  }
}

Samples engine_modes(const ServiceFigures& figures) {
  Samples samples;
  for (const EngineReport& engine : shown_engines(figures)) {
    add_modes(samples, stricter(engine.mode, figures.mode), {{.name = "engine", .value = engine.engine_id}});
  }
  return samples;
}

constexpr std::string_view kTenantLabels = "`tenant`, `tier`: host, disk";
constexpr std::string_view kTenantLabel = "`tenant`";
Samples service_mode(const ServiceFigures& figures) {
  Samples samples;
  add_modes(samples, figures.mode, {});
  return samples;
}

constexpr std::array kMetrics = {
    ServiceMetric{"tiercel_build_info", Type::kGauge, "`version`", "1, with the version that runs as label",
                  [](const ServiceFigures& f) {
                    return Samples{{.value = 1, .labels = {{.name = "version", .value = f.facts.version}}}};
                  }},
    ServiceMetric{"tiercel_start_time_seconds", Type::kGauge, "", "when the service was started, in Unix time",
                  [](const ServiceFigures& f) { return Samples{{.value = f.facts.started_unix_seconds}}; }},
    ServiceMetric{"tiercel_health", Type::kGauge, "`state`: ok, degraded, closing",
                  "1 for the state that /healthz answers, 0 for the others", health},
    ServiceMetric{"tiercel_mode", Type::kGauge, "`mode`: on, store_only, load_only, off",
                  "1 for the mode that is set for all engines, 0 for the others", service_mode},
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
                  "requests refused for their Host, Origin, method or token", http<&HttpFigures::refused_requests>},
    ServiceMetric{"tiercel_socket_connections", Type::kGauge, "", "connections of engines' processes that are open",
                  socket<&SocketFigures::connections>},
    ServiceMetric{"tiercel_socket_accepted_connections_total", Type::kCounter, "", "connections that were let in",
                  socket<&SocketFigures::accepted_connections>},
    ServiceMetric{"tiercel_socket_refused_connections_total", Type::kCounter, "",
                  "connections refused for their version, their user or a limit",
                  socket<&SocketFigures::refused_connections>},
    ServiceMetric{"tiercel_socket_protocol_errors_total", Type::kCounter, "",
                  "connections closed because what came breaks the protocol", socket<&SocketFigures::protocol_errors>},
    ServiceMetric{"tiercel_socket_taken_up_connections_total", Type::kCounter, "",
                  "connections that went on where an earlier one of the same process had ended",
                  socket<&SocketFigures::taken_up_connections>},
    ServiceMetric{"tiercel_departed_members", Type::kGauge, "",
                  "processes whose connection has ended and that may still use slots",
                  socket<&SocketFigures::departed_members>},
    ServiceMetric{"tiercel_departed_slots", Type::kGauge, "",
                  "slots that wait until those processes have ended or say that they are done",
                  socket<&SocketFigures::departed_slots>},
    ServiceMetric{"tiercel_engines", Type::kGauge, "", "engines connected",
                  [](const ServiceFigures& f) { return Samples{{.value = as_double(f.engines.size())}}; }},
    ServiceMetric{"tiercel_engine_members", Type::kGauge, "`engine`", "processes of the engine that are connected",
                  [](const ServiceFigures& f) {
                    return engines(f, [](const EngineReport& e) { return std::optional<double>(e.members); });
                  }},
    ServiceMetric{
        "tiercel_engine_mode", Type::kGauge, "`engine`, `mode`: on, store_only, load_only, off",
        "1 for the mode that holds for the engine (the stricter of its own and the service's), 0 for the others",
        engine_modes},
    ServiceMetric{"tiercel_engine_stored_bytes_total", Type::kCounter, "`engine`", "bytes that the engine committed",
                  engine_counters<&EngineCounters::stored_bytes>},
    ServiceMetric{"tiercel_engine_loaded_bytes_total", Type::kCounter, "`engine`", "bytes that the engine loaded",
                  engine_counters<&EngineCounters::loaded_bytes>},
    ServiceMetric{"tiercel_engine_load_seconds_total", Type::kCounter, "`engine`",
                  "time that the engine's requests waited for loads",
                  [](const ServiceFigures& f) {
                    return engines(f, [](const EngineReport& e) -> std::optional<double> {
                      if (!e.counters) return std::nullopt;
                      return as_double(e.counters->load_ns) / kNsPerSecond;
                    });
                  }},
    ServiceMetric{"tiercel_engine_prefill_bytes_per_second", Type::kGauge, "`engine`",
                  "bytes of KV that the engine's prefill computes a second, as it measured",
                  [](const ServiceFigures& f) {
                    return engines(f, [](const EngineReport& e) { return e.prefill_bytes_per_second; });
                  }},
    ServiceMetric{"tiercel_engine_kv_pool_capacity_bytes", Type::kGauge, "`engine`",
                  "size of the engine's own KV pool in GPU memory, as it reports it", kv_pools<&KvPool::total_bytes>},
    ServiceMetric{"tiercel_engine_kv_pool_used_bytes", Type::kGauge, "`engine`", "bytes in use of that pool",
                  kv_pools<&KvPool::used_bytes>},
    ServiceMetric{"tiercel_engine_kv_pool_free_bytes", Type::kGauge, "`engine`", "bytes free in that pool",
                  kv_pools<&KvPool::free_bytes>},
    ServiceMetric{"tiercel_tenant_used_bytes", Type::kGauge, kTenantLabels,
                  "bytes in slots charged to the tenant, quarantine included; over all tenants the tier's use",
                  tenant_tiers<&TenantTierReport::used_bytes>},
    ServiceMetric{"tiercel_tenant_guarantee_bytes", Type::kGauge, kTenantLabels,
                  "bytes that no other tenant's stores and loads take from it",
                  tenant_tiers<&TenantTierReport::guarantee_bytes>},
    ServiceMetric{"tiercel_tenant_cap_bytes", Type::kGauge, kTenantLabels,
                  "bytes that it may hold at most; none of several together",
                  tenant_tiers<&TenantTierReport::cap_bytes>},
    ServiceMetric{"tiercel_tenant_hit_blocks_total", Type::kCounter, kTenantLabels,
                  "blocks of the tenant that loads gave out", tenant_tiers<&TenantTierReport::hit_blocks>},
    ServiceMetric{"tiercel_tenant_hit_bytes_total", Type::kCounter, kTenantLabels,
                  "bytes of the tenant that loads gave out", tenant_tiers<&TenantTierReport::hit_bytes>},
    ServiceMetric{"tiercel_tenant_stored_bytes_total", Type::kCounter, kTenantLabels,
                  "bytes of the tenant that were stored", tenant_tiers<&TenantTierReport::stored_bytes>},
    ServiceMetric{"tiercel_tenant_evicted_blocks_total", Type::kCounter, kTenantLabels,
                  "blocks of the tenant that went for room", tenant_tiers<&TenantTierReport::evicted_blocks>},
    ServiceMetric{"tiercel_tenant_evicted_bytes_total", Type::kCounter, kTenantLabels,
                  "bytes of the tenant that went for room", tenant_tiers<&TenantTierReport::evicted_bytes>},
    ServiceMetric{"tiercel_tenant_pinned_bytes", Type::kGauge, kTenantLabel,
                  "bytes of the host tier that the tenant's logical pins hold", tenants<&TenantReport::pinned_bytes>},
    ServiceMetric{"tiercel_tenant_pinned_cap_bytes", Type::kGauge, kTenantLabel, "bytes that they may hold at most",
                  tenants<&TenantReport::pinned_cap_bytes>},
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
