#include "cache/local_session.h"

#include "base/log.h"
#include "base/try.h"
#include "cache/local_load.h"
#include "cache/local_reservation.h"
#include "cache/session_space.h"
#include "model/namespace.h"
#include "model/run_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace tiercel::detail {
namespace {

constexpr std::uint64_t kPage = 4096;

class LocalPin final : public PinBackend {
 public:
  LocalPin(std::shared_ptr<CacheCore> core, std::shared_ptr<PinRecord> record)
      : core_(std::move(core)), record_(std::move(record)), blocks_(record_->blocks) {}
  ~LocalPin() override { core_->unpin(*record_); }

  [[nodiscard]] std::size_t blocks() const override {
    return core_->clock().now_ns() < record_->expires_ns && !core_->has_ended(*record_) ? blocks_ : 0;
  }

 private:
  std::shared_ptr<CacheCore> core_;
  std::shared_ptr<PinRecord> record_;
  std::size_t blocks_;
};

Result<LocalSession::Shape> shape_of(const SessionOptions& options, const HostConfig& host) {
  if (options.layout.groups.size() != 1 || options.layout.groups[0].kind != GroupKind::kFullAttention) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("layout.groups: {} groups; this version serves exactly one, of full attention",
                            options.layout.groups.size()));
  }
  TIERCEL_TRY_ASSIGN(const auto tables, make_run_tables(options.layout, options.block_tokens));
  LocalSession::Shape shape{.block_bytes = tables[0].block_bytes()};
  shape.slot_bytes = std::max((shape.block_bytes + kPage - 1) / kPage * kPage, host.min_slot_bytes);
  if (shape.block_bytes > host.extent_bytes / 4) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("layout: a block of {} bytes is more than a quarter of an extent; set host.extent_bytes to "
                            "at least {} MiB (now {} MiB), or block_tokens below {}",
                            shape.block_bytes, (4 * shape.slot_bytes + (2U << 20U) - 1) / (2U << 20U) * 2,
                            host.extent_bytes >> 20U, options.block_tokens));
  }
  return shape;
}

}  // namespace

// ---- session groups

Status EngineGroup::join(const SessionGroup& group) {
  MutexLock lock(mutex_);
  if (group.members != members_) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("group.members: {} for engine \"{}\", whose other members say {}", group.members,
                            group.engine_id, members_));
  }
  const std::uint64_t bit = std::uint64_t{1} << group.member;
  if ((present_ & bit) != 0) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("group.member: member {} of engine \"{}\" is here already", group.member, group.engine_id));
  }
  present_ |= bit;
  gone_ &= ~bit;
  ++joined_;
  return {};
}

bool EngineGroup::leave() noexcept {
  MutexLock lock(mutex_);
  return --joined_ == 0;
}

std::uint64_t EngineGroup::departures() const noexcept {
  MutexLock lock(mutex_);
  return departures_;
}

bool EngineGroup::add(std::uint64_t id, const std::shared_ptr<LocalReservation>& reservation,
                      std::uint64_t departures) {
  MutexLock lock(mutex_);
  if (gone_ != 0 || departures_ != departures) return false;
  open_.emplace(id, reservation);
  return true;
}

void EngineGroup::remove(std::uint64_t id) noexcept {
  MutexLock lock(mutex_);
  open_.erase(id);
}

Result<std::shared_ptr<LocalReservation>> EngineGroup::find(std::uint64_t id) const {
  MutexLock lock(mutex_);
  const auto found = open_.find(id);
  std::shared_ptr<LocalReservation> reservation = found == open_.end() ? nullptr : found->second.lock();
  if (!reservation) return fail(ErrorCode::kNotFound, fmt::format("group: no open reservation {}", id));
  return reservation;
}

void EngineGroup::depart(std::uint32_t member) noexcept {
  std::map<std::uint64_t, std::weak_ptr<LocalReservation>> open;  // taken: what is revoked takes no reports any more
  {
    MutexLock lock(mutex_);
    open.swap(open_);
    const std::uint64_t bit = std::uint64_t{1} << member;
    present_ &= ~bit;
    gone_ |= bit;
    ++departures_;  // together with the swap: what is added later is refused
  }
  for (const auto& [_, weak] : open) {
    if (const auto reservation = weak.lock()) reservation->revoke();
  }
}

// ---- the session

Result<std::shared_ptr<LocalSession>> LocalSession::make(std::shared_ptr<CacheCore> core,
                                                         const SessionOptions& options) {
  TIERCEL_TRY(check_namespace(options.model, options.block_tokens));
  TIERCEL_TRY_ASSIGN(const Shape shape, shape_of(options, core->config().host));
  const SessionGroup& group = options.group;
  if (group.members < 1 || group.members > 64 || group.member >= group.members) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("group: member {} of {}; valid are 1 to 64 members, numbered from 0", group.member, group.members));
  }
  if (group.engine_id.empty() && group.members > 1) {
    return fail(ErrorCode::kInvalidArgument, "group.engine_id: a group of several members needs a name");
  }
  return std::make_shared<LocalSession>(std::move(core), options, shape);
}

