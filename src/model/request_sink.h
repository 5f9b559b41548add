// RequestSink: is told what requests a cache is asked about, as they come. A recording is one (src/recording).
//
// The cache calls it on the caller's thread, from any number of them, before it does what was asked; so a call is quick
// (a few ns a block), never waits, and views what it is given only while it runs. It outlives every session.
#pragma once

#include <tiercel/block.h>

#include <cstdint>
#include <span>
#include <string_view>

namespace tiercel {

/// What a sink has done since it was made.
struct RequestSinkFigures {
  std::uint64_t requests = 0;  ///< recorded
  std::uint64_t shed = 0;      ///< calls that found no room and were given up
  std::uint64_t bytes = 0;     ///< of the recording, what an earlier part has included
  std::uint64_t errors = 0;    ///< writes that failed
  bool full = false;           ///< it has reached its largest size: nothing more is recorded
};

class RequestSink {
 public:
  enum class Kind : std::uint8_t { kMatch = 0, kLoad = 1, kReserve = 2 };
  struct Call {
    Kind kind = Kind::kMatch;
    std::uint32_t session = 0;  ///< as open_session() answered
    std::uint64_t now_ns = 0;
  };

  virtual ~RequestSink() = default;
  /// Of the scheduler member of an engine; other members' calls are no requests. Answers its number.
  [[nodiscard]] virtual std::uint32_t open_session(std::string_view engine, std::string_view model) noexcept = 0;
  /// A namespace that sessions use, by name.
  virtual void name_space(const Space& space) noexcept = 0;
  /// The session was asked about a chain.
  virtual void called(const Call& call, const Space& space, std::span<const BlockHash> chain) noexcept = 0;
  [[nodiscard]] virtual RequestSinkFigures figures() const noexcept = 0;
};

}  // namespace tiercel
