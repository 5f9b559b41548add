#include "service/client/remote_session.h"

#include "base/log.h"
#include "base/try.h"
#include "cache/session_space.h"
#include "service/client/remote_load.h"
#include "service/client/remote_reservation.h"

#include <algorithm>
#include <utility>

namespace tiercel::service {
namespace {

/// Keeps its connection alone, not the arena: a pin holds no slot.
class RemotePin final : public detail::PinBackend {
 public:
  RemotePin(std::shared_ptr<Line> line, std::shared_ptr<Link> link, std::uint64_t pin)
      : line_(std::move(line)), link_(std::move(link)), pin_(pin) {}
  ~RemotePin() override {
    try {
      link_->post([this](LinkWriter& writer) { return wire::CreateUnpin(writer.builder(), pin_); });
      link_->flush();
    } catch (const std::bad_alloc&) {  // it ends with its time, or with the session
    }
  }
  [[nodiscard]] std::size_t blocks() const override {
    const auto use = line_->use();
    if (!use || use->link != link_) return 0;  // it has ended with its connection
    const auto ticket =
        line_->ask(*use, [this](LinkWriter& writer) { return wire::CreatePinnedBlocks(writer.builder(), pin_); });
    if (!ticket) return 0;
    const auto* pinned = Link::reply(*ticket).body_as_Pinned();
    return pinned == nullptr ? 0 : static_cast<std::size_t>(pinned->blocks());
  }

 private:
  const std::shared_ptr<Line> line_;
  const std::shared_ptr<Link> link_;
  const std::uint64_t pin_;
};

/// The error of a reply, or that it is none of this kind.
tl::unexpected<Error> error_of(const wire::Reply& reply) {
  if (const auto* error = reply.body_as_Error()) return tl::unexpected<Error>(wire::read_error(*error));
  return fail(ErrorCode::kUnsupported, "the service answers something else");
}

tl::unexpected<Error> broken(const Line::Use& use, const char* why) {
  use.link->fail();  // with what it had granted: the next link says what is held
  return fail(ErrorCode::kUnsupported, why);
}

/// Hashes of one chain that the service takes.
std::size_t chain_limit(const Line::Use& use) {
  return std::min(use.link->welcome().max_chain, use.link->welcome().kept_hashes);
}
std::span<const BlockHash> within_limit(const Line::Use& use, std::span<const BlockHash> hashes) {
  return hashes.first(std::min(hashes.size(), chain_limit(use)));
}

std::uint64_t count_of(std::chrono::nanoseconds time) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, time.count()));
}

}  // namespace

RemoteSession::RemoteSession(std::shared_ptr<Line> line, const SessionOptions& options)
    : line_(std::move(line)), options_(options), family_(detail::family_of(options)) {}

Space RemoteSession::space(std::string_view tenant) const { return detail::space_of(options_, family_, tenant); }

Status RemoteSession::check(const Space& space) const {
  if (line_->closed()) return detail::session_closed();
  return detail::check_family(space, family_);
}

Result<Line::Use> RemoteSession::use() const {
  auto use = line_->use();
  if (use) return *use;
  if (line_->closed()) return detail::session_closed();
  return fail(ErrorCode::kClosed, "the service went away");
}

std::shared_ptr<const Mapping> RemoteSession::arena() const {
  const auto use = line_->use();
  return use ? use->holdings->arena() : nullptr;
}

Match RemoteSession::match(const detail::ChainRef& chain) const {
  const auto use = line_->use();
  if (!use || !check(chain.space)) return {};
  const auto hashes = within_limit(*use, chain.hashes);
  const auto ticket = line_->ask(*use, [&](LinkWriter& writer) {
    return wire::CreateMatch(writer.builder(), writer.chain(chain.space.tenant(), hashes));
  });
  const auto* matched = ticket ? Link::reply(*ticket).body_as_Matched() : nullptr;
  if (matched == nullptr) return {};
  std::vector<TierSet> tiers;
  if (matched->tiers() != nullptr) {
    for (const wire::TierRun* run : *matched->tiers()) {
      const std::size_t count = std::min<std::size_t>(run->count(), chain.size() - tiers.size());
      tiers.insert(tiers.end(), count, TierSet{.bits = run->tiers()});
    }
  }
  std::optional<std::chrono::nanoseconds> time;
  if (matched->predicted_load_time() > 0) {
    time = std::chrono::nanoseconds(static_cast<std::int64_t>(matched->predicted_load_time()));
  }
  return {std::move(tiers), time};
}