LocalSession::LocalSession(std::shared_ptr<CacheCore> core, const SessionOptions& options, Shape shape)
    : core_(std::move(core)), options_(options), shape_(shape), family_(family_of(options_)) {}

LocalSession::~LocalSession() { close(); }

void LocalSession::join_mode(const std::string& engine) {
  if (engine.empty()) return;
  mode_engine_ = engine;
  mode_ = core_->modes().join(engine);
}

Mode LocalSession::mode() const noexcept {
  return stricter(core_->modes().all(), mode_ ? mode_->load(std::memory_order_acquire) : Mode::kOn);
}

Space LocalSession::space(std::string_view tenant) const { return space_of(options_, family_, tenant); }

Status LocalSession::check(const Space& space) const {
  if (closed()) return session_closed();
  return check_family(space, family_);
}

Match LocalSession::match(const ChainRef& chain) const {
  if (closed() || !owns(chain.space)) return {};
  Counters& counters = core_->counters();
  if (!allows_loads(mode())) {
    counters.mode_refused_matches.add();
    return {};
  }
  const std::uint64_t start = core_->clock().now_ns();
  std::vector<TierSet> tiers;
  const std::size_t blocks = core_->match(chain.hashes, tiers);
  counters.matched_blocks.add(blocks);
  counters.missed_blocks.add(chain.size() - blocks);
  counters.match_latency.add(core_->clock().now_ns() - start);
  counters.matches.add();
  std::optional<std::chrono::nanoseconds> predicted;
  const auto in_host =
      static_cast<std::size_t>(std::ranges::count_if(tiers, [](TierSet set) { return set.has(TierId::kHost); }));
  if (const std::uint64_t ns = core_->load_times().predict_ns(in_host, blocks - in_host); ns != 0) {
    predicted = std::chrono::nanoseconds(ns);
  }
  return {std::move(tiers), predicted};
}

/// Null: nothing of it is in the cache.
std::unique_ptr<LoadPlan> LocalSession::plan(const LoadCall& call) const {
  std::vector<TierSet> tiers;
  const std::size_t matched = core_->match(call.chain.hashes.first(std::min(call.blocks, call.chain.size())), tiers);
  if (matched == 0) return nullptr;
  auto plan = std::make_unique<LoadPlan>();
  for (std::size_t i = 0; i < matched; ++i) {
    const auto tier = static_cast<std::size_t>(tiers[i].has(TierId::kHost)   ? TierId::kHost
                                               : tiers[i].has(TierId::kDisk) ? TierId::kDisk
                                                                             : TierId::kRemote);
    if (plan->runs.empty() || plan->runs.back().tier != tier) plan->runs.push_back({.tier = tier});
    ++plan->runs.back().blocks;
  }
  const PrefillAhead& ahead = *call.ahead;
  const double copy = ahead.copy_bytes_per_second;
  plan->question = {.block_bytes = shape_.block_bytes,
                    .block_tokens = options_.block_tokens,
                    .prompt_tokens = ahead.prompt_tokens,
                    .context_tokens = ahead.context_tokens,
                    .waiting = ahead.waiting,
                    .copy_bytes_per_second = std::isfinite(copy) && copy > 0 ? copy : 0,
                    .deadline_ns = static_cast<std::uint64_t>(std::max<std::int64_t>(0, call.deadline.count()))};
  plan->pace = pace_;
  core_->planning().decide(*plan);
  return plan;
}

std::unique_ptr<LoadBackend> LocalSession::load(const LoadCall& call) {
  if (closed() || !owns(call.chain.space)) return nullptr;
  LocalLoad::Request request{.chain = call.chain,
                             .blocks = std::min(call.blocks, call.chain.size()),
                             .beyond_chain = call.blocks > call.chain.size(),
                             .refused = !allows_loads(mode()),
                             .slot_bytes = shape_.slot_bytes,
                             .deadline = call.deadline};
  if (call.ahead == nullptr || request.refused) return std::make_unique<LocalLoad>(core_, std::move(request));
  request.plan = plan(call);
  LoadPlanner::Plan decided;
  if (request.plan && request.plan->plan.left_blocks > 0) {
    decided = request.plan->plan;
    request.blocks = decided.blocks;
    request.beyond_chain = false;
  }
  auto load = std::make_unique<LocalLoad>(core_, std::move(request));
  if (decided.probe_blocks > 0) {  // after the load's own reads
    core_->promote({.hashes = call.chain.hashes.subspan(decided.blocks, decided.probe_blocks),
                    .space = call.chain.space,
                    .slot_bytes = shape_.slot_bytes});
  }
  return load;
}

