#include "service/service.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/try.h"
#include "config/address.h"
#include "config/setting_value.h"
#include "config/tenants.h"
#include "service/http/front.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <random>
#include <utility>

namespace tiercel::service {
namespace {

constexpr std::chrono::seconds kFarewell(5);  // of the destructor

std::string text_value(const config::Setting& setting, const Config& config) {
  if (setting.list != nullptr) return fmt::format("{}", fmt::join(config::list_of(setting, config), ", "));
  if (setting.text != nullptr) return config::text_of(setting, config);
  return config::format_number(setting, setting.number(config));
}

/// What somebody set: everything that is not as it is by default.
std::vector<ConfigLine> config_lines(const Config& config) {
  std::vector<ConfigLine> lines;
  const Config standard;
  for (const config::Setting& setting : config::settings()) {
    std::string value = text_value(setting, config);
    if (value == text_value(setting, standard)) continue;
    lines.push_back({.key = std::string(setting.key), .value = config::shown(value)});
  }
  for (const auto& [name, tenant] : config.tenants) {
    for (const config::TenantSetting& setting : config::tenant_settings()) {
      const TierShare& share = tenant.*setting.share;
      if (share == TenantConfig{}.*setting.share) continue;
      lines.push_back({.key = config::tenant_key(name, setting.key), .value = config::format_share(share)});
    }
  }
  return lines;
}

std::string new_instance() {
  std::random_device entropy;
  return fmt::format("{:08x}{:08x}", entropy(), entropy());
}

void warn_if_open(std::string_view key, const std::string& listen) {
  const auto address = config::parse_address(listen);
  if (listen.empty() || !address || config::is_loopback(*address)) return;
  log_line(
      LogLevel::kWarn, key,
      fmt::format("{}: {} can be reached from other machines; whoever reaches it can read all figures", key, listen));
}

}  // namespace

/// What a service is made of, in the order in which it is made.
class Service::Parts {
 public:
  explicit Parts(const Config& config) : lines(config_lines(config)), started_ns(clock.now_ns()) {}

  const SteadyClock clock;
  const std::vector<ConfigLine> lines;
  const std::string instance = new_instance();
  const std::uint64_t started_ns;
  // Taken once: a figure that is computed anew each time would look like a restart.
  const double started_unix_seconds =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::unique_ptr<Front> front;
  std::optional<Cache> cache;
  std::unique_ptr<EngineDoor> door;
  std::atomic<bool> closing{false};  // close (release), whoever asks (acquire)
  bool closed = false;
};

Result<std::unique_ptr<Service>> Service::open(const Config& config, const MakeDoor& make_door) {
  TIERCEL_TRY(validate(config));
  auto parts = std::make_unique<Parts>(config);
  TIERCEL_TRY_ASSIGN(parts->front, Front::bind(config));
  TIERCEL_TRY_ASSIGN(parts->cache, Cache::open(config));
  if (make_door) {
    TIERCEL_TRY_ASSIGN(parts->door, make_door(*parts->cache));
  }
  warn_if_open("http.listen", config.http.listen);
  warn_if_open("metrics.listen", config.metrics.listen);
  std::unique_ptr<Service> service(new Service(std::move(parts)));
  service->parts_->front->start(*service, service->parts_->clock);
  return service;
}

Service::Service(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Service::~Service() { (void)close(kFarewell); }

std::string Service::page_url() const { return parts_->front->page_url(); }
std::string Service::metrics_url() const { return parts_->front->metrics_url(); }
Cache& Service::cache() noexcept { return *parts_->cache; }

Stats Service::stats() const { return parts_->cache->stats(); }
std::vector<DiskReport> Service::disks() const { return parts_->cache->disks(); }

std::vector<TenantReport> Service::tenants() const { return parts_->cache->tenants(); }

std::vector<EngineReport> Service::engines() const {
  return parts_->door ? parts_->door->engines() : std::vector<EngineReport>();
}

std::optional<SocketFigures> Service::socket() const { return parts_->door ? parts_->door->figures() : std::nullopt; }

ServiceFacts Service::facts() const {
  return {.version = TIERCEL_VERSION,
          .instance = parts_->instance,
          .pid = ::getpid(),
          .uptime_ns = parts_->clock.now_ns() - parts_->started_ns,
          .started_unix_seconds = parts_->started_unix_seconds,
          .config = parts_->lines};
}

bool Service::closing() const noexcept { return parts_->closing.load(std::memory_order_acquire); }

Status Service::close(std::chrono::nanoseconds deadline) {
  if (std::exchange(parts_->closed, true)) return {};
  parts_->closing.store(true, std::memory_order_release);
  const std::uint64_t start = parts_->clock.now_ns();
  Status status;
  if (parts_->door) status = parts_->door->close(deadline);
  const auto spent = std::chrono::nanoseconds(parts_->clock.now_ns() - start);
  Status ended = parts_->cache->close(std::max(deadline - spent, std::chrono::nanoseconds(0)));
  if (status) status = std::move(ended);
  parts_->front->stop();
  return status;
}

}  // namespace tiercel::service
