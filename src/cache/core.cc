#include "cache/core.h"

#include "base/check.h"
#include "base/log.h"
#include "base/make_room.h"
#include "base/try.h"
#include "cache/local_session.h"
#include "memory/memory_limit.h"
#include "policy/lru.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

namespace tiercel::detail {
namespace {

/// host.capacity, or a quarter of what is free under the cgroup's limit, in whole extents.
Result<std::uint64_t> resolve_capacity(const HostConfig& host) {
  std::uint64_t capacity = host.capacity;
  if (capacity == 0) {
    capacity = available_memory_bytes() / 4;
    log_line(LogLevel::kInfo, "host_capacity",
             fmt::format("host.capacity is not set: {} MiB, a quarter of what is free here", capacity >> 20U));
  }
  capacity -= capacity % host.extent_bytes;
  if (capacity < 2 * host.extent_bytes) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("host.capacity: {} MiB is below the smallest useful size, {} MiB (two extents)",
                            (host.capacity == 0 ? capacity : host.capacity) >> 20U, (2 * host.extent_bytes) >> 20U));
  }
  return capacity;
}

/// Capacity is split evenly, in whole extents; the first directories get what is left over.
DiskOptions disk_options(const Config& config, const Environment& environment, std::uint32_t index, const Arena& arena,
                         std::function<bool()> memory_ready) {
  const std::uint64_t directories = config.disk.directories.size();
  const std::uint64_t extents = config.disk.capacity / config.host.extent_bytes;
  const std::uint64_t mine = extents / directories + (index < extents % directories ? 1 : 0);
  const auto ns = [](std::chrono::milliseconds time) {
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count());
  };
  // Without prefault pages are to come with their use, and registering would provide them all.
  std::vector<struct iovec> memory;
  if (config.host.prefault) memory.push_back({.iov_base = arena.data(), .iov_len = arena.bytes()});
  return {.directory = config.disk.directories[index],
          .capacity = mine * config.host.extent_bytes,
          .extent_bytes = config.host.extent_bytes,
          .min_slot_bytes = config.host.min_slot_bytes,
          .max_namespaces = config.limits.namespaces,
          .log_pages = environment.disk_log_pages == 0 ? DiskOptions{}.log_pages : environment.disk_log_pages,
          .depth = config.disk.depth,
          .io_deadline_ns = ns(config.disk.io_deadline),
          .probe_interval_ns = ns(config.disk.probe_interval),
          .reset = config.disk.reset,
          .direct = config.disk.direct,
          .memory = std::move(memory),
          .memory_piece_bytes = config.host.extent_bytes,
          .memory_ready = std::move(memory_ready)};
}

}  // namespace

Result<std::shared_ptr<CacheCore>> CacheCore::create(const Config& config, const Environment& environment) {
  TIERCEL_TRY(validate(config));
  if (!config.disk.directories.empty() && environment.files == nullptr) {
    return fail(ErrorCode::kUnsupported, "disk.directories: there is no file system here to keep them");
  }
  Config resolved = config;
  TIERCEL_TRY_ASSIGN(resolved.host.capacity, resolve_capacity(config.host));
  if (resolved.host.capacity / resolved.host.min_slot_bytes >= kNoSlot) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("host.min_slot_bytes: {} bytes cut host.capacity into more than {} slots; set it to at "
                            "least {} bytes",
                            resolved.host.min_slot_bytes, kNoSlot - 1,
                            (resolved.host.capacity / (kNoSlot - 1) / 4096 + 1) * 4096));
  }
  if (resolved.index.blocks == 0) {
    resolved.index.blocks =
        (resolved.host.capacity + resolved.disk.capacity) / resolved.host.min_slot_bytes + config.limits.namespaces;
  }
  std::shared_ptr<Arena> arena;
  if (environment.arena_later) {
    TIERCEL_TRY_ASSIGN(arena, Arena::reserve(resolved.host));
  } else {
    TIERCEL_TRY_ASSIGN(arena, Arena::create(resolved.host));
  }
  TIERCEL_TRY_ASSIGN(BlockTable table, BlockTable::create({.capacity = resolved.index.blocks,
                                                           .seed = environment.seed,
                                                           .huge_pages = resolved.host.huge_pages == HugePages::kOff
                                                                             ? HugePages::kOff
                                                                             : HugePages::kAuto}));
  TIERCEL_TRY(validate(resolved));  // once more: guarantees in bytes against the capacity that was found
  TenantTable tenants({.most = resolved.limits.tenants,
                       .tier_bytes = {resolved.host.capacity,
                                      resolved.disk.capacity - resolved.disk.capacity % resolved.host.extent_bytes},
                       .tenants = resolved.tenants});
  auto pages = table.mappings();  // first: stores touch them under the writer's lock
  if (!environment.arena_later) pages.push_back(arena->shared_mapping());
  HostStore store({.table = std::move(table),
                   .slots = {.extents = static_cast<std::uint32_t>(resolved.host.capacity / resolved.host.extent_bytes),
                             .extent_bytes = resolved.host.extent_bytes,
                             .min_slot_bytes = resolved.host.min_slot_bytes,
                             .tenants = tenants.numbers(),
                             .withheld = environment.arena_later},
                   .policy = std::make_unique<LruPolicy>(resolved.index.blocks),
                   .max_namespaces = resolved.limits.namespaces,
                   .max_pinned_bytes = resolved.host.capacity * resolved.limits.pinned_percent / 100,
                   .max_filling_bytes = resolved.disk.directories.empty()
                                            ? UINT64_MAX
                                            : resolved.host.capacity * (100 - resolved.limits.load_percent) / 100,
                   .tenants = std::move(tenants)});
  std::shared_ptr<Prefault> prefault;
  if (resolved.host.prefault) {
    prefault = std::make_shared<Prefault>(
        Prefault::Options{.mappings = std::move(pages), .piece_bytes = resolved.host.extent_bytes});
  }
  auto core = std::make_shared<CacheCore>(Parts{.config = resolved,
                                                .environment = environment,
                                                .arena = std::move(arena),
                                                .prefault = prefault,
                                                .store = std::move(store)});
  if (prefault) prefault->start(environment.executor);
  return core;
}

