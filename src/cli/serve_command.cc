// `tiercel serve`: opens a cache, shows it over HTTP, and ends in order on SIGTERM or SIGINT.
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/service_manager.h"
#include "service/server/socket_door.h"
#include "service/service.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <csignal>
#include <ctime>

#include <chrono>
#include <memory>

namespace tiercel::cli {
namespace {

using service::Service;

Arguments bind(std::uint32_t& close_seconds) {
  Arguments arguments("tiercel serve [--config FILE] [flags of the cache and of the service]",
                      "One cache for all engines of this machine, with a live page and metrics, until SIGTERM or "
                      "SIGINT. Exit status 0: it ended in order, 1: it could not start, or something did not end in "
                      "time.");
  arguments.app()
      .add_option("--close-deadline", close_seconds, "seconds that ending may take [30]")
      ->check(CLI::Range(1, 3600));
  return arguments;
}

/// Signals that end the service are taken by sigtimedwait alone; every thread made from here on inherits that.
sigset_t block_end_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  (void)pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

/// A service logs with time and level, from "info" on.
void open_log() {
  const auto logger = spdlog::get("tiercel");
  logger->set_level(spdlog::level::info);
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l: %v");
}

std::string tier_line(const Config& config, const Service& service) {
  const Stats stats = service.stats();
  const auto capacity = [&](TierId tier) {
    return format_bytes(stats.tiers[static_cast<std::size_t>(tier)].capacity_bytes);
  };
  std::string line = "host " + capacity(TierId::kHost);
  if (config.disk.directories.empty()) return line + ", no disk";
  line += ", disk " + format_bytes(config.disk.capacity) + " in";
  for (const std::string& directory : config.disk.directories) line += " " + directory;
  return line;
}

std::string greeting(const Config& config, const Service& service) {
  const auto shown = [](const std::string& url, const char* key) {
    return url.empty() ? fmt::format("none ({} is empty)", key) : url;
  };
  return fmt::format(
      "tiercel {} is serving. {}.\n"
      "engines    {}\n"
      "live page  {}\n"
      "metrics    {}\n",
      service.facts().version, tier_line(config, service), service::socket_path(config),
      shown(service.page_url(), "http.listen"), shown(service.metrics_url(), "metrics.listen"));
}

}  // namespace

int run_serve(std::span<const std::string> words) {
  std::uint32_t close_seconds = 30;
  Arguments arguments = bind(close_seconds);
  Config config;
  bool help = false;
  if (Status status = arguments.parse_with_config(words, config, help, FlagScope::kService); !status) {
    return complain(status.error(), kUsageStatus);
  }
  if (help) {
    say(arguments.help(true, FlagScope::kService));
    return 0;
  }
  const sigset_t signals = block_end_signals();
  open_log();
  config.host.arena = ArenaKind::kMemfd;  // engines map it
  auto opened = Service::open(config, service::socket_door(config));
  if (!opened) return complain(opened.error(), 1);
  Service& service = **opened;
  say(greeting(config, service));
  tell_service_manager("READY=1");

  int signal = 0;
  while (sigwait(&signals, &signal) != 0) {
  }
  spdlog::get("tiercel")->info("{}: ending; a second signal ends at once", signal == SIGINT ? "SIGINT" : "SIGTERM");
  tell_service_manager("STOPPING=1");
  (void)pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);  // this thread alone: the second one is the default action
  if (Status status = service.close(std::chrono::seconds(close_seconds)); !status) {
    return complain(status.error(), 1);
  }
  return 0;
}

}  // namespace tiercel::cli
