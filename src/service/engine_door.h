// EngineDoor: how engines come into a service, as the Service sees it. The socket server is one; a service without a
// door serves nobody but its own process.
//
// Made by the maker that Service::open is given, once the cache is open; it opens its sessions on that cache. Closed
// by the Service before the cache is. engines() and figures() are safe from any thread and short.
#pragma once

#include "service/view.h"

#include <tiercel/cache.h>
#include <tiercel/result.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace tiercel::service {

class EngineDoor {
 public:
  virtual ~EngineDoor() = default;
  [[nodiscard]] virtual std::vector<EngineReport> engines() const = 0;
  /// Empty: this door does not count who comes and goes.
  [[nodiscard]] virtual std::optional<SocketFigures> figures() const { return std::nullopt; }
  /// Takes nobody new, tells those inside, and waits at most `deadline` for them. kTimeout: somebody is still inside.
  virtual Status close(std::chrono::nanoseconds deadline) = 0;
};

/// An error keeps the service from starting; `cache` outlives the door.
using MakeDoor = std::function<Result<std::unique_ptr<EngineDoor>>(Cache& cache)>;

}  // namespace tiercel::service
