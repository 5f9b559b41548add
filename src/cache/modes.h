// Modes: what the sessions of a cache may do (Mode of session.h): one mode for all of them, and one for each engine.
//
// A session keeps its engine's switch, so that a call costs two loads of an atomic. An engine is known while it has
// sessions, and as long as its mode is not kOn; so a mode outlives a connection that breaks and an engine that is
// started again. At most kMostEngines modes are remembered. Safe from any thread; the mutex is a leaf.
#pragma once

#include "base/mutex.h"

#include <tiercel/result.h>
#include <tiercel/session.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::detail {

class Modes {
 public:
  static constexpr std::size_t kMostEngines = 1024;
  /// Of one engine. set() (release) pairs with the session's look (acquire).
  using Switch = std::atomic<Mode>;

  [[nodiscard]] Mode all() const noexcept { return all_.load(std::memory_order_acquire); }
  void set_all(Mode mode) noexcept { all_.store(mode, std::memory_order_release); }

  /// A session of this engine opens, or ends.
  [[nodiscard]] std::shared_ptr<const Switch> join(std::string_view engine);
  void leave(std::string_view engine) noexcept;

  /// kNotFound, kLimit: as Cache::set_mode says.
  [[nodiscard]] Status set(std::string_view engine, Mode mode);
  [[nodiscard]] Mode of(std::string_view engine) const;

  struct Engine {
    std::string name;
    Mode mode = Mode::kOn;
    std::uint32_t sessions = 0;  ///< 0: it is away
  };
  [[nodiscard]] std::vector<Engine> engines() const;

 private:
  struct Entry {
    std::shared_ptr<Switch> mode;
    std::uint32_t sessions = 0;
  };
  [[nodiscard]] tl::unexpected<Error> not_found(std::string_view engine) const TIERCEL_REQUIRES(mutex_);

  std::atomic<Mode> all_{Mode::kOn};  // set_all() (release) pairs with all() (acquire)
  mutable Mutex mutex_;
  std::map<std::string, Entry, std::less<>> engines_ TIERCEL_GUARDED_BY(mutex_);
  std::size_t set_apart_ TIERCEL_GUARDED_BY(mutex_) = 0;  // engines whose mode is not kOn
};

}  // namespace tiercel::detail
