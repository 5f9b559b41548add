// EngineDoor: how engines come into a service, as the Service sees it. The socket server is one; a service without a
// door serves nobody but its own process.
//
// Made by the Door that Service::open is given, once the cache is open; it opens its sessions on that cache. Closed
// by the Service before the cache is. engines(), figures() and arena() are safe from any thread and short.
#pragma once

#include "service/view.h"

#include <tiercel/cache.h>
#include <tiercel/result.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace tiercel::service {

class EngineDoor {
 public:
  virtual ~EngineDoor() = default;
  [[nodiscard]] virtual std::vector<EngineReport> engines() const = 0;
  /// Empty: this door does not count who comes and goes.
  [[nodiscard]] virtual std::optional<SocketFigures> figures() const { return std::nullopt; }
  [[nodiscard]] virtual ArenaReport arena() const { return {}; }
  /// Takes nobody new, tells those inside, and waits at most `deadline` for them. kTimeout: somebody is still inside.
  virtual Status close(std::chrono::nanoseconds deadline) = 0;
};

/// An error keeps the service from starting; `cache` outlives the door.
using MakeDoor = std::function<Result<std::unique_ptr<EngineDoor>>(Cache& cache)>;

/// What the cache must be like for a door whose place is taken.
struct ArenaPlan {
  bool later = false;          ///< its memory comes later: clients may still have it
  std::uint64_t capacity = 0;  ///< of that memory, where host.capacity is not set
  int place = -1;              ///< a descriptor with the place's lock, for disks to keep until their last IO has ended
};

/// A door that is made in two steps: its place is taken before there is a cache, so that a second service is refused
/// before it costs memory, and so that the cache suits what an earlier run has left.
struct Door {
  Door() = default;
  template <class Make>
    requires std::is_invocable_v<Make, Cache&>
  Door(Make one_step) : make(std::move(one_step)) {}  // NOLINT(google-explicit-constructor): without a first step
  Door(std::function<Result<ArenaPlan>()> first, MakeDoor second)
      : take_place(std::move(first)), make(std::move(second)) {}

  std::function<Result<ArenaPlan>()> take_place;  ///< may be empty
  MakeDoor make;                                  ///< empty: no engine can come in from outside
};

}  // namespace tiercel::service