std::shared_ptr<ReservationBackend> LocalSession::reserve(const ChainRef& chain, std::size_t first, std::size_t count) {
  const bool scheduler = options_.group.member == 0;
  if (!owns(chain.space)) {
    log_line(LogLevel::kError, "foreign_chain", check(chain.space).error().message);
  } else if (!scheduler) {
    log_line(LogLevel::kError, "rank_reserves", "only the scheduler member (group.member 0) of an engine reserves");
  }
  const bool closed_to_it = closed() || !scheduler || !owns(chain.space);
  const std::size_t begin = std::min(first, chain.size());
  const std::uint64_t departures = engine_ ? engine_->departures() : 0;
  auto reservation = std::make_shared<LocalReservation>(
      core_,
      LocalReservation::Request{.chain = chain,
                                .first = begin,
                                .count = std::min(count, chain.size() - begin),
                                .block_bytes = shape_.block_bytes,
                                .slot_bytes = shape_.slot_bytes,
                                .answer = closed_to_it             ? std::optional(Reserved::kClosed)
                                          : !allows_stores(mode()) ? std::optional(Reserved::kBusy)
                                                                   : std::nullopt},
      engine_);
  if (engine_ && !engine_->add(reservation->id(), reservation, departures)) reservation->revoke();
  {
    MutexLock lock(mutex_);
    std::erase_if(open_, [](const auto& entry) { return entry.second.expired(); });
    open_.emplace(reservation->id(), reservation);
  }
  if (closed()) reservation->revoke();  // closed meanwhile: close() may have looked before the line above
  return reservation;
}

/// The reservation of this session's group, for a member that takes part in it.
Result<std::shared_ptr<LocalReservation>> LocalSession::of_group(std::uint64_t reservation_id) const {
  if (closed()) return session_closed();
  if (!engine_) return fail(ErrorCode::kInvalidArgument, "group: this session belongs to no group");
  return engine_->find(reservation_id);
}

Result<std::vector<BlockPart>> LocalSession::parts(std::uint64_t reservation_id, std::span<const std::size_t> blocks) {
  TIERCEL_TRY_ASSIGN(const auto reservation, of_group(reservation_id));
  return reservation->parts(blocks);
}

Status LocalSession::report(std::uint64_t reservation_id, std::span<const std::size_t> blocks) {
  TIERCEL_TRY_ASSIGN(const auto reservation, of_group(reservation_id));
  return reservation->report(blocks, options_.group.member);
}

Result<std::unique_ptr<PinBackend>> LocalSession::pin(const ChainRef& chain, std::size_t blocks,
                                                      std::chrono::nanoseconds ttl) {
  TIERCEL_TRY(check(chain.space));
  const std::chrono::nanoseconds max_ttl = core_->pin_max_ttl();
  if (ttl.count() <= 0 || ttl > max_ttl) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("pin: a ttl of {} ns; valid is 1 to {} (limits.pin_max_ttl)",
                                                         ttl.count(), max_ttl.count()));
  }
  const std::uint64_t end = deadline_after(core_->clock().now_ns(), static_cast<std::uint64_t>(ttl.count()));
  TIERCEL_TRY_ASSIGN(auto record,
                     core_->pin(chain.space.fingerprint(), chain.hashes.first(std::min(blocks, chain.size())), end));
  std::unique_ptr<PinBackend> pin;
  try {
    pin = std::make_unique<LocalPin>(core_, record);
    MutexLock lock(mutex_);
    std::erase_if(pins_, [](const auto& weak) { return weak.expired(); });
    pins_.push_back(record);
  } catch (const std::bad_alloc&) {
    core_->unpin(*record);
    throw;
  }
  if (closed()) core_->unpin(*record);  // closed meanwhile: close() may have looked before the line above
  return pin;
}

Result<Dropped> LocalSession::drop(const ChainRef& chain, std::size_t first) {
  TIERCEL_TRY(check(chain.space));
  TIERCEL_TRY(check_dropped(first, chain.size()));
  return core_->drop_subtree(chain.space.fingerprint(), chain[first]);
}

Result<Dropped> LocalSession::drop(const Space& space) {
  TIERCEL_TRY(check(space));
  return core_->drop_namespace(space.fingerprint());
}

void LocalSession::close() noexcept {
  if (closed_.exchange(true, std::memory_order_acq_rel)) return;
  std::map<std::uint64_t, std::weak_ptr<LocalReservation>> open;  // taken, not copied: closing must not allocate
  std::vector<std::weak_ptr<PinRecord>> pins;
  {
    MutexLock lock(mutex_);
    open.swap(open_);
    pins.swap(pins_);
  }
  for (const auto& [_, weak] : open) {
    if (const auto reservation = weak.lock()) reservation->revoke();
  }
  for (const auto& weak : pins) {
    if (const auto record = weak.lock()) core_->unpin(*record);
  }
  if (mode_) core_->modes().leave(mode_engine_);
  if (engine_) engine_->depart(options_.group.member);
  core_->forget_session(this, engine_ ? &options_.group.engine_id : nullptr);
}

}  // namespace tiercel::detail
