#include "config/setting.h"

#include <algorithm>
#include <array>
#include <type_traits>

namespace tiercel::config {
namespace {

// Widest values: 64 TiB of RAM and 1024 TiB of disk are beyond any one machine of today; the index holds 32-bit entry
// numbers and halves that for its own use.
constexpr std::uint64_t kMaxHost = 64_TiB;
constexpr std::uint64_t kMaxDisk = 1024_TiB;
constexpr std::uint64_t kMaxBlocks = std::uint64_t{1} << 31U;
constexpr std::uint64_t kLongestAddress = 64;  // an IPv6 address with its port has 47 characters
constexpr std::uint64_t kMillisecondsADay = 86'400'000;

constexpr std::array<std::string_view, 3> kHugePages = {"auto", "off", "require"};
constexpr std::array<std::string_view, 2> kArenas = {"anonymous", "memfd"};
constexpr std::array<std::string_view, 2> kDiskIo = {"auto", "threads"};
constexpr std::array<std::string_view, 2> kAdmissions = {"all", "second_sight"};
constexpr std::array<std::string_view, 4> kLogLevelNames = {"debug", "info", "warn", "error"};
constexpr std::array<std::string_view, 2> kIntegrityModes = {"normal", "paranoid"};

template <class T>
std::uint64_t to_number(const T& value) {
  if constexpr (std::is_same_v<T, std::chrono::milliseconds>) {
    return static_cast<std::uint64_t>(value.count());  // a negative time lands above every range
  } else {
    return static_cast<std::uint64_t>(value);
  }
}

template <class T>
T from_number(std::uint64_t number) {
  if constexpr (std::is_same_v<T, std::chrono::milliseconds>) {
    return T{static_cast<std::chrono::milliseconds::rep>(number)};
  } else {
    return static_cast<T>(number);  // the row's range fits the field: setting_test.cc checks it
  }
}

/// Fills in the accessors of one field of one table of Config.
template <auto table, auto field>
constexpr Setting row(Setting setting) {
  using Value = std::remove_cvref_t<decltype(Config{}.*table.*field)>;
  if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
    setting.list = [](Config& config) -> std::vector<std::string>& { return config.*table.*field; };
  } else if constexpr (std::is_same_v<Value, std::string>) {
    setting.text = [](Config& config) -> std::string& { return config.*table.*field; };
  } else {
    setting.number = [](const Config& config) { return to_number(config.*table.*field); };
    setting.set_number = [](Config& config, std::uint64_t number) {
      config.*table.*field = from_number<Value>(number);
    };
  }
  return setting;
}

constexpr std::array kSettings = {
    row<&Config::host, &HostConfig::capacity>(
        {.key = "host.capacity",
         .alias = "--ram",
         .kind = ValueKind::kBytes,
         .range = {.low = 4_MiB, .high = kMaxHost, .zero = "a quarter of what is free under the cgroup's limit"},
         .meaning = "size of the host tier, in RAM; at least two extents, rounded down to whole ones"}),
    row<&Config::host, &HostConfig::huge_pages>(
        {.key = "host.huge_pages",
         .kind = ValueKind::kChoice,
         .range = {.high = kHugePages.size() - 1},
         .choices = kHugePages,
         .meaning = "2 MiB pages for the arena: where the system gives them, never, or refuse to start without"}),
    row<&Config::host, &HostConfig::arena>(
        {.key = "host.arena",
         .kind = ValueKind::kChoice,
         .range = {.high = kArenas.size() - 1},
         .choices = kArenas,
         .meaning = "private memory of this process, or a sealed memfd that other processes can map"}),
    row<&Config::host, &HostConfig::prefault>(
        {.key = "host.prefault",
         .kind = ValueKind::kBoolean,
         .range = {.high = 1},
         .meaning = "touch all pages of the index and the arena from the start on, by several threads, so that the "
                    "process then holds index and host.capacity in RAM; false: each page at its first use"}),
    row<&Config::host, &HostConfig::extent_bytes>(
        {.key = "host.extent_bytes",
         .kind = ValueKind::kBytes,
         .range = {.low = 2_MiB, .high = 1_GiB, .step = 2_MiB},
         .meaning = "what the arena and the disk file are divided into; one extent holds slots of one size"}),
    row<&Config::host, &HostConfig::min_slot_bytes>(
        {.key = "host.min_slot_bytes",
         .kind = ValueKind::kBytes,
         .range = {.low = 4_KiB, .high = 256_MiB, .step = 4_KiB},
         .meaning = "the smallest slot of a block; at most a quarter of host.extent_bytes"}),
    row<&Config::disk, &DiskConfig::directories>(
        {.key = "disk.directories",
         .alias = "--disk",
         .kind = ValueKind::kList,
         .range = {.high = 64},
         .meaning = "directories of the disk tier; they must exist. None: no disk tier",
         .form = "DIR"}),
    row<&Config::disk, &DiskConfig::capacity>(
        {.key = "disk.capacity",
         .kind = ValueKind::kBytes,
         .range = {.low = 1, .high = kMaxDisk, .zero = "no disk tier"},
         .meaning = "size of the disk tier, in total over its directories; at least two extents"}),
    row<&Config::disk, &DiskConfig::io>({.key = "disk.io",
                                         .kind = ValueKind::kChoice,
                                         .range = {.high = kDiskIo.size() - 1},
                                         .choices = kDiskIo,
                                         .meaning = "io_uring where the kernel allows it, or always threads"}),
    row<&Config::disk, &DiskConfig::direct>({.key = "disk.direct",
                                             .kind = ValueKind::kBoolean,
                                             .range = {.high = 1},
                                             .meaning = "read and write past the page cache, where possible"}),
    row<&Config::disk, &DiskConfig::depth>({.key = "disk.depth",
                                            .kind = ValueKind::kCount,
                                            .range = {.low = 1, .high = 1'024},
                                            .meaning = "disk operations in flight, a directory"}),
    row<&Config::disk, &DiskConfig::admission>(
        {.key = "disk.admission",
         .kind = ValueKind::kChoice,
         .range = {.high = kAdmissions.size() - 1},
         .choices = kAdmissions,
         .meaning = "write every block that is committed, or those that are used a second time",
         .live = true}),
    row<&Config::disk, &DiskConfig::io_deadline>(
        {.key = "disk.io_deadline",
         .kind = ValueKind::kMilliseconds,
         .range = {.low = 10, .high = 600'000},
         .meaning = "a disk operation that takes longer switches the directory off"}),
    row<&Config::disk, &DiskConfig::probe_interval>({.key = "disk.probe_interval",
                                                     .kind = ValueKind::kMilliseconds,
                                                     .range = {.low = 10, .high = 600'000},
                                                     .meaning = "how often a failed directory is tried again"}),
    row<&Config::disk, &DiskConfig::reset>(
        {.key = "disk.reset",
         .kind = ValueKind::kBoolean,
         .range = {.high = 1},
         .meaning = "make the disk files anew, whatever they hold: what is in them is lost"}),
    row<&Config::index, &IndexConfig::blocks>(
        {.key = "index.blocks",
         .kind = ValueKind::kCount,
         .range = {.low = 1, .high = kMaxBlocks, .zero = "(host + disk capacity) / host.min_slot_bytes"},
         .meaning = "how many blocks the index can hold; fixed at start"}),
    row<&Config::integrity, &IntegrityConfig::mode>(
        {.key = "integrity.mode",
         .kind = ValueKind::kChoice,
         .range = {.high = kIntegrityModes.size() - 1},
         .choices = kIntegrityModes,
         .meaning = "checksums on what goes to and comes from disk, or also on every commit and every host hit"}),
    row<&Config::limits, &LimitsConfig::sessions>({.key = "limits.sessions",
                                                   .kind = ValueKind::kCount,
                                                   .range = {.low = 1, .high = 65'536},
                                                   .meaning = "sessions open at once",
                                                   .live = true}),
    row<&Config::limits, &LimitsConfig::namespaces>({.key = "limits.namespaces",
                                                     .kind = ValueKind::kCount,
                                                     .range = {.low = 1, .high = 1'048'576},
                                                     .meaning = "namespaces (models, layouts, tenants) known at once"}),
    row<&Config::limits, &LimitsConfig::tenants>(
        {.key = "limits.tenants",
         .kind = ValueKind::kCount,
         .range = {.low = 1, .high = 1'024},
         .meaning = "tenants with an account of their own, those with settings first; further ones share one account"}),
    row<&Config::limits, &LimitsConfig::pinned_percent>({.key = "limits.pinned_percent",
                                                         .kind = ValueKind::kPercent,
                                                         .range = {.high = 100},
                                                         .meaning = "share of the arena that logical pins may hold",
                                                         .live = true}),
    row<&Config::limits, &LimitsConfig::load_percent>(
        {.key = "limits.load_percent",
         .kind = ValueKind::kPercent,
         .range = {.high = 90},
         .meaning = "share of the arena that stores being written leave to loads from disk"}),
    row<&Config::limits, &LimitsConfig::demote_percent>(
        {.key = "limits.demote_percent",
         .kind = ValueKind::kPercent,
         .range = {.low = 1, .high = 50},
         .meaning = "share of the arena that blocks on their way to disk may hold"}),
    row<&Config::limits, &LimitsConfig::pin_max_ttl>({.key = "limits.pin_max_ttl",
                                                      .kind = ValueKind::kMilliseconds,
                                                      .range = {.low = 1, .high = 7 * kMillisecondsADay},
                                                      .meaning = "the longest time that a logical pin may ask for",
                                                      .live = true}),
    row<&Config::limits, &LimitsConfig::handover_deadline>(
        {.key = "limits.handover_deadline",
         .kind = ValueKind::kMilliseconds,
         .range = {.low = 1, .high = 60'000},
         .meaning = "how long emptying an extent for another slot size may take"}),
    row<&Config::limits, &LimitsConfig::queued_tasks>({.key = "limits.queued_tasks",
                                                       .kind = ValueKind::kCount,
                                                       .range = {.low = 1, .high = 1'048'576},
                                                       .meaning = "tasks that may wait for a worker thread"}),
    row<&Config::workers, &WorkersConfig::threads>(
        {.key = "workers.threads",
         .kind = ValueKind::kCount,
         .range = {.low = 1, .high = 1'024, .zero = "as many as there are processors, at most 8"},
         .meaning = "worker threads of the cache"}),
    row<&Config::http, &HttpConfig::listen>(
        {.key = "http.listen",
         .kind = ValueKind::kText,
         .range = {.high = kLongestAddress},
         .meaning = "where `tiercel serve` shows the live page and /status; port 0: any that is free; empty: nowhere",
         .form = "ADDRESS:PORT",
         .scope = FlagScope::kService}),
    row<&Config::http, &HttpConfig::hosts>(
        {.key = "http.hosts",
         .kind = ValueKind::kList,
         .range = {.high = 64},
         .meaning =
             "names under which browsers and Prometheus may ask, besides localhost and addresses; \"*\": any name",
         .form = "NAME",
         .scope = FlagScope::kService,
         .live = true}),
    row<&Config::http, &HttpConfig::streams>({.key = "http.streams",
                                              .kind = ValueKind::kCount,
                                              .range = {.low = 1, .high = 1'024},
                                              .meaning = "live pages open at once; one more reads /status instead",
                                              .scope = FlagScope::kService,
                                              .live = true}),
    row<&Config::http, &HttpConfig::connections>(
        {.key = "http.connections",
         .kind = ValueKind::kCount,
         .range = {.low = 8, .high = 4'096},
         .meaning = "connections open at once, of each listener, a thread each; more than http.streams",
         .scope = FlagScope::kService}),
    row<&Config::http, &HttpConfig::admin_token_file>(
        {.key = "http.admin_token_file",
         .kind = ValueKind::kText,
         .range = {.high = 4'096},
         .meaning = "file with the token for admin calls over http.listen, readable by its owner alone; empty: admin "
                    "calls on the Unix socket alone",
         .form = "PATH",
         .scope = FlagScope::kService,
         .live = true}),
    row<&Config::metrics, &MetricsConfig::listen>(
        {.key = "metrics.listen",
         .kind = ValueKind::kText,
         .range = {.high = kLongestAddress},
         .meaning = "where `tiercel serve` answers /metrics and /healthz; port 0: any that is free; empty: nowhere",
         .form = "ADDRESS:PORT",
         .scope = FlagScope::kService}),
    row<&Config::service, &ServiceConfig::socket>(
        {.key = "service.socket",
         .kind = ValueKind::kText,
         .range = {.high = 101},
         .meaning =
             "where engines connect to `tiercel serve`, and with .admin behind it people; empty: $TIERCEL_SOCKET, else "
             "$XDG_RUNTIME_DIR/tiercel/tiercel.sock, else /run/tiercel/tiercel.sock",
         .form = "PATH",
         .scope = FlagScope::kService}),
    row<&Config::service, &ServiceConfig::group>(
        {.key = "service.group",
         .kind = ValueKind::kText,
         .range = {.high = 64},
         .meaning = "group of the system whose users may connect too; empty: the service's own user alone",
         .form = "NAME",
         .scope = FlagScope::kService}),
    row<&Config::service, &ServiceConfig::threads>(
        {.key = "service.threads",
         .kind = ValueKind::kCount,
         .range = {.low = 1, .high = 64, .zero = "as many as there are processors, at most 4"},
         .meaning = "threads that serve engines' connections",
         .scope = FlagScope::kService}),
    row<&Config::service, &ServiceConfig::connections>({.key = "service.connections",
                                                        .kind = ValueKind::kCount,
                                                        .range = {.low = 1, .high = 4'096},
                                                        .meaning = "processes connected at once",
                                                        .scope = FlagScope::kService}),
    row<&Config::service, &ServiceConfig::idle_grace>(
        {.key = "service.idle_grace",
         .kind = ValueKind::kMilliseconds,
         .range = {.low = 1, .high = kMillisecondsADay, .zero = "it does not end by itself"},
         .meaning = "how long after its last process has gone `tiercel serve` ends; one that a client started: 30s",
         .scope = FlagScope::kService}),
    row<&Config::service, &ServiceConfig::log_level>({.key = "service.log_level",
                                                      .kind = ValueKind::kChoice,
                                                      .range = {.high = kLogLevelNames.size() - 1},
                                                      .choices = kLogLevelNames,
                                                      .meaning = "the least important lines that are logged",
                                                      .scope = FlagScope::kService,
                                                      .live = true}),
};

}  // namespace

std::span<const Setting> settings() noexcept { return kSettings; }

const Setting* find_setting(std::string_view key) noexcept {
  const auto* found = std::ranges::find(kSettings, key, &Setting::key);
  return found == kSettings.end() ? nullptr : found;
}

std::size_t index_of(const Setting& setting) noexcept { return static_cast<std::size_t>(&setting - kSettings.data()); }

std::string flag_of(const Setting& setting) {
  std::string flag = "--" + std::string(setting.key);
  std::ranges::replace_if(flag, [](char c) { return c == '.' || c == '_'; }, '-');
  return flag;
}

void copy_value(const Setting& setting, const Config& from, Config& to) {
  if (setting.list != nullptr) {
    setting.list(to) = list_of(setting, from);
  } else if (setting.text != nullptr) {
    setting.text(to) = text_of(setting, from);
  } else {
    setting.set_number(to, setting.number(from));
  }
}

std::string_view table_of(const Setting& setting) noexcept { return setting.key.substr(0, setting.key.find('.')); }

const std::string& text_of(const Setting& setting, const Config& config) {
  return setting.text(const_cast<Config&>(config));  // NOLINT(cppcoreguidelines-pro-type-const-cast): as below
}

const std::vector<std::string>& list_of(const Setting& setting, const Config& config) {
  // The accessor hands out a reference and changes nothing.
  return setting.list(const_cast<Config&>(config));  // NOLINT(cppcoreguidelines-pro-type-const-cast)
}

}  // namespace tiercel::config
