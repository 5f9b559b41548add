#include "cli/private_service.h"

#include <fmt/format.h>
#include <sched.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>

namespace tiercel::cli {
namespace {

constexpr unsigned kLongestStart = 310;  // seconds; a client waits for 300 at most
constexpr std::size_t kLogBytes = 1 << 20U;
constexpr int kSooner = 500;  // added to the kernel's score of who ends when memory runs out; 1000 is the most

void use_all_processors() {
  sched_param ordinary{};
  (void)::sched_setscheduler(0, SCHED_OTHER, &ordinary);
  cpu_set_t all;
  std::memset(&all, 0xFF, sizeof(all));  // the kernel takes those that this process may use
  (void)::sched_setaffinity(0, sizeof(all), &all);
  constexpr int kDefaultPolicy = 0;  // MPOL_DEFAULT
  (void)::syscall(SYS_set_mempolicy, kDefaultPolicy, nullptr, 0);
}

void end_before_engines() {
  constexpr const char* kScore = "/proc/self/oom_score_adj";
  int score = 0;
  if (!(std::ifstream(kScore) >> score)) return;
  std::ofstream(kScore) << std::min(score + kSooner, 1000);
}

}  // namespace

Config private_config() {
  Config config;
  config.http.listen.clear();  // two users of a machine must not meet at one port
  config.metrics.listen.clear();
  config.service.idle_grace = std::chrono::seconds(30);
  return config;
}

void settle_in() {
  (void)::umask(0077);
  use_all_processors();
  end_before_engines();
  (void)::alarm(kLongestStart);
}

void settled() { (void)::alarm(0); }

Status log_to(const std::string& path) {
  spdlog::file_event_handlers follow;  // what is written past the logger follows it
  follow.after_open = [](const std::string&, std::FILE* file) {
    (void)::dup2(::fileno(file), STDOUT_FILENO);
    (void)::dup2(::fileno(file), STDERR_FILENO);
  };
  try {
    auto sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(path, kLogBytes, 1, false, follow);
    const auto logger = spdlog::get("tiercel");
    logger->sinks() = {std::move(sink)};
    logger->flush_on(spdlog::level::info);
  } catch (const spdlog::spdlog_ex& error) {
    return fail(ErrorCode::kIo, fmt::format("--log {}: {}", path, error.what()));
  }
  return {};
}

}  // namespace tiercel::cli
