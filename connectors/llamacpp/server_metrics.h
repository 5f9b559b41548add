// ServerMetrics: the server's own Prometheus metrics, next to those of the cache.
//
// Counters of the engine are snapshots of its totals; the histograms are fed a request at a time. Safe from any thread.
#pragma once

#include "connectors/llamacpp/engine.h"
#include "connectors/llamacpp/generation.h"

#include <memory>
#include <string>

namespace tiercel::llamacpp {

class ServerMetrics {
 public:
  ServerMetrics();
  ~ServerMetrics();

  /// A request has ended.
  void observe(Finish finish, const Timings& timings);
  /// A request was answered with this HTTP status before it reached the engine.
  void refused(int status);
  /// Prometheus text format 0.0.4; metric names start with "tiercel_llama_".
  [[nodiscard]] std::string text(const EngineStats& stats, std::size_t connections);

 private:
  struct Families;
  std::unique_ptr<Families> families_;
};

}  // namespace tiercel::llamacpp
