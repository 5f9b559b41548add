#include "service/http/status_json.h"

#include "metrics/metric.h"
#include "service/http/health.h"
#include "service/http/tenant_list.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <variant>

namespace tiercel::service {
namespace {

using Json = nlohmann::ordered_json;
constexpr double kNsPerSecond = 1e9;

double seconds(std::uint64_t ns) { return static_cast<double>(ns) / kNsPerSecond; }

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json json_of(const Sample& sample) {
  Json json = Json::object();
  for (std::size_t i = 0; i < kColumns; ++i) json[std::string(columns()[i].name)] = number(sample[i]);
  return json;
}

Json json_of(const ServiceFacts& facts) {
  Json config = Json::array();
  for (const ConfigLine& line : facts.config) config.push_back({{"key", line.key}, {"value", line.value}});
  return {{"version", facts.version},
          {"instance", facts.instance},
          {"pid", facts.pid},
          {"uptime_seconds", seconds(facts.uptime_ns)},
          {"config", std::move(config)}};
}

Json tiers_of(const Stats& stats) {
  Json tiers = Json::array();
  for (std::size_t i = 0; i < kTierCount; ++i) {
    const TierStats& tier = stats.tiers[i];
    if (tier.capacity_bytes == 0) continue;  // not configured
    tiers.push_back({{"name", metrics::tier_names()[i]},
                     {"capacity_bytes", tier.capacity_bytes},
                     {"used_bytes", tier.used_bytes},
                     {"blocks", tier.blocks},
                     {"hit_blocks", tier.hit_blocks},
                     {"hit_bytes", tier.hit_bytes},
                     {"stored_blocks", tier.stored_blocks},
                     {"stored_bytes", tier.stored_bytes},
                     {"evicted_blocks", tier.evicted_blocks},
                     {"evicted_bytes", tier.evicted_bytes},
                     {"quarantined_bytes", tier.quarantined_bytes}});
  }
  return tiers;
}

/// Counters and gauges under their metric's name; those by outcome as an object. Tiers and histograms stand elsewhere.
struct Counter {
  const metrics::Metric& metric;
  const Stats& stats;
  Json operator()(metrics::TierField) const { return nullptr; }
  Json operator()(metrics::HistogramField) const { return nullptr; }
  Json operator()(metrics::PlainField field) const { return stats.*field; }
  template <std::size_t N>
  Json operator()(metrics::ArrayField<N> field) const {
    Json json = Json::object();
    for (std::size_t i = 0; i < metric.outcomes.size(); ++i) {
      Json& entry = json[std::string(metric.outcomes[i])];
      metric.unit == 1 ? entry = (stats.*field)[i] : entry = static_cast<double>((stats.*field)[i]) * metric.unit;
    }
    return json;
  }
};

Json counters_of(const Stats& stats) {
  Json json = Json::object();
  for (const metrics::Metric& metric : metrics::metrics()) {
    Json value = std::visit(Counter{metric, stats}, metric.field);
    if (!value.is_null()) json[std::string(metric.name)] = std::move(value);
  }
  return json;
}

Json json_of(const ArenaReport& arena) {
  return {{"stage", arena_stage_name(arena.stage)},
          {"epoch", arena.epoch},
          {"waits_for", arena.waits_for},
          {"cause", arena.cause}};
}

Json json_of(const DiskReport& disk) {
  return {{"directory", disk.directory},
          {"state", disk_state_name(disk.state)},
          {"cause", disk.cause},
          {"indexed", disk.indexed},
          {"found_blocks", disk.found_blocks},
          {"found_bytes", disk.found_bytes},
          {"indexed_seconds", seconds(disk.indexed_ns)}};
}

Json json_of(const EngineReport& engine, Mode all) {
  Json json = {{"engine", engine.engine_id},
               {"pid", engine.pid},
               {"members", engine.members},
               {"sessions", engine.sessions},
               {"mode", mode_name(stricter(engine.mode, all))},
               {"own_mode", mode_name(engine.mode)},
               {"connected_seconds", seconds(engine.connected_ns)},
               {"counters", nullptr},
               {"kv_pool", nullptr},
               {"prefill_bytes_per_second", nullptr}};
  if (engine.counters) {
    json["counters"] = {{"stored_bytes", engine.counters->stored_bytes},
                        {"loaded_bytes", engine.counters->loaded_bytes},
                        {"load_seconds", seconds(engine.counters->load_ns)}};
  }
  if (engine.kv_pool) {
    json["kv_pool"] = {{"used_bytes", engine.kv_pool->used_bytes},
                       {"free_bytes", engine.kv_pool->free_bytes},
                       {"total_bytes", engine.kv_pool->total_bytes}};
  }
  if (engine.prefill_bytes_per_second) json["prefill_bytes_per_second"] = number(*engine.prefill_bytes_per_second);
  return json;
}

/// With the same tiers as the service has, so that each can be set beside the tier's size.
Json json_of(const TenantReport& tenant, const Stats& stats) {
  const bool several = stands_for_several(tenant);
  Json tiers = Json::array();
  for (std::size_t i = 0; i < kTenantTiers; ++i) {
    const TenantTierReport& tier = tenant.tiers[i];
    if (stats.tiers[i].capacity_bytes == 0) continue;  // not configured
    tiers.push_back({{"name", metrics::tier_names()[i]},
                     {"used_bytes", tier.used_bytes},
                     {"guarantee_bytes", tier.guarantee_bytes},
                     {"cap_bytes", several ? Json(nullptr) : Json(tier.cap_bytes)},
                     {"hit_blocks", tier.hit_blocks},
                     {"hit_bytes", tier.hit_bytes},
                     {"stored_blocks", tier.stored_blocks},
                     {"stored_bytes", tier.stored_bytes},
                     {"evicted_blocks", tier.evicted_blocks},
                     {"evicted_bytes", tier.evicted_bytes}});
  }
  return {{"tenant", tenant.name},
          {"configured", tenant.configured},
          {"namespaces", tenant.namespaces},
          {"pinned_bytes", tenant.pinned_bytes},
          {"pinned_cap_bytes", several ? Json(nullptr) : Json(tenant.pinned_cap_bytes)},
          {"tiers", std::move(tiers)}};
}

template <class T, class... More>
Json list_of(const std::vector<T>& values, const More&... more) {
  Json json = Json::array();
  for (const T& value : values) json.push_back(json_of(value, more...));
  return json;
}

}  // namespace

std::optional<double> seconds_saved(const std::vector<EngineReport>& engines) {
  std::optional<double> saved;
  for (const EngineReport& engine : engines) {
    if (!engine.counters || !engine.prefill_bytes_per_second || *engine.prefill_bytes_per_second <= 0) continue;
    saved = saved.value_or(0) + static_cast<double>(engine.counters->loaded_bytes) / *engine.prefill_bytes_per_second -
            seconds(engine.counters->load_ns);
  }
  return saved;
}

std::string status_json(const StatusInput& input) {
  const Health health = health_of(input.closing, input.disks, input.arena);
  const std::optional<double> saved = seconds_saved(input.engines);
  const Json json = {
      {"tick", input.tick},
      {"service", json_of(input.facts)},
      {"health", {{"state", health_name(health.state)}, {"causes", health.causes}}},
      {"window_seconds", input.window_seconds},
      {"now", json_of(input.now)},
      {"last", json_of(input.last)},
      {"tiers", tiers_of(input.stats)},
      {"arena", json_of(input.arena)},
      {"disks", list_of(input.disks)},
      {"mode", mode_name(input.mode)},
      {"engines", list_of(input.engines, input.mode)},
      {"tenants", list_of(input.tenants, input.stats)},
      {"seconds_saved", saved ? number(*saved) : Json(nullptr)},
      {"errors", errors_of(input.stats)},
      {"counters", counters_of(input.stats)},
  };
  // A path may hold any bytes; what is no UTF-8 is replaced.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string json_number(double value) { return std::isfinite(value) ? fmt::format("{:.4g}", value) : "null"; }

}  // namespace tiercel::service
