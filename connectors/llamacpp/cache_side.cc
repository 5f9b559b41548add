#include "connectors/llamacpp/cache_side.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

namespace tiercel::llamacpp {
namespace {

/// What a start waits for the disk tier to be indexed; what comes later is served as it comes.
constexpr std::chrono::seconds kWarmStart{2};

std::string describe(const DiskReport& disk) {
  std::string line = "disk " + disk.directory;
  if (!disk.cause.empty()) return line + fmt::format(" {}: {}", disk_state_name(disk.state), disk.cause);
  if (!disk.indexed) return line + " is being indexed";
  return line + fmt::format(", {} blocks found warm ({} MiB, {:.1f} s)", disk.found_blocks, disk.found_bytes >> 20U,
                            static_cast<double>(disk.indexed_ns) / 1e9);
}

ClientOptions client_options(const std::string& service) {
  if (service == kPrivateService) return {.start = StartOptions{}};
  return {.socket = service == kDefaultService ? default_socket_path() : service};
}

}  // namespace

Result<CacheSide> CacheSide::open(const ServerOptions& options, const std::function<void(const std::string&)>& say) {
  CacheSide side;
  if (!options.cache_on) {
    say("cache off: served without Tiercel");
    return side;
  }
  if (!options.service.empty()) {
    auto client = Client::connect(client_options(options.service));
    if (!client) return tl::unexpected<Error>(client.error());
    side.client_.emplace(std::move(*client));
    say("blocks are kept by the service on " + side.client_->socket());
    return side;
  }
  auto cache = Cache::open(options.cache);
  if (!cache) return tl::unexpected<Error>(cache.error());
  side.cache_.emplace(std::move(*cache));
  const Stats stats = side.cache_->stats();
  say("host arena " + format_bytes(stats.tiers.at(static_cast<std::size_t>(TierId::kHost)).capacity_bytes));
  (void)side.cache_->wait_for_disks(kWarmStart);
  for (const DiskReport& disk : side.cache_->disks()) say(describe(disk));
  return side;
}

SessionOpener CacheSide::opener() {
  if (cache_) return [this](const SessionOptions& options) { return cache_->open_session(options); };
  if (client_) return [this](const SessionOptions& options) { return client_->open_session(options); };
  return {};
}

std::string CacheSide::metrics() const { return cache_ ? prometheus_text(cache_->stats()) : std::string(); }

void CacheSide::close() {
  if (cache_) (void)cache_->close(std::chrono::seconds(2)).has_value();
}

}  // namespace tiercel::llamacpp