CacheCore::CacheCore(Parts parts)
    : config_(std::move(parts.config)),
      environment_(parts.environment),
      arena_(std::move(parts.arena)),
      prefault_(std::move(parts.prefault)),
      arena_filled_(!environment_.arena_later),
      namespace_names_(config_.limits.namespaces),
      limits_{.sessions = config_.limits.sessions,
              .pinned_percent = config_.limits.pinned_percent,
              .pin_max_ttl_ms = static_cast<std::uint64_t>(config_.limits.pin_max_ttl.count())},
      planning_(environment_.clock),
      store_(std::move(parts.store)),
      tenant_configs_(config_.tenants),
      demoting_bytes_(std::max(config_.host.capacity * config_.limits.demote_percent / 100,
                               config_.host.extent_bytes / 4)),  // at least one block of the largest size
      disk_store_(store_.index(), store_.tenants(), static_cast<std::uint32_t>(config_.disk.directories.size())),
      demotions_(config_.disk.directories.empty() ? 0 : store_.slots().slot_ids()),
      admitting_(config_.disk.admission),
      disk_progress_(config_.disk.directories.size()),
      orphans_(environment_.seed),
      headers_(config_.disk.directories.size()),
      found_(config_.disk.directories.size()) {
  if (config_.disk.directories.empty()) return;
  store_.attach(&disk_store_, &demotions_);
  admission_ = make_admission(admitting_);
  for (std::uint32_t index = 0; index < config_.disk.directories.size(); ++index) {
    disks_.push_back(std::make_unique<DiskDirectory>(DiskDirectory::Parts{
        .core = *this,
        .index = index,
        .options = disk_options(config_, environment_, index, *arena_, [this] { return arena_provided(); }),
        .files = *environment_.files,
        .clock = environment_.clock}));
  }
}

CacheCore::~CacheCore() = default;

std::unique_ptr<AdmissionPolicy> CacheCore::make_admission(Admission admission) const {
  if (admission == Admission::kAll) return std::make_unique<AdmitAll>();
  return std::make_unique<SecondSight>(config_.host.capacity / config_.host.min_slot_bytes);
}

// ---- sessions

Result<std::shared_ptr<LocalSession>> CacheCore::open_session(const SessionOptions& options,
                                                              const std::string& mode_engine) {
  if (closed()) return fail(ErrorCode::kClosed, "the cache is closed");
  TIERCEL_TRY_ASSIGN(auto session, LocalSession::make(shared_from_this(), options));
  session->join_mode(options.group.engine_id.empty() ? mode_engine : options.group.engine_id);
  MutexLock lock(mutex_);
  if (closed()) return fail(ErrorCode::kClosed, "the cache is closed");
  if (sessions_.size() >= limits_.sessions.load(std::memory_order_relaxed)) {
    return fail(ErrorCode::kLimit,
                fmt::format("limits.sessions: {} sessions are open, which is the limit", sessions_.size()));
  }
  store_.add_slot_size(session->slot_bytes());
  sessions_.emplace(session.get(), session);  // from here on the session's end undoes it
  if (const SessionGroup& group = options.group; !group.engine_id.empty()) {
    auto engine = engines_.find(group.engine_id);
    if (engine == engines_.end()) {
      engine = engines_.emplace(group.engine_id, std::make_shared<EngineGroup>(group.members)).first;
    }
    TIERCEL_TRY(engine->second->join(group));  // of a new group nobody is refused
    session->set_engine(engine->second);
  }
  return session;
}

