// Config: every setting of a cache, and how it is read from TOML files and command-line flags.
//
// The key of a setting is its path ("host.capacity"); the flag is the same path with dashes ("--host-capacity"). One
// table in src/config lists key, flag, aliases, meaning and valid values; errors name the key, the value and what
// would be valid. Nothing half-starts: reading answers with a whole Config or an Error.
#pragma once

#include <tiercel/export.h>
#include <tiercel/result.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel {

inline namespace literals {
consteval std::uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
consteval std::uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
consteval std::uint64_t operator""_GiB(unsigned long long n) { return n << 30; }
consteval std::uint64_t operator""_TiB(unsigned long long n) { return n << 40; }
}  // namespace literals

enum class LogLevel : std::uint8_t { kDebug = 0, kInfo = 1, kWarn = 2, kError = 3 };

enum class HugePages : std::uint8_t {
  kAuto = 0,  ///< where the system gives them, else ordinary pages and a line in the log
  kOff = 1,
  kRequire = 2,  ///< an error where the system does not give them
};

enum class ArenaKind : std::uint8_t {
  kAnonymous = 0,  ///< private memory of this process
  kMemfd = 1,      ///< a sealed memfd that other processes can map
};

/// Tier G2, the host arena.
struct HostConfig {
  std::uint64_t capacity = 0;  ///< bytes; 0: a quarter of what is free under the cgroup's limit
  HugePages huge_pages = HugePages::kAuto;
  ArenaKind arena = ArenaKind::kAnonymous;
  bool prefault = true;                    ///< touch all pages of index and arena from open on: they are resident then
  std::uint64_t extent_bytes = 64_MiB;     ///< a multiple of 2 MiB
  std::uint64_t min_slot_bytes = 256_KiB;  ///< a multiple of 4 KiB, at most a quarter of an extent
};

enum class DiskIo : std::uint8_t {
  kAuto = 0,  ///< io_uring where the kernel allows it, else threads
  kThreads = 1,
};

enum class Admission : std::uint8_t {
  kAll = 0,          ///< every block that is committed is written
  kSecondSight = 1,  ///< a block is written when it is stored or used a second time
};

