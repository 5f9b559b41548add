// The log: one line an event through spdlog, bounded a cause.
//
// log_line writes to the "tiercel" logger (stderr unless the program installs another). A cause that repeats is
// written at most once in ten seconds, with the count of what was left out (rule 3: log lines per cause are bounded).
// Never call it under a lock of the core. Safe from any thread.
#pragma once

#include <tiercel/config.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

namespace tiercel {

inline constexpr std::size_t kLogLevels = 4;

using LogSink = std::function<void(LogLevel, std::string_view)>;

/// Sends every later line to `sink` (an empty one: back to spdlog). For tests and for programs with a log of their own.
void set_log_sink(LogSink sink);

/// What the "tiercel" logger writes: lines of this level and above. Where a program has set the logger to a level that
/// is none of these, the nearest below it.
void set_log_level(LogLevel level);
[[nodiscard]] LogLevel log_level();
/// "debug", "info", "warn", "error"
[[nodiscard]] std::string_view log_level_name(LogLevel level) noexcept;

/// `cause` is a short constant such as "huge_pages"; it bounds how often the line appears.
void log_line(LogLevel level, std::string_view cause, std::string_view text);

}  // namespace tiercel