void CacheCore::forget_session(const LocalSession* session, const std::string* engine_id) noexcept {
  MutexLock lock(mutex_);
  if (sessions_.erase(session) == 0 || engine_id == nullptr) return;
  const auto engine = engines_.find(*engine_id);
  if (engine != engines_.end() && engine->second->leave()) engines_.erase(engine);
}

Status CacheCore::close(std::chrono::nanoseconds deadline) {
  const auto still_running = [this]() -> Status {
    return fail(ErrorCode::kTimeout, fmt::format("{} slots are still being read or written; their memory stays mapped "
                                                 "until that ends",
                                                 copy_pins_.load()));
  };
  // Closed before: nothing may be waited for with the executor any more.
  if (closed_.exchange(true)) return copy_pins_.load() == 0 ? Status() : still_running();
  std::map<const LocalSession*, std::weak_ptr<LocalSession>> sessions;  // taken, not copied: closing must not allocate
  std::map<std::string, std::shared_ptr<EngineGroup>> engines;
  {
    MutexLock lock(mutex_);
    sessions.swap(sessions_);
    engines.swap(engines_);
  }
  for (const auto& [_, weak] : sessions) {
    if (const auto session = weak.lock()) session->close();
  }
  if (prefault_) prefault_->stop();
  if (arena_filled_.load(std::memory_order_acquire) && arena_prefault_) arena_prefault_->stop();
  const auto deadline_ns = static_cast<std::uint64_t>(std::max<std::int64_t>(0, deadline.count()));
  const std::uint64_t end_ns = deadline_after(clock().now_ns(), deadline_ns);
  close_disks(end_ns, deadline_ns);
  const auto quiet = [this] { return copy_pins_.load() == 0 && environment_.copies.in_flight() == 0; };
  environment_.executor.wake();
  const bool drained = environment_.executor.wait_until(quiet, end_ns);
  users_.close();
  while (users_.in_flight() > 0) {  // waiters see closed() as soon as they are woken
    environment_.executor.wake();
    std::this_thread::yield();
  }
  return drained ? Status() : still_running();
}

// ---- an arena whose memory comes later

/// Every page of the arena and the index is there.
bool CacheCore::arena_provided() const noexcept {
  return arena_filled_.load(std::memory_order_acquire) && (!prefault_ || prefault_->done()) &&
         (!arena_prefault_ || arena_prefault_->done());
}

Status CacheCore::fill_arena(int memfd) {
  TIERCEL_CHECK(environment_.arena_later && !arena_filled_.load(std::memory_order_acquire), "an arena is filled once");
  TIERCEL_TRY(memfd < 0 ? arena_->fill(config_.host) : arena_->adopt(memfd, config_.host));
  const Gate::Pass user = users_.enter();  // of the executor
  if (config_.host.prefault && user) {
    arena_prefault_ = std::make_shared<Prefault>(
        Prefault::Options{.mappings = {arena_->shared_mapping()}, .piece_bytes = config_.host.extent_bytes});
  }
  arena_filled_.store(true, std::memory_order_release);
  if (arena_prefault_) arena_prefault_->start(environment_.executor);
  return {};
}

Status CacheCore::claim(const SlotClaim& claim) {
  const auto broken = [&] {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("there is no slot {} of {} bytes", claim.slot, claim.slot_bytes));
  };
  const HostConfig& host = config_.host;
  const bool sound = claim.slot < slot_ids() && claim.pins > 0 && claim.slot_bytes >= host.min_slot_bytes &&
                     claim.slot_bytes <= host.extent_bytes / 4 && claim.slot_bytes % 4096 == 0;
  if (!sound) return broken();
  for (;;) {
    {
      MutexLock lock(mutex_);
      if (!store_.slots().withheld()) return broken();
      const SlotTable::Claim result = store_.claim(claim.slot, claim.slot_bytes, claim.pins);
      if (result == SlotTable::Claim::kConflict) return broken();
      if (result == SlotTable::Claim::kClaimed) break;
    }
    std::this_thread::yield();  // whoever ended the last pin is about to take the lock
  }
  copy_pins_.fetch_add(claim.pins);
  return {};
}

