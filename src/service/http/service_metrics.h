// The metrics of the service itself: what it is, its HTTP, the engines and their KV pools. The cache's own are in
// src/metrics. One table, from which the Prometheus text and the reference in docs/operations.md are written. Pure.
#pragma once

#include "service/http/health.h"
#include "service/view.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::service {

/// Of one listener of the service's HTTP.
struct ListenerFigures {
  std::string name;  ///< "page", "metrics"
  std::uint64_t connections = 0;
  std::uint64_t refused_connections = 0;
};

struct HttpFigures {
  std::vector<ListenerFigures> listeners;
  std::uint64_t streams = 0;
  std::uint64_t refused_streams = 0;
  std::uint64_t refused_requests = 0;  ///< by Host, Origin or method
};

struct ServiceFigures {
  ServiceFacts facts;
  HealthState health = HealthState::kOk;
  HttpFigures http;
  std::vector<EngineReport> engines;
  std::optional<SocketFigures> socket = std::nullopt;  ///< without them their metrics have no series
  std::vector<TenantReport> tenants;                   ///< those that are shown: shown_tenants()
  Mode mode = Mode::kOn;                               ///< of all
  ArenaReport arena;
};

/// Series with an engine's name are bounded: engines beyond so many are left out, and tiercel_engines still counts
/// them.
inline constexpr std::size_t kMostEngineSeries = 64;

/// Prometheus text of these metrics alone.
[[nodiscard]] std::string service_metrics_text(const ServiceFigures& figures);

/// All metrics that /metrics answers, as a Markdown table for docs/operations.md.
[[nodiscard]] std::string metrics_markdown();

}  // namespace tiercel::service
