#include "service/service.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/try.h"
#include "cache/cache_access.h"
#include "config/address.h"
#include "config/setting_value.h"
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
  std::unique_ptr<Front> front;
  std::optional<Cache> cache;
  std::unique_ptr<EngineDoor> door;
  std::atomic<bool> closing{false};  // close (release), whoever asks (acquire)
  bool closed = false;
};

Result<std::unique_ptr<Service>> Service::open(const Config& config, const Door& door) {
  TIERCEL_TRY(validate(config));
  auto parts = std::make_unique<Parts>(config);
  TIERCEL_TRY_ASSIGN(parts->front, Front::bind(config));
  ArenaPlan plan;
  if (door.take_place) {
    TIERCEL_TRY_ASSIGN(plan, door.take_place());
  }
  Config planned = config;
  if (planned.host.capacity == 0) planned.host.capacity = plan.capacity;
  TIERCEL_TRY_ASSIGN(parts->cache, detail::CacheAccess::open(planned, plan.later, plan.place));
  if (door.make) {
    TIERCEL_TRY_ASSIGN(parts->door, door.make(*parts->cache));
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

std::vector<EngineReport> Service::engines() const {
  return parts_->door ? parts_->door->engines() : std::vector<EngineReport>();
}

ArenaReport Service::arena() const { return parts_->door ? parts_->door->arena() : ArenaReport(); }

ServiceFacts Service::facts() const {
  return {.version = TIERCEL_VERSION,
          .instance = parts_->instance,
          .pid = ::getpid(),
          .uptime_ns = parts_->clock.now_ns() - parts_->started_ns,
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
