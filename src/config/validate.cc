// validate() of config.h: every value against its range, then the rules between values.
#include "config/address.h"
#include "config/draft.h"
#include "config/setting_value.h"
#include "config/tenants.h"

#include <fmt/format.h>

#include <algorithm>

namespace tiercel {
namespace config {
namespace {

Violation violation(std::string_view key, std::string_view message) {
  const Setting* setting = find_setting(key);
  return {.setting = setting, .error = complain(*setting, message).value()};
}

std::optional<Violation> check_each(const Config& config) {
  for (const Setting& setting : settings()) {
    auto status = setting.list != nullptr   ? check_list(setting, list_of(setting, config))
                  : setting.text != nullptr ? check_text(setting, text_of(setting, config))
                                            : check_number(setting, setting.number(config));
    if (!status) return Violation{.setting = &setting, .error = std::move(status).error()};
  }
  return std::nullopt;
}

std::optional<Violation> check_host(const HostConfig& host) {
  // Two extents, so that one can be emptied for another slot size while the other serves.
  if (host.capacity != 0 && host.capacity / host.extent_bytes < 2) {
    return violation("host.capacity", fmt::format("{} is below the smallest useful size, {} (two extents)",
                                                  format_bytes(host.capacity), format_bytes(2 * host.extent_bytes)));
  }
  if (host.min_slot_bytes > host.extent_bytes / 4) {
    return violation(
        "host.min_slot_bytes",
        fmt::format("{} must be at most a quarter of host.extent_bytes ({}), {}", format_bytes(host.min_slot_bytes),
                    format_bytes(host.extent_bytes), format_bytes(host.extent_bytes / 4)));
  }
  return std::nullopt;
}

std::optional<Violation> check_disk(const DiskConfig& disk, std::uint64_t extent_bytes) {
  if (disk.directories.empty() != (disk.capacity == 0)) {
    return disk.capacity == 0 ? violation("disk.capacity", "missing; disk.directories needs it, for example \"200GiB\"")
                              : violation("disk.directories", "missing; disk.capacity needs at least one directory");
  }
  // Two, as in the arena; and one for each directory.
  const std::size_t extents = std::max<std::size_t>(2, disk.directories.size());
  if (disk.capacity != 0 && disk.capacity / extent_bytes < extents) {
    return violation("disk.capacity",
                     fmt::format("{} is below the smallest useful size, {} ({})", format_bytes(disk.capacity),
                                 format_bytes(extents * extent_bytes),
                                 extents == 2 ? "two extents" : fmt::format("{} extents, one a directory", extents)));
  }
  return std::nullopt;
}

/// Where host.capacity is not set, guarantees in bytes are compared when its size is known.
std::optional<Violation> check_tenants(const Config& config) {
  if (config.tenants.size() > config.limits.tenants) {
    return violation("limits.tenants", fmt::format("{} is below the {} tenants that have settings",
                                                   config.limits.tenants, config.tenants.size()));
  }
  auto found = first_violation(config.tenants, {.host = config.host.capacity, .disk = config.disk.capacity});
  if (!found) return std::nullopt;
  return Violation{.setting = nullptr, .error = std::move(found->error), .tenant_key = std::move(found->key)};
}

std::optional<Violation> check_index(const Config& config) {
  if (config.index.blocks != 0) return std::nullopt;
  const std::uint64_t blocks = (config.host.capacity + config.disk.capacity) / config.host.min_slot_bytes;
  const Setting* setting = find_setting("index.blocks");
  if (blocks <= setting->range.high) return std::nullopt;
  return violation("index.blocks",
                   fmt::format("the capacities in slots of host.min_slot_bytes ({}) make {} blocks, more than the "
                               "index can hold, {}; set index.blocks or raise host.min_slot_bytes",
                               format_bytes(config.host.min_slot_bytes), blocks, setting->range.high));
}

std::optional<Violation> check_service(const HttpConfig& http, const MetricsConfig& metrics) {
  const auto page = http.listen.empty() ? Result<Address>(Address{}) : parse_address(http.listen);
  if (!page) return violation("http.listen", page.error().message);
  const auto scrape = metrics.listen.empty() ? Result<Address>(Address{}) : parse_address(metrics.listen);
  if (!scrape) return violation("metrics.listen", scrape.error().message);
  if (page->port != 0 && *page == *scrape) {
    return violation("metrics.listen",
                     fmt::format("{} is http.listen too; each needs a port of its own", shown(metrics.listen)));
  }
  if (http.streams >= http.connections) {
    return violation("http.connections", fmt::format("{} must be more than http.streams ({}), so that others are "
                                                     "answered while all live pages are open",
                                                     http.connections, http.streams));
  }
  return std::nullopt;
}

}  // namespace

std::optional<Violation> first_violation(const Config& config) {
  if (auto found = check_each(config)) return found;
  if (auto found = check_host(config.host)) return found;
  if (auto found = check_disk(config.disk, config.host.extent_bytes)) return found;
  if (auto found = check_service(config.http, config.metrics)) return found;
  if (auto found = check_tenants(config)) return found;
  return check_index(config);
}

}  // namespace config

Status validate(const Config& config) {
  if (auto violation = config::first_violation(config)) return tl::unexpected(std::move(violation->error));
  return {};
}

}  // namespace tiercel
