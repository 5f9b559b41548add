#include "base/log.h"

#include "base/clock.h"
#include "base/log_causes.h"
#include "base/mutex.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <memory>
#include <string>

namespace tiercel {
namespace {

struct Log {
  Mutex mutex;
  LogSink sink TIERCEL_GUARDED_BY(mutex);
  LogCauses causes TIERCEL_GUARDED_BY(mutex);
  SteadyClock clock;
};

// Neither the log nor its logger is ever destroyed: a thread may log while the process ends.
Log& the_log() {
  static Log& log = *new Log;
  return log;
}

constexpr std::array<spdlog::level::level_enum, kLogLevels> kLevels = {spdlog::level::debug, spdlog::level::info,
                                                                       spdlog::level::warn, spdlog::level::err};

/// Never destroyed: a thread may log while the process ends.
spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger>& instance = *new std::shared_ptr<spdlog::logger>([] {
    auto existing = spdlog::get("tiercel");
    return existing ? existing : spdlog::stderr_logger_mt("tiercel");
  }());
  return *instance;
}

}  // namespace

void set_log_sink(LogSink sink) {
  Log& log = the_log();
  MutexLock lock(log.mutex);
  log.sink = std::move(sink);
  log.causes.clear();
}

void set_log_level(LogLevel level) { logger().set_level(kLevels[static_cast<unsigned>(level)]); }

LogLevel log_level() {
  const auto level = logger().level();
  std::size_t at = 0;
  while (at + 1 < kLogLevels && kLevels[at + 1] <= level) ++at;
  return static_cast<LogLevel>(at);
}

std::string_view log_level_name(LogLevel level) noexcept {
  static constexpr std::array<std::string_view, kLogLevels> kNames = {"debug", "info", "warn", "error"};
  const auto index = static_cast<std::size_t>(level);
  return index < kNames.size() ? kNames[index] : "unknown";
}

void log_line(LogLevel level, std::string_view cause, std::string_view text) {
  Log& log = the_log();
  LogSink sink;
  std::uint64_t left_out = 0;
  {
    MutexLock lock(log.mutex);
    // What is not to be seen does not count as written.
    if (!log.sink && !logger().should_log(kLevels[static_cast<unsigned>(level)])) return;
    const auto written = log.causes.write(cause, log.clock.now_ns());
    if (!written) return;
    left_out = *written;
    sink = log.sink;
  }
  const std::string line =
      left_out == 0 ? std::string(text) : fmt::format("{} ({} more of this kind left out)", text, left_out);
  if (sink) {
    sink(level, line);
  } else {
    logger().log(kLevels[static_cast<unsigned>(level)], "{}", line);
  }
}

}  // namespace tiercel
