#include "service/server/member.h"

#include "base/try.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace tiercel::service {
namespace {

using flatbuffers::Offset;

tl::unexpected<Error> broken(std::string what) { return fail(ErrorCode::kInvalidArgument, std::move(what)); }

constexpr std::size_t kLongestTenant = 4096;
constexpr std::size_t kRememberedTenant = 256;

std::chrono::nanoseconds nanoseconds(std::uint64_t ns) {
  constexpr auto kFar = static_cast<std::uint64_t>(std::chrono::nanoseconds::max().count());
  return std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(ns, kFar)));
}

std::size_t clamped(std::uint64_t number, std::size_t most) {
  return static_cast<std::size_t>(std::min<std::uint64_t>(number, most));
}

}  // namespace

std::string engine_name(std::string_view engine_id, std::string_view model, const SessionOwner& owner) {
  if (!engine_id.empty()) return std::string(engine_id);
  if (owner.pid > 0) return fmt::format("{} (process {})", model, owner.pid);
  // The run that welcomed it and its number there (Adoption).
  return fmt::format("{} (connection {}-{})", model, owner.member >> 32U, owner.member & 0xFFFF'FFFFU);
}

Member::Member(std::shared_ptr<detail::CacheCore> core, const MemberLimits& limits, Budget& open_blocks,
               std::span<const std::byte> ring, Slow slow, MemberWord word)
    : core_(std::move(core)),
      limits_(limits),
      slow_(std::move(slow)),
      word_(std::move(word)),
      chains_(limits.chains, ring),
      grants_(core_),
      own_blocks_(limits.open_blocks),
      all_blocks_(open_blocks) {}

Member::~Member() { end(); }

void Member::end() noexcept {
  if (session_) session_->close();
  loads_.clear();
  for (const auto& [_, open] : reservations_) open.reservation->finish();
  reservations_.clear();
  pins_.clear();
}

// ---- replies

template <class Body>
void Member::reply(std::uint64_t id, Offset<Body> body, wire::OutBuffer& out) {
  builder_.Finish(wire::CreateReply(builder_, id, wire::ReplyBodyTraits<Body>::enum_value, body.Union()));
  out.add_frame(std::as_bytes(std::span(builder_.GetBufferPointer(), builder_.GetSize())));
  builder_.Clear();
}

void Member::reply_error(std::uint64_t id, const Error& error, wire::OutBuffer& out) {
  reply(id, wire::write_error(builder_, error), out);
}

wire::Place Member::place_of(SlotId slot, std::uint32_t length) const noexcept {
  return {static_cast<std::uint64_t>(core_->data(slot) - core_->arena().data()), length, slot};
}

// ---- requests

Status Member::handle(const wire::Request& request, wire::OutBuffer& out) {
  using Body = wire::RequestBody;
  const std::uint64_t id = request.id();
  const Body type = request.body_type();
  if (!session_ && type != Body::Open && type != Body::Ping && type != Body::Release && type != Body::Hold &&
      type != Body::Close) {
    return broken("a request before the session is open");
  }
  switch (type) {
    case Body::Open:
      return open(id, *request.body_as_Open(), out);
    case Body::Match:
      return match(id, *request.body_as_Match(), out);
    case Body::Keep:
      TIERCEL_TRY(hashes_of(*request.body_as_Keep()->chain()));
      break;
    case Body::Load:
      return load(id, *request.body_as_Load(), out);
    case Body::CancelLoad:
      if (const auto found = loads_.find(request.body_as_CancelLoad()->load()); found != loads_.end()) {
        // They are waited for all the same.
        if (found->second.asked != 0) reply_loaded(found->second.asked, LoadOutcome::kClosed, {}, out);
        reply_loaded(found->first, LoadOutcome::kClosed, {}, out);
        loads_.erase(found);
      }
      return {};
    case Body::SoFar:
      return so_far(id, request.body_as_SoFar()->load(), out);
    case Body::Reserve:
      return reserve(id, *request.body_as_Reserve(), out);
    case Body::Commit:
      return commit(id, *request.body_as_Commit(), out);
    case Body::Abort:
      return abort(*request.body_as_Abort());
    case Body::EndReservation:
      if (const auto found = reservations_.find(request.body_as_EndReservation()->reservation());
          found != reservations_.end()) {
        found->second.reservation->finish();
        reservations_.erase(found);
      }
      return {};
    case Body::Parts:
      return parts(id, *request.body_as_Parts(), out);
    case Body::Report:
      return report(id, *request.body_as_Report(), out);
    case Body::Pin:
      return pin(id, *request.body_as_Pin(), out);
    case Body::PinnedBlocks:
      return pinned(id, *request.body_as_PinnedBlocks(), out);
    case Body::Unpin:
      pins_.erase(request.body_as_Unpin()->pin());
      return {};
    case Body::DropChain:
      return drop(id, *request.body_as_DropChain(), out);
    case Body::DropSpace:
      return drop(id, *request.body_as_DropSpace(), out);
    case Body::Release:
      return release(*request.body_as_Release());
    case Body::Pool: {
      const wire::Pool& pool = *request.body_as_Pool();
      figures_->pool_used.store(pool.used(), std::memory_order_relaxed);
      figures_->pool_free.store(pool.free(), std::memory_order_relaxed);
      figures_->pool_total.store(pool.total(), std::memory_order_relaxed);
      const bool known = std::isfinite(pool.prefill()) && pool.prefill() > 0;
      figures_->prefill.store(known ? pool.prefill() : 0, std::memory_order_relaxed);
      break;
    }
    case Body::Hold:
      TIERCEL_TRY(hold(*request.body_as_Hold()));
      break;
    case Body::Close:
      if (session_) session_->close();
      break;
    case Body::Ping:
      break;
    case Body::NONE:
      return broken("a request without a body");
  }
  if (id != 0) reply(id, wire::CreateDone(builder_), out);
  return {};
}

Status Member::open(std::uint64_t id, const wire::Open& message, wire::OutBuffer& out) {
  if (session_) return broken("a second session on one connection");
  auto options = wire::read_open(message);
  if (!options) {
    reply_error(id, options.error(), out);
    return {};
  }
  auto session = core_->open_session(*options, engine_name(options->group.engine_id, options->model.name, owner_));
  if (!session) {
    reply_error(id, session.error(), out);
    return {};
  }
  options_ = std::move(*options);
  session_ = std::move(*session);
  reply(id, wire::CreateOpened(builder_, session_->block_bytes(), session_->slot_bytes()), out);
  return {};
}

Result<std::span<const BlockHash>> Member::hashes_of(const wire::Chain& chain) {
  if (chain.tenant() != nullptr && chain.tenant()->size() > kLongestTenant)
    return broken("a tenant's name is too long");
  auto hashes = chains_.resolve(chain);
  if (hashes) work_ += hashes->size();
  return hashes;
}

Space Member::space_of(const flatbuffers::String* tenant) {
  const std::string_view name = tenant == nullptr ? std::string_view() : tenant->string_view();
  const auto found = spaces_.find(name);
  if (found != spaces_.end()) return found->second;
  Space space = session_->space(name);
  core_->namespace_names().note(space.fingerprint(), options_.model.name, space.tenant());
  if (spaces_.size() < limits_.tenants && name.size() <= kRememberedTenant) spaces_.emplace(name, space);
  return space;
}

std::optional<Member::OpenBlocks> Member::take_blocks(std::size_t count) noexcept {
  OpenBlocks taken{.own = own_blocks_.take(count), .shared = all_blocks_.take(count)};
  if (!taken.own || !taken.shared) return std::nullopt;
  return taken;
}

Status Member::match(std::uint64_t id, const wire::Match& message, wire::OutBuffer& out) {
  TIERCEL_TRY_ASSIGN(const auto hashes, hashes_of(*message.chain()));
  const Space space = space_of(message.chain()->tenant());
  const tiercel::Match found = session_->match({space, hashes});
  std::vector<wire::TierRun> runs;
  for (std::size_t i = 0; i < found.blocks();) {
    const TierSet tiers = found.tiers(i);
    std::uint32_t count = 0;
    for (; i < found.blocks() && found.tiers(i) == tiers; ++i) ++count;
    runs.emplace_back(count, tiers.bits);
  }
  const auto time = found.predicted_load_time();
  const auto written = builder_.CreateVectorOfStructs(runs);
  reply(id, wire::CreateMatched(builder_, written, time ? static_cast<std::uint64_t>(time->count()) : 0), out);
  return {};
}

// ---- loads

Status Member::load(std::uint64_t id, const wire::Load& message, wire::OutBuffer& out) {
  TIERCEL_TRY_ASSIGN(const auto hashes, hashes_of(*message.chain()));
  if (loads_.contains(id)) return broken("two loads under one id");
  const std::uint64_t started = core_->clock().now_ns();
  const Space space = space_of(message.chain()->tenant());
  auto blocks = take_blocks(clamped(message.blocks(), hashes.size()));
  if (loads_.size() >= limits_.loads || !blocks) {
    reply_loaded(id, LoadOutcome::kBusy, {}, out);
    return {};
  }
  if (message.prefills() != nullptr) {
    for (const wire::PrefillTime* one : *message.prefills()) {
      session_->report_prefill(PrefillTime{
          .context_tokens = one->context_tokens(), .tokens = one->tokens(), .time = nanoseconds(one->time())});
    }
  }
  const PrefillAhead ahead{.prompt_tokens = message.prompt_tokens(),
                           .context_tokens = message.context_tokens(),
                           .waiting = message.waiting(),
                           .copy_bytes_per_second = message.copy_bytes_per_second()};
  auto backend = session_->load({.chain = {space, hashes},
                                 .blocks = clamped(message.blocks(), SIZE_MAX),
                                 .deadline = nanoseconds(message.deadline()),
                                 .ahead = message.planned() ? &ahead : nullptr});
  if (!backend) {
    reply_loaded(id, LoadOutcome::kClosed, {}, out);
    return {};
  }
  std::unique_ptr<detail::LocalLoad> load(
      static_cast<detail::LocalLoad*>(backend.release()));  // LocalSession makes no other
  OpenLoad open{.load = std::move(load),
                .deadline_ns = deadline_after(started, message.deadline()),
                .started_ns = started,
                .blocks = std::move(*blocks)};
  if (open.load->done()) {
    answer_load(id, open, out);
  } else {
    loads_.emplace(id, std::move(open));
  }
  return {};
}

void Member::reply_loaded(std::uint64_t id, LoadOutcome outcome, std::span<const wire::Place> places,
                          wire::OutBuffer& out) {
  const auto written = builder_.CreateVectorOfStructs(places.data(), places.size());
  reply(id, wire::CreateLoaded(builder_, static_cast<std::uint8_t>(outcome), written), out);
}

// ---- stores

Status Member::reserve(std::uint64_t id, const wire::Reserve& message, wire::OutBuffer& out) {
  TIERCEL_TRY_ASSIGN(const auto hashes, hashes_of(*message.chain()));
  const std::size_t first = clamped(message.first(), hashes.size());
  const std::size_t count = clamped(message.count(), hashes.size() - first);
  auto blocks = take_blocks(first + count);
  if (reservations_.size() >= limits_.reservations || !blocks) {
    const std::vector<std::uint8_t> outcomes(count, static_cast<std::uint8_t>(Reserved::kBusy));
    reply(id, wire::CreateReservedBlocks(builder_, 0, builder_.CreateVector(outcomes)), out);
    return {};
  }
  const Space space = space_of(message.chain()->tenant());
  auto backend = session_->reserve({space, hashes}, first, count);
  auto reservation = std::static_pointer_cast<detail::LocalReservation>(std::move(backend));
  std::vector<std::uint8_t> outcomes;
  std::vector<wire::Place> places;
  for (std::size_t i = 0; i < reservation->size(); ++i) {
    outcomes.push_back(static_cast<std::uint8_t>(reservation->outcome(i)));
    if (reservation->outcome(i) != Reserved::kYes) continue;
    const SlotId slot = reservation->slot(i);
    if (!grants_.add(slot)) return broken("reserve: a slot that it holds too often");  // of a slot that was free: never
    places.push_back(place_of(slot, static_cast<std::uint32_t>(session_->block_bytes())));
  }
  const std::uint64_t number = reservation->id();
  if (places.empty()) {
    reservation->finish();  // nothing will be written: the client keeps no handle of it
  } else {
    reservations_.emplace(number, OpenReservation{.reservation = std::move(reservation), .blocks = std::move(*blocks)});
  }
  const auto written = builder_.CreateVector(outcomes);
  const auto where = builder_.CreateVectorOfStructs(places);
  reply(id, wire::CreateReservedBlocks(builder_, number, written, where), out);
  return {};
}

Status Member::commit(std::uint64_t id, const wire::Commit& message, wire::OutBuffer& out) {
  if (message.items()->size() > wire::kMaxBatch) return broken("commit: more items than a message may have");
  const auto found = reservations_.find(message.reservation());
  std::vector<std::uint8_t> codes;
  std::vector<Offset<wire::Error>> errors;
  for (const wire::Item* item : *message.items()) {
    Status status = fail(ErrorCode::kClosed, "commit: the reservation has ended");
    if (found != reservations_.end()) {
      detail::LocalReservation& reservation = *found->second.reservation;
      if (item->index() >= reservation.size()) return broken("commit: an item beyond its reservation");
      if (reservation.outcome(item->index()) != Reserved::kYes) return broken("commit: an item without a writer");
      const auto size = item->whole() ? std::nullopt : std::optional<std::size_t>(clamped(item->size(), SIZE_MAX));
      const SlotId slot = reservation.slot(item->index());
      status = reservation.commit(item->index(), size);
      if (status) {
        figures_->stored_bytes.fetch_add(size.value_or(session_->block_bytes()), std::memory_order_relaxed);
      }
      if (status && item->release() && !grants_.release(slot, 1)) return broken("commit: a grant that was not given");
    }
    codes.push_back(status ? std::uint8_t{0}
                           : static_cast<std::uint8_t>(static_cast<unsigned>(status.error().code) + 1));
    if (!status) errors.push_back(wire::write_error(builder_, status.error()));
  }
  const auto written = builder_.CreateVector(codes);
  const auto sentences = builder_.CreateVector(errors);
  reply(id, wire::CreateCommitted(builder_, written, sentences), out);
  return {};
}

Status Member::abort(const wire::Abort& message) {
  const auto found = reservations_.find(message.reservation());
  if (found == reservations_.end()) return {};
  for (const std::uint32_t item : *message.items()) {
    if (item >= found->second.reservation->size()) return broken("abort: an item beyond its reservation");
    found->second.reservation->abort(item);
  }
  return {};
}

Status Member::parts(std::uint64_t id, const wire::Parts& message, wire::OutBuffer& out) {
  if (message.blocks()->size() > wire::kMaxBatch) return broken("parts: more blocks than a message may have");
  const std::vector<std::size_t> blocks(message.blocks()->begin(), message.blocks()->end());
  const auto parts = session_->parts(message.reservation(), blocks);
  if (!parts) {
    reply_error(id, parts.error(), out);
    return {};
  }
  std::vector<wire::Place> places;
  for (const BlockPart& part : *parts) {
    const SlotId slot = core_->slot_at(part.bytes().data());
    if (!grants_.add(slot)) return broken("parts: a slot that it holds too often");
    places.push_back(place_of(slot, static_cast<std::uint32_t>(part.bytes().size())));
  }
  const auto written = builder_.CreateVectorOfStructs(places);
  reply(id, wire::CreateGranted(builder_, written), out);
  return {};
}

Status Member::report(std::uint64_t id, const wire::Report& message, wire::OutBuffer& out) {
  if (message.blocks()->size() > wire::kMaxBatch) return broken("report: more blocks than a message may have");
  const std::vector<std::size_t> blocks(message.blocks()->begin(), message.blocks()->end());
  if (const Status status = session_->report(message.reservation(), blocks); !status) {
    reply_error(id, status.error(), out);
  } else {
    reply(id, wire::CreateDone(builder_), out);
  }
  return {};
}

Status Member::release(const wire::Release& message) {
  for (const wire::Grants* grant : *message.grants()) {
    if (!grants_.release(grant->slot(), grant->count())) return broken("release: a grant that was not given");
  }
  return {};
}

// ---- pins and deletes

Status Member::pin(std::uint64_t id, const wire::Pin& message, wire::OutBuffer& out) {
  TIERCEL_TRY_ASSIGN(const auto hashes, hashes_of(*message.chain()));
  auto blocks = take_blocks(clamped(message.blocks(), hashes.size()));
  if (pins_.size() >= limits_.pins || !blocks) {
    reply_error(id,
                {.code = ErrorCode::kLimit,
                 .message = fmt::format(
                     "pin: {} pins and {} blocks are open on this session; the limits are {} and {}, "
                     "and {} blocks of all sessions",
                     pins_.size(), own_blocks_.used(), limits_.pins, own_blocks_.limit(), all_blocks_.limit())},
                out);
    return {};
  }
  const Space space = space_of(message.chain()->tenant());
  auto pin =
      session_->pin({space, hashes}, clamped(message.blocks(), SIZE_MAX), std::chrono::nanoseconds(message.ttl()));
  if (!pin) {
    reply_error(id, pin.error(), out);
    return {};
  }
  const std::size_t pinned = (*pin)->blocks();
  pins_.emplace(next_pin_, OpenPin{.pin = std::move(*pin), .blocks = std::move(*blocks)});
  reply(id, wire::CreatePinTaken(builder_, next_pin_++, pinned), out);
  return {};
}

Status Member::pinned(std::uint64_t id, const wire::PinnedBlocks& message, wire::OutBuffer& out) {
  const auto found = pins_.find(message.pin());
  reply(id, wire::CreatePinned(builder_, found == pins_.end() ? 0 : found->second.pin->blocks()), out);
  return {};
}

Status Member::drop(std::uint64_t id, const wire::DropChain& message, wire::OutBuffer& out) {
  if (message.tenant() != nullptr && message.tenant()->size() > kLongestTenant)
    return broken("a tenant's name is too long");
  answer_drop(
      id,
      [session = session_, space = space_of(message.tenant()), hash = wire::read_hash(*message.hash())]() {
        return session->drop(detail::ChainRef(space, std::span(&hash, 1)), 0);
      },
      out);
  return {};
}

Status Member::drop(std::uint64_t id, const wire::DropSpace& message, wire::OutBuffer& out) {
  answer_drop(
      id,
      [session = session_, space = space_of(message.tenant())]() -> Result<Dropped> { return session->drop(space); },
      out);
  return {};
}

/// A delete waits for its log to be synced: elsewhere.
void Member::answer_drop(std::uint64_t id, std::function<Result<Dropped>()> work, wire::OutBuffer& out) {
  if (deletes_ < limits_.deletes && slow_(id, std::move(work))) {
    ++deletes_;
    return;
  }
  reply_error(id, {.code = ErrorCode::kLimit, .message = "drop: too many deletes are under way; ask again"}, out);
}

void Member::done_slow(std::uint64_t request, const Result<Dropped>& dropped, wire::OutBuffer& out) {
  --deletes_;
  if (!dropped) return reply_error(request, dropped.error(), out);
  reply(request, wire::CreateDroppedBlocks(builder_, dropped->blocks, dropped->pending, dropped->bytes), out);
}

}  // namespace tiercel::service
