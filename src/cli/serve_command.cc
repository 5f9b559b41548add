// `tiercel serve`: opens a cache, shows it over HTTP, and ends in order on SIGTERM or SIGINT.
#include "cli/arguments.h"
#include "cli/commands.h"
#include "service/server/socket_door.h"
#include "service/service.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

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

/// Signals of the service are taken by sigwait alone; every thread made from here on inherits that.
sigset_t block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGHUP);
  (void)pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

/// A service logs with time and level, from service.log_level on.
void open_log(LogLevel level) {
  constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                                   spdlog::level::err};
  const auto logger = spdlog::get("tiercel");
  logger->set_level(kLevels[static_cast<unsigned>(level)]);
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

/// The settings of a service, as its command line and the files named there say now.
Result<Config> read_config(std::span<const std::string> words) {
  std::uint32_t close_seconds = 0;
  Config config;
  bool help = false;
  Arguments arguments = bind(close_seconds);
  if (Status status = arguments.parse_with_config(words, config, help, FlagScope::kService); !status) {
    return tl::unexpected<Error>(std::move(status).error());
  }
  config.host.arena = ArenaKind::kMemfd;  // engines map it
  return config;
}

/// Waits for the signal that ends the service. SIGHUP reads the configuration again, unless it says that the terminal
/// is gone from which the service was started: that ends it, as it does any program.
int wait_for_end(const sigset_t& signals, Service& service) {
  const bool from_terminal = ::isatty(STDERR_FILENO) != 0;
  for (;;) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0) continue;
    if (signal != SIGHUP || (from_terminal && ::isatty(STDERR_FILENO) == 0)) return signal;
    const auto done = service.reload();
    if (done) {
      spdlog::get("tiercel")->info("SIGHUP: {}", *done);
    } else {
      spdlog::get("tiercel")->error("SIGHUP: nothing was changed: {}", done.error().message);
    }
  }
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
  const sigset_t signals = block_signals();
  open_log(config.service.log_level);
  config.host.arena = ArenaKind::kMemfd;  // engines map it
  const service::AdminOptions admin{.socket = service::admin_path(service::socket_path(config)),
                                    .read_config = [words] { return read_config(words); }};
  auto opened = Service::open(config, service::socket_door(config), admin);
  if (!opened) return complain(opened.error(), 1);
  Service& service = **opened;
  say(greeting(config, service));

  const int signal = wait_for_end(signals, service);
  spdlog::get("tiercel")->info("{}: ending; a second signal ends at once", signal == SIGINT   ? "SIGINT"
                                                                           : signal == SIGHUP ? "SIGHUP"
                                                                                              : "SIGTERM");
  (void)pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);  // this thread alone: the second one is the default action
  if (Status status = service.close(std::chrono::seconds(close_seconds)); !status) {
    return complain(status.error(), 1);
  }
  return 0;
}

}  // namespace tiercel::cli