void CacheCore::offer_arena() {
  static constexpr std::uint32_t kSlotsPerSlice = 4096;
  for (bool done = false; !done;) {
    MutexLock lock(mutex_);
    done = store_.offer(kSlotsPerSlice);
  }
}

// ---- copy pins

void CacheCore::retain(std::uint32_t slot) noexcept {
  // No lock: the caller has a pin already, so the slot can neither be reused nor collected meanwhile. The slot table's
  // storage does not move.
  [this, slot]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { store_.retain(slot); }();
  copy_pins_.fetch_add(1);
}

void CacheCore::release(std::uint32_t slot) noexcept {
  const bool last = [this, slot]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return store_.release(slot); }();
  if (last) {
    MutexLock lock(mutex_);
    store_.collect(slot);
  }
  copy_pins_.fetch_sub(1);
  if (closed_.load()) wake();  // seq_cst, as in close(): one of both sees what the other did
}

std::byte* CacheCore::data(SlotId slot) const noexcept {
  return [this, slot]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return arena_->data() + store_.slots().offset(slot); }();
}

SlotId CacheCore::slot_at(const std::byte* data) const noexcept {
  // As in data(): an extent with a slot in use is not cut anew.
  return [this, data]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS {
    return store_.slots().slot_of(static_cast<std::uint64_t>(data - arena_->data()));
  }();
}

std::uint32_t CacheCore::slot_ids() const noexcept {
  return [this]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS { return store_.slots().slot_ids(); }();  // fixed at creation
}

// ---- match, stores, loads

std::size_t CacheCore::match(std::span<const BlockHash> hashes, std::vector<TierSet>& tiers) {
  static constexpr GroupRule kFull{.kind = GroupKind::kFullAttention};
  std::size_t length = [&]() TIERCEL_NO_THREAD_SAFETY_ANALYSIS {  // the directory's reader calls take no lock
    return store_.table().match(hashes, std::span(&kFull, 1), tiers);
  }();
  const DiskStore::Reach reach = disk_reach_.load(std::memory_order_relaxed);
  if (disks_.empty() || reach == DiskStore::Reach::kAll) return length;
  if (reach == DiskStore::Reach::kSome) {
    length = count_reachable(hashes, tiers);
  } else {
    const auto unreachable = std::ranges::find_if(tiers, [](TierSet tier) { return !tier.has(TierId::kHost); });
    length = static_cast<std::size_t>(unreachable - tiers.begin());
  }
  tiers.resize(length);
  return length;
}

/// Leading blocks that are in the arena, or in a directory that answers reads. The directory's cells do not say which
/// directory of the disk tier a copy lies in: only the entry does, under the lock.
std::size_t CacheCore::count_reachable(std::span<const BlockHash> hashes, std::span<const TierSet> tiers) {
  for (std::size_t done = 0; done < tiers.size();) {
    if (tiers[done].has(TierId::kHost)) {
      ++done;
      continue;
    }
    const std::size_t end = std::min(done + kSlice, tiers.size());
    MutexLock lock(mutex_);
    for (; done < end; ++done) {
      if (tiers[done].has(TierId::kHost)) continue;
      const BlockId id = store_.table().find(hashes[done], 0);
      if (id == kNoBlock) return done;
      if (!is_readable(store_.table().state(id, TierId::kHost)) && !disk_store_.serves(id)) return done;
    }
  }
  return tiers.size();
}

void CacheCore::note_reach() { disk_reach_.store(disk_store_.reach(), std::memory_order_relaxed); }