std::unique_ptr<detail::LoadBackend> RemoteSession::load(const LoadCall& call) {
  if (!check(call.chain.space)) return nullptr;
  auto use = line_->use();
  if (!use) return std::make_unique<RemoteLoad>(LoadOutcome::kClosed);
  const std::uint64_t send_until = line_->deadline_ns();
  const auto hashes = within_limit(*use, call.chain.hashes);
  std::vector<wire::PrefillTime> prefills;
  if (call.ahead != nullptr) prefills = prefills_.take_for(use->link.get());
  const PrefillAhead ahead = call.ahead != nullptr ? *call.ahead : PrefillAhead{};
  Line::give_back(*use);
  auto ticket = use->link->start(
      [&](LinkWriter& writer) {
        const auto written = writer.chain(call.chain.space.tenant(), hashes);
        const auto times = prefills.empty() ? 0 : writer.builder().CreateVectorOfStructs(prefills);
        return wire::CreateLoad(writer.builder(), written, call.blocks, count_of(call.deadline), call.ahead != nullptr,
                                ahead.prompt_tokens, ahead.context_tokens, ahead.waiting, ahead.copy_bytes_per_second,
                                times);
      },
      send_until);
  if (!ticket) {
    const bool slow = ticket.error().code == ErrorCode::kTimeout;
    return std::make_unique<RemoteLoad>(slow ? LoadOutcome::kDeadline : LoadOutcome::kClosed);
  }
  return std::make_unique<RemoteLoad>(line_, std::move(*use), std::move(*ticket), call.blocks, count_of(call.deadline));
}

std::shared_ptr<detail::ReservationBackend> RemoteSession::reserve(const detail::ChainRef& chain, std::size_t first,
                                                                   std::size_t count) {
  const std::size_t begin = std::min(first, chain.size());
  const std::size_t asked = std::min(count, chain.size() - begin);
  if (const Status status = check(chain.space); !status) {
    if (status.error().code != ErrorCode::kClosed) log_line(LogLevel::kError, "foreign_chain", status.error().message);
    return std::make_shared<RemoteReservation>(asked, Reserved::kClosed);
  }
  const auto use = line_->use();
  if (!use) return std::make_shared<RemoteReservation>(asked, Reserved::kClosed);
  if (begin + asked > chain_limit(*use)) return std::make_shared<RemoteReservation>(asked, Reserved::kBusy);
  // Made before it is asked for: what the service grants must find its place.
  auto reservation = std::make_shared<RemoteReservation>(line_, *use, asked, block_bytes());
  const auto ticket = line_->ask(*use, [&](LinkWriter& writer) {
    // A reserve needs no more of the chain than its end: what lies behind is not sent for it.
    const auto written = writer.chain(chain.space.tenant(), chain.hashes.first(begin + asked));
    return wire::CreateReserve(writer.builder(), written, begin, asked);
  });
  if (ticket) reservation->accept(Link::reply(*ticket));
  return reservation;
}

// ---- groups

Result<std::vector<BlockPart>> RemoteSession::parts(std::uint64_t reservation_id, std::span<const std::size_t> blocks) {
  TIERCEL_TRY_ASSIGN(const Line::Use use, this->use());
  std::vector<BlockPart> parts;
  parts.reserve(blocks.size());
  do {
    const auto piece = blocks.first(std::min(blocks.size(), wire::kMaxBatch));
    TIERCEL_TRY_ASSIGN(const auto ticket, line_->ask(use, [&](LinkWriter& writer) {
      const std::vector<std::uint64_t> numbers(piece.begin(), piece.end());
      const auto written = writer.builder().CreateVector(numbers);
      return wire::CreateParts(writer.builder(), reservation_id, written);
    }));
    const auto* granted = Link::reply(ticket).body_as_Granted();
    if (granted == nullptr) return error_of(Link::reply(ticket));
    for (unsigned at = 0; granted->places() != nullptr && at < granted->places()->size(); ++at) {
      const wire::Place& place = *granted->places()->Get(at);
      if (place.length() != block_bytes()) return broken(use, "the service names a place of another size");
      switch (use.holdings->granted(place, use.epoch)) {
        case Holdings::Grant::kTaken:
          break;
        case Holdings::Grant::kStale:
          return fail(ErrorCode::kClosed, "the service went away");
        case Holdings::Grant::kOutside:
          return broken(use, "the service names a place beyond the arena");
      }
      parts.emplace_back(use.holdings->adopt(place.slot()), use.holdings->bytes(place));
    }
    blocks = blocks.subspan(piece.size());
  } while (!blocks.empty());
  return parts;
}

