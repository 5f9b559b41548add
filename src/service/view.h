// ServiceView: what people are shown of a service. HTTP, the page and the metrics see the service through it alone.
//
// The Service implements it; tests implement it with figures of their own. Every call is safe from any thread, short,
// and answers a copy.
#pragma once

#include <tiercel/session.h>
#include <tiercel/stats.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::service {

/// What one engine did, since it connected.
struct EngineCounters {
  std::uint64_t stored_bytes = 0;
  std::uint64_t loaded_bytes = 0;
  std::uint64_t load_ns = 0;  ///< time that its requests waited for loads, summed
};

/// One engine: its session group.
struct EngineReport {
  std::string engine_id;
  std::int64_t pid = 0;  ///< of the scheduler member
  std::uint32_t members = 1;
  std::uint32_t sessions = 1;
  Mode mode = Mode::kOn;           ///< its own; what holds is the stricter of this and the service's
  std::uint64_t connected_ns = 0;  ///< how long it has been connected
  std::optional<EngineCounters> counters = std::nullopt;
  std::optional<KvPool> kv_pool = std::nullopt;
  /// What it measured of itself: bytes of KV that its prefill computes a second.
  std::optional<double> prefill_bytes_per_second = std::nullopt;
};

/// What the socket has seen of callers since the start.
struct SocketFigures {
  std::uint64_t connections = 0;           ///< now
  std::uint64_t accepted_connections = 0;  ///< let in
  std::uint64_t refused_connections = 0;   ///< by version, user or a limit
  std::uint64_t protocol_errors = 0;       ///< connections closed for what came on them
  std::uint64_t taken_up_connections = 0;  ///< that went on where an earlier one of the same process had ended
  std::uint64_t departed_members = 0;      ///< now: gone, with slots that wait for their processes' end
  std::uint64_t departed_slots = 0;        ///< now
};

/// One line of the configuration that is worth showing.
struct ConfigLine {
  std::string key;
  std::string value;
};

/// What does not change while a service runs, and its age.
struct ServiceFacts {
  std::string version;
  std::string instance;  ///< differs from that of every earlier start
  std::int64_t pid = 0;
  std::uint64_t uptime_ns = 0;
  double started_unix_seconds = 0;  ///< by the machine's clock, as it was then
  std::vector<ConfigLine> config;
};

/// What stands between the arena and its use, after a restart (server/adoption.h).
enum class ArenaStage : std::uint8_t { kServing = 0, kWithheld = 1, kAwaited = 2, kRefused = 3 };
inline constexpr std::size_t kArenaStages = 4;

/// "serving", "withheld", "awaited", "refused"
[[nodiscard]] std::string_view arena_stage_name(ArenaStage stage) noexcept;

struct ArenaReport {
  ArenaStage stage = ArenaStage::kServing;
  std::uint64_t epoch = 1;                ///< counts the runs that served this arena
  std::vector<std::int64_t> waits_for{};  ///< processes of the earlier run; 0 where the number is not visible
  std::string cause{};                    ///< why it is not adopted; empty: nothing is in the way
};

class ServiceView {
 public:
  virtual ~ServiceView() = default;
  [[nodiscard]] virtual Stats stats() const = 0;
  [[nodiscard]] virtual std::vector<DiskReport> disks() const = 0;
  [[nodiscard]] virtual std::vector<EngineReport> engines() const = 0;
  /// Empty: nobody can come in from outside, or the door does not count.
  [[nodiscard]] virtual std::optional<SocketFigures> socket() const { return std::nullopt; }
  [[nodiscard]] virtual std::vector<TenantReport> tenants() const = 0;
  [[nodiscard]] virtual ArenaReport arena() const { return {}; }
  [[nodiscard]] virtual ServiceFacts facts() const = 0;
  /// Of all engines.
  [[nodiscard]] virtual Mode mode() const = 0;
  /// Has the end begun? Nothing new is taken then.
  [[nodiscard]] virtual bool closing() const noexcept = 0;
};

}  // namespace tiercel::service
