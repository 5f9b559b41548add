#include "service/service.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/try.h"
#include "cache/cache_access.h"
#include "config/address.h"
#include "config/setting_value.h"
#include "config/tenants.h"
#include "service/admin/calls.h"
#include "service/admin/door.h"
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

/// Takes over, in `running`, what differs in `wanted` and may change; says what it did, and what it could not.
ReloadReport merge(Config& running, const Config& wanted) {
  ReloadReport report;
  for (const config::Setting& setting : config::settings()) {
    const std::string before = text_value(setting, running);
    const std::string after = text_value(setting, wanted);
    if (before == after) continue;
    auto& changes = setting.live ? report.applied : report.restart;
    changes.push_back(
        {.key = std::string(setting.key), .before = config::shown(before), .after = config::shown(after)});
    if (setting.live) config::copy_value(setting, wanted, running);
  }
  return report;
}

/// What tenants are promised and allowed, of the files that were read again. Guarantees that change are taken back
/// first, so that the order in which tenants are set is no matter.
Status take_tenants(Cache& cache, Config& running, const Config& wanted, ReloadReport& report) {
  TenantConfigs changed;
  for (const auto& [name, _] : running.tenants) changed[name] = {};
  for (const auto& [name, tenant] : wanted.tenants) changed[name] = tenant;
  const auto before = [&](const std::string& name) {
    const auto found = running.tenants.find(name);
    return found == running.tenants.end() ? TenantConfig{} : found->second;
  };
  std::erase_if(changed, [&](const auto& entry) { return entry.second == before(entry.first); });
  for (const auto& [name, tenant] : changed) {
    TenantConfig without = tenant;
    const TenantConfig old = before(name);
    if (old.host_guarantee != tenant.host_guarantee) without.host_guarantee = {};
    if (old.disk_guarantee != tenant.disk_guarantee) without.disk_guarantee = {};
    TIERCEL_TRY(cache.set_tenant(name, without));
  }
  for (const auto& [name, tenant] : changed) {
    TIERCEL_TRY(cache.set_tenant(name, tenant));
    const TenantConfig old = before(name);
    for (const config::TenantSetting& setting : config::tenant_settings()) {
      if (old.*setting.share == tenant.*setting.share) continue;
      report.applied.push_back({.key = config::tenant_key(name, setting.key),
                                .before = config::format_share(old.*setting.share),
                                .after = config::format_share(tenant.*setting.share)});
    }
  }
  running.tenants = wanted.tenants;
  return {};
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
  Parts(const Config& config, AdminOptions admin_options)
      : started_ns(clock.now_ns()), options(std::move(admin_options)), running(config) {}
  [[nodiscard]] Result<ReloadReport> reload();
  [[nodiscard]] std::vector<EngineReport> engines() const {
    return door ? door->engines() : std::vector<EngineReport>();
  }

  const SteadyClock clock;
  const std::string instance = new_instance();
  const std::uint64_t started_ns;
  // Taken once: a figure that is computed anew each time would look like a restart.
  const double started_unix_seconds =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const AdminOptions options;
  Mutex reloading;  // one at a time; before `mutex`
  mutable Mutex mutex;
  Config running TIERCEL_GUARDED_BY(mutex);
  std::unique_ptr<Front> front;
  std::unique_ptr<AdminDoor> admin_door;
  std::optional<Cache> cache;
  std::unique_ptr<AdminCalls> admin;
  std::unique_ptr<EngineDoor> door;
  std::atomic<bool> closing{false};  // close (release), whoever asks (acquire)
  bool closed = false;
};

Result<ReloadReport> Service::Parts::reload() {
  if (!options.read_config) {
    return fail(ErrorCode::kUnsupported, "reload: this service has no configuration that it could read again");
  }
  const MutexLock one_at_a_time(reloading);
  TIERCEL_TRY_ASSIGN(const Config wanted, options.read_config());
  TIERCEL_TRY(validate(wanted));
  // All that can fail comes first.
  TIERCEL_TRY_ASSIGN(auto token, AdminDoor::read_token(wanted.http.admin_token_file));
  Config merged;
  {
    const MutexLock lock(mutex);
    merged = running;
  }
  const LogLevel level = merged.service.log_level;
  ReloadReport report = merge(merged, wanted);
  TIERCEL_TRY(validate(merged));  // what changes, beside what does not
  TIERCEL_TRY(take_tenants(*cache, merged, wanted, report));
  TIERCEL_TRY(cache->reconfigure(merged));
  front->reconfigure(merged.http);
  admin_door->set_token(token);
  if (merged.service.log_level != level) set_log_level(merged.service.log_level);
  const MutexLock lock(mutex);
  running = std::move(merged);
  return report;
}

Result<std::unique_ptr<Service>> Service::open(const Config& config, const Door& door, const AdminOptions& admin) {
  TIERCEL_TRY(validate(config));
  auto parts = std::make_unique<Parts>(config, admin);
  ArenaPlan plan;  // first: a second service on the same path must not touch what the first one has
  if (door.take_place) {
    TIERCEL_TRY_ASSIGN(plan, door.take_place());
  }
  TIERCEL_TRY_ASSIGN(parts->admin_door, AdminDoor::bind({.socket = admin.socket,
                                                         .group = config.service.group,
                                                         .token_file = config.http.admin_token_file}));
  TIERCEL_TRY_ASSIGN(parts->front, Front::bind(config));
  Config planned = config;
  if (planned.host.capacity == 0) planned.host.capacity = plan.capacity;
  TIERCEL_TRY_ASSIGN(parts->cache, detail::CacheAccess::open(planned, plan.later, plan.place));
  if (door.make) {
    TIERCEL_TRY_ASSIGN(parts->door, door.make(*parts->cache));
  }
  warn_if_open("http.listen", config.http.listen);
  warn_if_open("metrics.listen", config.metrics.listen);
  std::unique_ptr<Service> service(new Service(std::move(parts)));
  Parts& made = *service->parts_;
  made.admin = std::make_unique<AdminCalls>(AdminCalls::Parts{.cache = *made.cache,
                                                              .engines = [&made] { return made.engines(); },
                                                              .reload = [&made] { return made.reload(); }});
  made.admin_door->start(*made.admin, made.clock);
  made.front->start(*service, made.clock, made.admin_door.get());
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

std::vector<EngineReport> Service::engines() const { return parts_->engines(); }

Mode Service::mode() const { return parts_->cache->mode(); }

Result<std::string> Service::reload() {
  TIERCEL_TRY_ASSIGN(const ReloadReport report, parts_->reload());
  return words_of(report);
}

std::optional<SocketFigures> Service::socket() const { return parts_->door ? parts_->door->figures() : std::nullopt; }
ArenaReport Service::arena() const { return parts_->door ? parts_->door->arena() : ArenaReport(); }

ServiceFacts Service::facts() const {
  const MutexLock lock(parts_->mutex);
  return {.version = TIERCEL_VERSION,
          .instance = parts_->instance,
          .pid = ::getpid(),
          .uptime_ns = parts_->clock.now_ns() - parts_->started_ns,
          .started_unix_seconds = parts_->started_unix_seconds,
          .config = config_lines(parts_->running)};
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
  // Last: what waits there (a delete) has been woken by the end of the cache.
  parts_->admin_door->stop();
  parts_->front->stop();
  return status;
}

}  // namespace tiercel::service
