#include "base/log.h"

#include "base/clock.h"
#include "base/mutex.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <map>
#include <memory>
#include <string>

namespace tiercel {
namespace {

constexpr std::uint64_t kQuietNs = 1'000'000'000;
constexpr std::size_t kMaxCauses = 256;

struct Cause {
  std::uint64_t written_ns = 0;
  std::uint64_t left_out = 0;
};

struct Log {
  Mutex mutex;
  LogSink sink TIERCEL_GUARDED_BY(mutex);
  std::map<std::string, Cause, std::less<>> causes TIERCEL_GUARDED_BY(mutex);
  SteadyClock clock;
};

// Neither the log nor its logger is ever destroyed: a thread may log while the process ends.
Log& the_log() {
  static Log& log = *new Log;
  return log;
}

void write_spdlog(LogLevel level, std::string_view text) {
  static const std::shared_ptr<spdlog::logger>& logger = *new std::shared_ptr<spdlog::logger>([] {
    auto existing = spdlog::get("tiercel");
    return existing ? existing : spdlog::stderr_logger_mt("tiercel");
  }());
  constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                                   spdlog::level::err};
  logger->log(kLevels[static_cast<unsigned>(level)], "{}", text);
}

}  // namespace

void set_log_sink(LogSink sink) {
  Log& log = the_log();
  MutexLock lock(log.mutex);
  log.sink = std::move(sink);
  log.causes.clear();
}

void log_line(LogLevel level, std::string_view cause, std::string_view text) {
  Log& log = the_log();
  LogSink sink;
  std::uint64_t left_out = 0;
  {
    MutexLock lock(log.mutex);
    const std::uint64_t now = log.clock.now_ns();
    auto found = log.causes.find(cause);
    if (found == log.causes.end()) {
      if (log.causes.size() >= kMaxCauses) log.causes.clear();
      found = log.causes.emplace(cause, Cause{}).first;
    } else if (now - found->second.written_ns < kQuietNs) {
      ++found->second.left_out;
      return;
    }
    left_out = std::exchange(found->second.left_out, 0);
    found->second.written_ns = now;
    sink = log.sink;
  }
  const std::string line =
      left_out == 0 ? std::string(text) : fmt::format("{} ({} more of this kind left out)", text, left_out);
  if (sink) {
    sink(level, line);
  } else {
    write_spdlog(level, line);
  }
}

}  // namespace tiercel
