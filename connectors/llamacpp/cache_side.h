// CacheSide: where tiercel-llama keeps its blocks: in a cache of its own, in the node service, or nowhere.
//
// Opened once, before the engine, and closed after it. opener() and metrics() borrow it and are safe from any thread.
#pragma once

#include "connectors/llamacpp/adapter.h"
#include "connectors/llamacpp/options.h"

#include <tiercel/cache.h>
#include <tiercel/client.h>

#include <functional>
#include <optional>
#include <string>

namespace tiercel::llamacpp {

class CacheSide {
 public:
  /// As `options` say. `say` gets the lines for the one who started the server.
  [[nodiscard]] static Result<CacheSide> open(const ServerOptions& options,
                                              const std::function<void(const std::string&)>& say);

  /// Empty where blocks are kept nowhere.
  [[nodiscard]] SessionOpener opener();
  /// Of the cache of its own, as Prometheus text; a service shows its own.
  [[nodiscard]] std::string metrics() const;
  /// Waits two seconds for what still moves; that ends with the process.
  void close();

 private:
  CacheSide() = default;
  std::optional<Cache> cache_;
  std::optional<Client> client_;
};

}  // namespace tiercel::llamacpp