Status RemoteSession::report(std::uint64_t reservation_id, std::span<const std::size_t> blocks) {
  TIERCEL_TRY_ASSIGN(const Line::Use use, this->use());
  do {
    const auto piece = blocks.first(std::min(blocks.size(), wire::kMaxBatch));
    TIERCEL_TRY_ASSIGN(const auto ticket, line_->ask(use, [&](LinkWriter& writer) {
      const std::vector<std::uint64_t> numbers(piece.begin(), piece.end());
      const auto written = writer.builder().CreateVector(numbers);
      return wire::CreateReport(writer.builder(), reservation_id, written);
    }));
    if (Link::reply(ticket).body_as_Done() == nullptr) return error_of(Link::reply(ticket));
    blocks = blocks.subspan(piece.size());
  } while (!blocks.empty());
  return {};
}

// ---- pins and deletes

Result<std::unique_ptr<detail::PinBackend>> RemoteSession::pin(const detail::ChainRef& chain, std::size_t blocks,
                                                               std::chrono::nanoseconds ttl) {
  TIERCEL_TRY(check(chain.space));
  TIERCEL_TRY_ASSIGN(const Line::Use use, this->use());
  TIERCEL_TRY_ASSIGN(const auto ticket, line_->ask(use, [&](LinkWriter& writer) {
    const auto hashes = within_limit(use, chain.hashes.first(std::min(blocks, chain.size())));
    return wire::CreatePin(writer.builder(), writer.chain(chain.space.tenant(), hashes), blocks, ttl.count());
  }));
  const auto* taken = Link::reply(ticket).body_as_PinTaken();
  if (taken == nullptr) return error_of(Link::reply(ticket));
  return std::make_unique<RemotePin>(line_, use.link, taken->pin());
}

Result<Dropped> RemoteSession::drop(const detail::ChainRef& chain, std::size_t first) {
  TIERCEL_TRY(check(chain.space));
  TIERCEL_TRY(detail::check_dropped(first, chain.size()));
  TIERCEL_TRY_ASSIGN(const Line::Use use, this->use());
  TIERCEL_TRY_ASSIGN(const auto ticket, line_->ask(use, [&](LinkWriter& writer) {
    const auto tenant = writer.builder().CreateString(chain.space.tenant());
    const wire::Hash hash = wire::write_hash(chain[first]);
    return wire::CreateDropChain(writer.builder(), tenant, &hash);
  }));
  const auto* dropped = Link::reply(ticket).body_as_DroppedBlocks();
  if (dropped == nullptr) return error_of(Link::reply(ticket));
  return Dropped{.blocks = dropped->blocks(), .pending = dropped->pending(), .bytes = dropped->bytes()};
}

Result<Dropped> RemoteSession::drop(const Space& space) {
  TIERCEL_TRY(check(space));
  TIERCEL_TRY_ASSIGN(const Line::Use use, this->use());
  TIERCEL_TRY_ASSIGN(const auto ticket, line_->ask(use, [&](LinkWriter& writer) {
    const auto tenant = writer.builder().CreateString(space.tenant());
    return wire::CreateDropSpace(writer.builder(), tenant);
  }));
  const auto* dropped = Link::reply(ticket).body_as_DroppedBlocks();
  if (dropped == nullptr) return error_of(Link::reply(ticket));
  return Dropped{.blocks = dropped->blocks(), .pending = dropped->pending(), .bytes = dropped->bytes()};
}

}  // namespace tiercel::service