void CacheCore::begin_fills(const ChainRef& chain, std::size_t first, std::uint64_t slot_bytes,
                            std::span<Reserved> outcomes, std::span<Fill> fills) {
  expire_pins();  // what they held is room now
  HostStore::RoomSearch room = HostStore::room_search(outcomes.size());
  std::vector<DiskPlace> unreachable;
  for (std::size_t done = 0; done < outcomes.size();) {
    const std::size_t end = std::min(done + kSlice, outcomes.size());
    const std::uint64_t now = clock().now_ns();
    if (!disks_.empty()) make_room(unreachable, kSlice);
    MutexLock lock(mutex_);
    store_.begin_slice(room);
    // Looked up anew in each slice: between two of them the entry may have gone.
    const std::size_t at = first + done;
    const BlockId root =
        done == 0 ? claim(chain.space, slot_bytes, at == 0) : store_.find_root(chain.space.fingerprint());
    BlockId parent = at == 0 ? root : store_.table().find(chain[at - 1], 0);
    // A block of another namespace is nobody's parent here: names come from clients.
    if (parent != kNoBlock && store_.table().root_of(parent) != root) parent = kNoBlock;
    for (std::size_t i = done; i < end; ++i) store_.table().prefetch(chain[first + i], 0);
    for (; done < end && room.in_slice > 0; ++done) {
      Reserved& outcome = outcomes[done];
      if (at == 0 && done == 0 && parent == kNoBlock) {
        outcome = Reserved::kBusy;  // no room for another namespace
      } else if (const BlockId on_disk = disk_copy_of(chain[first + done]); on_disk != kNoBlock) {
        fills[done].id = on_disk;
        outcome = is_readable(store_.table().state(on_disk, TierId::kDisk)) ? Reserved::kExists : Reserved::kInFlight;
      } else {
        const auto answer = store_.begin_fill(
            {.hash = chain[first + done], .group = 0, .parent = parent, .slot_bytes = slot_bytes, .now_ns = now},
            fills[done], room);
        if (!answer) break;  // the search for room goes on in the next slice
        outcome = *answer;
        // A copy on disk that cannot be read now gives way to this one, and not before there is room for it.
        if (outcome == Reserved::kYes && !disks_.empty()) {
          if (const auto place = disk_store_.give_up(fills[done].id)) unreachable.push_back(*place);
        }
      }
      if (outcome == Reserved::kYes) copy_pins_.fetch_add(1);
      const bool foreign =
          outcome != Reserved::kYes && fills[done].id != kNoBlock && store_.table().root_of(fills[done].id) != root;
      if (foreign) outcome = Reserved::kNoParent;
      const bool there = outcome == Reserved::kYes || outcome == Reserved::kExists || outcome == Reserved::kInFlight;
      parent = there ? fills[done].id : kNoBlock;
      if (!there) {  // nothing behind it can have a parent
        std::fill(outcomes.begin() + static_cast<std::ptrdiff_t>(done) + 1, outcomes.end(), outcome);
        done = outcomes.size();
        break;
      }
    }
  }
  if (!unreachable.empty()) clear_places(unreachable);
  kick_handover();
  kick_charging();
}

/// The entry of a block that is on disk, where it can be read, and not in the host tier.
BlockId CacheCore::disk_copy_of(const BlockHash& hash) const {
  if (disks_.empty()) return kNoBlock;
  const BlockId id = store_.table().find(hash, 0);
  if (id == kNoBlock || is_present(store_.table().state(id, TierId::kHost))) return kNoBlock;
  const CopyState state = store_.table().state(id, TierId::kDisk);
  return !is_present(state) || (is_readable(state) && !disk_store_.serves(id)) ? kNoBlock : id;
}

Status CacheCore::commit(const Fill& fill, const BlockIdentity& identity, std::uint32_t length) {
  const bool verify = paranoid();
  Status status;
  {
    MutexLock lock(mutex_);
    copy_pins_.fetch_sub(1);  // the writer's: it ends in every case, also where an error's sentence finds no memory
    status = store_.commit(fill, length, verify, clock().now_ns());
    if (status && verify) store_.retain(fill.slot);  // for the checksum
    if (status && !verify) consider_demotion(fill.id);
  }
  if (closed_.load()) wake();  // as in release()
  if (!status) return status;
  if (verify) {
    verify_later({.fill = fill, .fingerprint = identity.fingerprint, .hash = identity.hash, .length = length});
  } else {
    kick_demotion();
  }
  kick_handover();
  return {};
}

void CacheCore::abort(const Fill& fill) {
  {
    MutexLock lock(mutex_);
    store_.abort(fill);
  }
  copy_pins_.fetch_sub(1);
}

void CacheCore::abandon(const Fill& fill) {
  MutexLock lock(mutex_);
  store_.abandon(fill);
}

void CacheCore::drop_corrupt(BlockName name) {
  counters_.checksum_failures.add();
  {
    MutexLock lock(mutex_);
    store_.drop_corrupt(name);
  }
  log_line(LogLevel::kError, "checksum_host",
           "a block in host memory no longer has the checksum that it was committed with; it was dropped and counts "
           "as a miss (faulty memory, or a program that writes where it should not)");
}

void CacheCore::check_consistency() {
  MutexLock lock(mutex_);
  store_.check_consistency();
  disk_store_.check_consistency();
  for (SlotId slot = 0; slot < store_.slots().slot_ids(); ++slot) {
    if (!demotions_.holds(slot)) continue;
    const BlockId id = store_.slots().owner(slot);
    TIERCEL_CHECK(store_.slots().is_used(slot) && store_.table().slot(id, TierId::kHost) == slot &&
                      is_readable(store_.table().state(id, TierId::kHost)),
                  "what is queued for the disk is a block of the host tier");
  }
}

}  // namespace tiercel::detail
