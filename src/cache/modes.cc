#include "cache/modes.h"

#include "config/setting_value.h"

#include <tiercel/config.h>

#include <fmt/format.h>

#include <array>

namespace tiercel {

std::string_view mode_name(Mode mode) noexcept {
  static constexpr std::array<std::string_view, kModes> kNames = {"on", "store_only", "load_only", "off"};
  const auto index = static_cast<std::size_t>(mode);
  return index < kNames.size() ? kNames[index] : "unknown";
}

namespace detail {
namespace {

constexpr std::size_t kMostNamed = 8;  // in a sentence

}  // namespace

std::shared_ptr<const Modes::Switch> Modes::join(std::string_view engine) {
  const MutexLock lock(mutex_);
  auto found = engines_.find(engine);
  if (found == engines_.end()) {
    found = engines_.emplace(engine, Entry{.mode = std::make_shared<Switch>(Mode::kOn)}).first;
  }
  ++found->second.sessions;
  return found->second.mode;
}

void Modes::leave(std::string_view engine) noexcept {
  const MutexLock lock(mutex_);
  const auto found = engines_.find(engine);
  if (found == engines_.end()) return;
  Entry& entry = found->second;
  if (--entry.sessions == 0 && entry.mode->load(std::memory_order_relaxed) == Mode::kOn) engines_.erase(found);
}

Status Modes::set(std::string_view engine, Mode mode) {
  const MutexLock lock(mutex_);
  const auto found = engines_.find(engine);
  if (found == engines_.end()) return not_found(engine);
  Entry& entry = found->second;
  const bool apart = entry.mode->load(std::memory_order_relaxed) != Mode::kOn;
  if (!apart && mode != Mode::kOn && set_apart_ >= kMostEngines) {
    return fail(ErrorCode::kLimit, fmt::format("mode: {} engines have modes of their own, which is the limit; set some "
                                               "back to \"on\", or use one mode for all",
                                               set_apart_));
  }
  if (apart && mode == Mode::kOn) --set_apart_;
  if (!apart && mode != Mode::kOn) ++set_apart_;
  entry.mode->store(mode, std::memory_order_release);
  if (mode == Mode::kOn && entry.sessions == 0) engines_.erase(found);
  return {};
}

tl::unexpected<Error> Modes::not_found(std::string_view engine) const {
  std::vector<std::string> names;
  std::string listed;
  for (const auto& [raw, _] : engines_) {  // their clients chose them: they may hold anything
    const std::string name = config::shown(raw);
    if (names.size() < kMostNamed) listed += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", name);
    names.push_back(name);
  }
  if (names.size() > kMostNamed) listed += fmt::format(" and {} more", names.size() - kMostNamed);
  return fail(ErrorCode::kNotFound,
              fmt::format("engine: no engine \"{}\" is connected{}; {}", config::shown(engine),
                          did_you_mean(engine, names), names.empty() ? "none is" : "known are " + listed));
}

Mode Modes::of(std::string_view engine) const {
  const MutexLock lock(mutex_);
  const auto found = engines_.find(engine);
  return found == engines_.end() ? Mode::kOn : found->second.mode->load(std::memory_order_relaxed);
}

std::vector<Modes::Engine> Modes::engines() const {
  std::vector<Engine> engines;
  const MutexLock lock(mutex_);
  for (const auto& [name, entry] : engines_) {
    engines.push_back({.name = name, .mode = entry.mode->load(std::memory_order_relaxed), .sessions = entry.sessions});
  }
  return engines;
}

}  // namespace detail
}  // namespace tiercel