/// Tier G3, local disk.
struct DiskConfig {
  std::vector<std::string> directories{};
  std::uint64_t capacity = 0;  ///< bytes in total over all directories, in whole extents of host.extent_bytes
  DiskIo io = DiskIo::kAuto;
  bool direct = true;        ///< O_DIRECT where the filesystem has it
  std::uint32_t depth = 32;  ///< operations in flight, a directory
  Admission admission = Admission::kAll;
  std::chrono::milliseconds io_deadline{10'000};    ///< an operation that takes longer trips the breaker
  std::chrono::milliseconds probe_interval{2'000};  ///< how often a failed directory is tried again
  bool reset = false;                               ///< make the files anew, whatever they hold
};

struct IndexConfig {
  std::uint64_t blocks = 0;  ///< entries; 0: (host + disk capacity) / host.min_slot_bytes
};

enum class IntegrityMode : std::uint8_t {
  kNormal = 0,    ///< checksums guard what goes to and comes from disk
  kParanoid = 1,  ///< also every commit and every host hit
};

struct IntegrityConfig {
  IntegrityMode mode = IntegrityMode::kNormal;
};

/// Bounds (rule 3 of the architecture: everything is bounded by configuration).
struct LimitsConfig {
  std::uint32_t sessions = 256;
  std::uint32_t namespaces = 4096;
  std::uint32_t tenants = 256;        ///< with an account of their own; further ones share one
  std::uint32_t pinned_percent = 80;  ///< of the arena, by logical pins
  std::uint32_t load_percent = 10;    ///< of the arena: what stores that are being written leave to loads from disk
  std::uint32_t demote_percent = 5;   ///< of the arena, by blocks on their way to disk
  std::chrono::milliseconds pin_max_ttl{600'000};
  std::chrono::milliseconds handover_deadline{200};  ///< for emptying an extent for another slot size
  std::uint32_t queued_tasks = 4096;                 ///< of the executor
};

struct WorkersConfig {
  std::uint32_t threads = 0;  ///< of the cache's executor; 0: min(4, processors)
};

/// The live page and the status of `tiercel serve`. A cache that is embedded listens nowhere and ignores it.
struct HttpConfig {
  std::string listen = "127.0.0.1:9800";  ///< "ADDRESS:PORT", port 0: any that is free; empty: no page
  std::vector<std::string> hosts{};       ///< names that a browser may call this machine, besides localhost; "*": any
  std::uint32_t streams = 64;             ///< live pages open at once
  std::uint32_t connections = 256;        ///< open at once, of each listener
  std::string admin_token_file{};         ///< with the token of admin calls over TCP; empty: there are none
};

/// Metrics and health of `tiercel serve`, on a listener and threads of their own.
struct MetricsConfig {
  std::string listen = "127.0.0.1:9801";  ///< as http.listen
};

/// How engines reach `tiercel serve`. A cache that is embedded ignores it.
struct ServiceConfig {
  std::string socket{};             ///< path of the Unix socket; empty: default_socket_path() (tiercel/client.h)
  std::string group{};              ///< of the system, whose users may connect too; empty: the service's own alone
  std::uint32_t threads = 0;        ///< that serve connections; 0: min(4, processors)
  std::uint32_t connections = 256;  ///< processes connected at once
  std::chrono::milliseconds idle_grace{0};  ///< after the last has gone, until the service ends; 0: it does not
  LogLevel log_level = LogLevel::kInfo;
};

/// A part of a tier: bytes, or a percentage of it.
struct TierShare {
  std::uint64_t amount = 0;
  bool percent = false;
  [[nodiscard]] static constexpr TierShare of_percent(std::uint64_t percent) noexcept { return {percent, true}; }
  [[nodiscard]] static constexpr TierShare of_bytes(std::uint64_t bytes) noexcept { return {bytes, false}; }
  /// In bytes, of a tier of so many.
  [[nodiscard]] constexpr std::uint64_t bytes_of(std::uint64_t tier_bytes) const noexcept {
    return percent ? tier_bytes / 100 * amount + tier_bytes % 100 * amount / 100 : amount;
  }
  friend bool operator==(const TierShare&, const TierShare&) = default;
};

/// What a tenant is promised and allowed. One that is not named has these defaults.
struct TenantConfig {
  TierShare host_guarantee{};  ///< nobody else's stores and loads make it fall below
  TierShare host_cap = TierShare::of_percent(100);
  TierShare disk_guarantee{};
  TierShare disk_cap = TierShare::of_percent(100);
  TierShare pinned_cap = TierShare::of_percent(100);  ///< of the arena, by logical pins; beside limits.pinned_percent
  friend bool operator==(const TenantConfig&, const TenantConfig&) = default;
};
/// By name. "default" is the tenant of sessions that name none, "shared" the one by which tenants share prompts.
using TenantConfigs = std::map<std::string, TenantConfig, std::less<>>;

struct Config {
  HostConfig host{};
  DiskConfig disk{};
  IndexConfig index{};
  IntegrityConfig integrity{};
  LimitsConfig limits{};
  WorkersConfig workers{};
  HttpConfig http{};
  MetricsConfig metrics{};
  ServiceConfig service{};
  TenantConfigs tenants{};
};

/// Checks every value against its range and the others. The first violation is the error.
[[nodiscard]] TIERCEL_API Status validate(const Config& config);

/// Reads TOML text into `base`. `origin` names the source in errors ("/etc/tiercel.toml:12: host.capacity ...").
[[nodiscard]] TIERCEL_API Result<Config> parse_toml(std::string_view text, std::string_view origin = "<text>",
                                                    Config base = {});

[[nodiscard]] TIERCEL_API Result<Config> load_config_file(const std::string& path, Config base = {});

/// Whose settings may stand on a command line. A file may hold all of them, whoever reads it, so that one file serves
/// every program of a machine; a flag that would do nothing is refused.
enum class FlagScope : std::uint8_t {
  kCache = 0,    ///< those of a cache
  kService = 1,  ///< also those of `tiercel serve`: http.*, metrics.*, service.*
};

/// What `take_flags` leaves: the configuration, and the arguments that are not flags of the cache, in order.
struct FlagsTaken {
  Config config;
  std::vector<std::string> rest;
};

/// Takes the cache's own flags ("--host-capacity 8GiB", "--host-capacity=8GiB", "--config FILE", the aliases) out of
/// `arguments` (without the program's name) and applies them over `base`, files first. `other_flags` are the flags of
/// the calling program ("--model"), left in `rest`; an unknown flag is an error that suggests the nearest of both.
/// Arguments after "--" are never taken.
[[nodiscard]] TIERCEL_API Result<FlagsTaken> take_flags(std::span<const std::string> arguments,
                                                        std::span<const std::string> other_flags, Config base = {},
                                                        FlagScope scope = FlagScope::kCache);

/// The help text of the cache's flags, one a line, for `--help` of a program that calls `take_flags`.
[[nodiscard]] TIERCEL_API std::string flags_help(FlagScope scope = FlagScope::kCache);

/// "; did you mean X?" with the candidate nearest to a mistyped name, or "" where none is near. For programs that read
/// flags of their own.
[[nodiscard]] TIERCEL_API std::string did_you_mean(std::string_view name, std::span<const std::string> candidates);

/// "256KiB", "1.5GiB", "10GB", "4096" -> bytes. Units: B, KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB.
[[nodiscard]] TIERCEL_API Result<std::uint64_t> parse_bytes(std::string_view text);

/// The shortest exact form: 268435456 -> "256MiB".
[[nodiscard]] TIERCEL_API std::string format_bytes(std::uint64_t bytes);

}  // namespace tiercel
