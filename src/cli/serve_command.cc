// `tiercel serve`: opens a cache, shows it over HTTP, and ends in order on SIGTERM or SIGINT, or after its last member.
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/private_service.h"
#include "cli/service_manager.h"
#include "service/server/socket_door.h"
#include "service/service.h"
#include "service/start/idle_end.h"
#include "service/start/report.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

#include <csignal>
#include <ctime>

#include <algorithm>
#include <chrono>
#include <memory>

namespace tiercel::cli {
namespace {

using service::Service;

constexpr const char* kPrivate = "--private";
constexpr const char* kStarted = "--started";

struct ServeFlags {
  std::uint32_t close_seconds = 30;
  std::string log;
  bool is_private = false;  // known before the others are read, as the next
  bool started = false;
};

Arguments bind(ServeFlags& flags) {
  Arguments arguments("tiercel serve [--config FILE] [flags of the cache and of the service]",
                      "One cache for all engines of this machine, with a live page and metrics, until SIGTERM or "
                      "SIGINT, or service.idle_grace after the last engine. Exit status 0: it ended in order, 1: it "
                      "could not start, or something did not end in time.");
  arguments.app()
      .add_option("--close-deadline", flags.close_seconds, "seconds that ending may take [30]")
      ->check(CLI::Range(1, 3600));
  arguments.app().add_option("--log", flags.log, "file to log to instead of stderr, at most twice 1 MiB");
  arguments.app().add_flag(
      kPrivate, flags.is_private,
      "as a client starts one: no listeners, and an end 30 s after its last engine, where flags or "
      "file do not say otherwise");
  arguments.app().add_flag(kStarted, flags.started,
                           "for programs that start one: descriptor 3 is told when it serves, 4 is a lock");
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
Status open_log(const std::string& path, LogLevel level) {
  constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                                   spdlog::level::err};
  const auto logger = spdlog::get("tiercel");
  logger->set_level(kLevels[static_cast<unsigned>(level)]);
  if (!path.empty()) {
    if (Status opened = log_to(path); !opened) return opened;
  }
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l: %v");
  return {};
}

std::string seconds(std::chrono::milliseconds time) {
  return fmt::format("{} s", static_cast<double>(time.count()) / 1'000);
}

/// Ends this process as SIGTERM does.
std::shared_ptr<service::start::IdleEnd> idle_end(const Config& config) {
  const auto grace = config.service.idle_grace;
  if (grace.count() == 0) return nullptr;
  return std::make_shared<service::start::IdleEnd>(service::socket_path(config), grace, [grace] {
    spdlog::get("tiercel")->info("the last engine has been gone for {}", seconds(grace));
    (void)::kill(::getpid(), SIGTERM);
  });
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

/// Told to whoever started it as well.
int complain_to_both(service::start::Report& report, const Error& error, int status) {
  report.failed(error);
  return complain(error, status);
}

/// The settings of a service, as its command line and the files named there say now.
Result<Config> read_config(std::span<const std::string> words, ServeFlags flags) {
  Config config = flags.is_private ? private_config() : Config{};
  bool help = false;
  Arguments arguments = bind(flags);
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

int serve(std::span<const std::string> words, const ServeFlags& given, service::start::Report& report) {
  ServeFlags flags = given;
  Arguments arguments = bind(flags);
  Config config = flags.is_private ? private_config() : Config{};
  bool help = false;
  if (Status status = arguments.parse_with_config(words, config, help, FlagScope::kService); !status) {
    return complain_to_both(report, status.error(), kUsageStatus);
  }
  if (help) {
    say(arguments.help(true, FlagScope::kService));
    return 0;
  }
  const sigset_t signals = block_signals();
  if (Status status = open_log(flags.log, config.service.log_level); !status) {
    return complain_to_both(report, status.error(), 1);
  }
  config.host.arena = ArenaKind::kMemfd;  // engines map it
  // Outlives the service: the next one starts when this one's memory is free.
  const auto ending = idle_end(config);
  const service::AdminOptions admin{.socket = service::admin_path(service::socket_path(config)),
                                    .read_config = [words, flags] { return read_config(words, flags); }};
  auto opened = Service::open(config, service::socket_door(config, ending), admin);
  if (!opened) return complain_to_both(report, opened.error(), 1);
  Service& service = **opened;
  say(greeting(config, service));
  tell_service_manager("READY=1");
  if (flags.is_private) settled();
  report.ready(tier_line(config, service) +
               (ending ? ", ends " + seconds(config.service.idle_grace) + " after its last engine" : ""));

  const int signal = wait_for_end(signals, service);
  spdlog::get("tiercel")->info("{}: ending; a second signal ends at once", signal == SIGINT   ? "SIGINT"
                                                                           : signal == SIGHUP ? "SIGHUP"
                                                                                              : "SIGTERM");
  tell_service_manager("STOPPING=1");
  (void)pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);  // this thread alone: the second one is the default action
  if (Status status = service.close(std::chrono::seconds(flags.close_seconds)); !status) {
    return complain(status.error(), 1);
  }
  return 0;
}

}  // namespace

int run_serve(std::span<const std::string> words) {
  const auto has = [&](const char* flag) { return std::ranges::find(words, flag) != words.end(); };
  const ServeFlags flags{.is_private = has(kPrivate), .started = has(kStarted)};
  service::start::Report report;
  if (flags.started) {
    auto taken = service::start::Report::of_the_starter();
    if (!taken) return complain(taken.error(), kUsageStatus);
    report = std::move(*taken);
  }
  if (flags.is_private) settle_in();
  return serve(words, flags, report);
}

}  // namespace tiercel::cli
