// Cache: the whole of Tiercel in one object, embedded in the program that opens it.
//
// Owns the arena, the index, the tiers and a few worker threads. Safe from several threads. Destruction closes it;
// sessions and handles that still live answer kClosed, and the memory they reach stays mapped until they are gone.
#pragma once

#include <tiercel/config.h>
#include <tiercel/export.h>
#include <tiercel/result.h>
#include <tiercel/session.h>
#include <tiercel/stats.h>

#include <chrono>
#include <memory>
#include <string_view>
#include <vector>

namespace tiercel {

namespace detail {
class CacheCore;
class Runtime;
struct CacheAccess;  // src/cache/cache_access.h
}  // namespace detail

class TIERCEL_API Cache {
 public:
  /// Opens a cache. Errors name the key, the value and what would be valid; nothing half-starts.
  [[nodiscard]] static Result<Cache> open(const Config& config);

  /// `runtime` may be null: then whoever made the core owns its environment and closes it first.
  Cache(std::shared_ptr<detail::CacheCore> core, std::shared_ptr<detail::Runtime> runtime);
  Cache(Cache&&) noexcept;
  Cache& operator=(Cache&&) noexcept;
  ~Cache();

  /// Opens a session. kInvalidArgument: a layout without bytes, or a block larger than a quarter of an extent (the
  /// error names the key to change). kUnsupported: several groups, or a group other than full attention, until a
  /// connector needs them. kLimit: limits.sessions.
  [[nodiscard]] Result<Session> open_session(const SessionOptions& options);

  [[nodiscard]] Stats stats() const;

  /// What all sessions may do from their next call on.
  void set_mode(Mode mode);
  [[nodiscard]] Mode mode() const;
  /// The same of one engine (SessionGroup::engine_id); the stricter of both counts. It is remembered, also while the
  /// engine is away, until it is set to kOn again. kNotFound: no session has this engine id, and no mode was set for
  /// it; the sentence names those that are there. kLimit: 1,024 engines have modes of their own.
  Status set_mode(std::string_view engine, Mode mode);
  /// The engine's own mode; kOn where nothing was set.
  [[nodiscard]] Mode mode(std::string_view engine) const;

  /// Takes over those settings that may change while a cache is open (docs/configuration.md says which they are); the
  /// others stay as they are.
  Status reconfigure(const Config& config);

  /// The directories of the disk tier, in the order of disk.directories. They open in the background: what is on disk
  /// is served as it is indexed, and a directory that cannot be used does not stop the others.
  [[nodiscard]] std::vector<DiskReport> disks() const;
  /// What each tenant holds, may hold and did: those with settings first.
  [[nodiscard]] std::vector<TenantReport> tenants() const;
  /// Changes what a tenant is promised and allowed, from now on; errors as for the settings of a file. What it has
  /// above a lower cap goes soon, in small steps; what is pinned stays until it is not.
  [[nodiscard]] Status set_tenant(std::string_view name, const TenantConfig& config);
  /// Deletes every block of a tenant, of whatever model, in every tier: on disk also what no session has opened since
  /// the start. As durable, and as honest about what it cannot reach, as Session::drop.
  [[nodiscard]] Result<Dropped> drop_tenant(std::string_view name);
  /// Waits until every directory is indexed or known not to come for now, or the deadline. True: so it is.
  bool wait_for_disks(std::chrono::nanoseconds deadline) const;

  /// Ends all sessions and waits at most `deadline` for copies in flight and for blocks that wait to be written. Then
  /// the directories of the disk tier end in order: nothing new is begun, what is in flight ends, which takes some
  /// milliseconds; at most two seconds more, and half a second for a device that does not answer at all (nothing, if it
  /// had not answered for so long by then). kTimeout: something was still running; its memory stays mapped until it
  /// ends.
  Status close(std::chrono::nanoseconds deadline);

 private:
  friend struct detail::CacheAccess;
  std::shared_ptr<detail::Runtime> runtime_;  // outlives the core's use of it: closed first, destroyed last
  std::shared_ptr<detail::CacheCore> core_;
};

}  // namespace tiercel
