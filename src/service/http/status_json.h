// The JSON of /status and of a live stream: every figure of the page, and every counter. Its shape is in
// docs/operations.md. Pure.
#pragma once

#include "service/http/sample.h"
#include "service/view.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::service {

struct StatusInput {
  std::uint64_t tick = 0;
  bool closing = false;
  ServiceFacts facts;
  Stats stats;
  std::vector<DiskReport> disks;
  std::vector<EngineReport> engines;
  std::vector<TenantReport> tenants;  ///< those that are shown: shown_tenants()
  Mode mode = Mode::kOn;              ///< of all
  ArenaReport arena;
  Sample now{};               ///< over the last `window_seconds`
  Sample last{};              ///< of the last tick: the newest point of the history
  double window_seconds = 0;  ///< 0: there is nothing to compare with yet
};

[[nodiscard]] std::string status_json(const StatusInput& input);

/// Four significant digits, or null.
[[nodiscard]] std::string json_number(double value);

/// Seconds of prefill that loads saved the engines, less what they waited for the loads: bytes loaded / bytes of KV
/// that the engine's own prefill computes a second. Only from engines that reported both, as they measured them;
/// nullopt if none did.
[[nodiscard]] std::optional<double> seconds_saved(const std::vector<EngineReport>& engines);

}  // namespace tiercel::service
