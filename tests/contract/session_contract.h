// The contract of Session: one suite for every implementation. An implementation gives a World: a small cache behind
// sessions of its kind.
#pragma once

#include <tiercel/cache.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::contract {

class World {
 public:
  virtual ~World() = default;
  [[nodiscard]] virtual Result<Session> open(const SessionOptions& options) = 0;
  [[nodiscard]] virtual Stats stats() = 0;
  /// Returns when no background task is left.
  virtual void settle() = 0;
  /// Lets time pass; false where time cannot be turned.
  [[nodiscard]] virtual bool advance(std::chrono::nanoseconds) { return false; }
  /// Blocks have a second copy, on disk, and what the arena gives up is served from there.
  [[nodiscard]] virtual bool has_disk() const { return false; }
  /// What its sessions have reported of their prefill, summed; empty: nobody listens here but who reports.
  [[nodiscard]] virtual std::optional<double> prefill() { return std::nullopt; }
  /// Of all engines.
  virtual void set_mode(Mode mode) = 0;
  /// Ends the cache, sessions open or not.
  virtual void close() = 0;
};

struct WorldKind {
  std::string name;
  std::function<std::unique_ptr<World>(const Config&)> make;
};

/// The implementations of this test binary: defined by the file that is linked with session_contract.cc.
[[nodiscard]] std::vector<WorldKind> world_kinds();

}  // namespace tiercel::contract
