// ServiceWorld: the service's side of several connections on one small cache, without sockets and threads; for the fuzz
// target of its messages.
//
// Every reply is verified as a client would, and what it grants for writing must be nobody else's. finish() ends all
// connections and proves that nothing of them is left. Breaks end the process. One thread.
#pragma once

#include "base/check.h"
#include "cache/core.h"
#include "service/server/member.h"
#include "transfer/host_copy_engine.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace tiercel::service::fuzz {

inline constexpr std::uint64_t kBlockBytes = 64_KiB;
inline constexpr std::size_t kMembers = 3;

inline BlockHash numbered(std::uint64_t number) {
  BlockHash hash;
  std::memcpy(hash.bytes.data(), &number, sizeof(number));
  return hash;
}

inline SessionOptions plain_session() {
  return {.model = {.name = "good", .kv_dtype = "f16"}, .block_tokens = 1, .layout = Layout::blob(kBlockBytes)};
}

/// Makes one request and gives its bytes.
class RequestMaker {
 public:
  [[nodiscard]] flatbuffers::FlatBufferBuilder& builder() { return builder_; }
  template <class Body>
  [[nodiscard]] std::span<const std::byte> finish(std::uint64_t id, flatbuffers::Offset<Body> body) {
    builder_.Finish(wire::CreateRequest(builder_, id, wire::RequestBodyTraits<Body>::enum_value, body.Union()));
    payload_.assign((builder_.GetSize() + 7) / 8, 0);  // aligned, as a frame's payload is
    std::memcpy(payload_.data(), builder_.GetBufferPointer(), builder_.GetSize());
    const std::size_t size = builder_.GetSize();
    builder_.Clear();
    return std::as_bytes(std::span(payload_)).first(size);
  }

 private:
  flatbuffers::FlatBufferBuilder builder_{512};
  std::vector<std::uint64_t> payload_;
};

/// One connection: what it has been told, for those who want to send something that fits.
struct Peer {
  std::unique_ptr<Member> member;
  std::optional<wire::FrameReader> in;  // made when bytes come: its buffer is large
  std::vector<std::uint64_t> reservations;
  std::vector<SlotId> granted;
  std::vector<std::uint64_t> pins;
  std::vector<wire::Place> loaded;  // of the last reply
  std::vector<wire::Place> writers;
  std::uint64_t last_reservation = 0;
};

class ServiceWorld {
 public:
  explicit ServiceWorld(IntegrityMode mode) {
    Config config{.host = {.capacity = 4_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = kBlockBytes}};
    config.index.blocks = 128;
    config.integrity.mode = mode;
    config.limits.namespaces = 8;
    auto core =
        detail::CacheCore::create(config, {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7});
    TIERCEL_CHECK(core.has_value(), "the cache opens");
    core_ = *core;
    ring_.resize(4096);
    good_.member = make_member();
    send_good(make_.finish(1, wire::write_open(make_.builder(), plain_session())));
  }
  ~ServiceWorld() {
    good_ = {};
    (void)core_->close(std::chrono::nanoseconds(0));
    executor_.run_all();
  }

  [[nodiscard]] std::span<std::byte> ring() { return ring_; }
  [[nodiscard]] Peer& peer(std::size_t i) {
    Peer& at = peers_[i % kMembers];
    if (!at.member) at.member = make_member();
    return at;
  }

  /// The payload of a frame arrives. False: the connection was closed for it.
  bool request(Peer& peer, std::span<const std::byte> payload) {
    const wire::Request* request = wire::verified_request(payload);
    if (request == nullptr || !peer.member->handle(*request, out_)) return close(peer);
    read_replies(peer);
    return true;
  }
  /// Bytes of a peer's stream arrive. False: the connection was closed for them.
  bool receive(Peer& peer, std::span<const std::byte> bytes) {
    if (!peer.in) peer.in.emplace(wire::kMaxRequestBytes);
    while (!bytes.empty()) {
      const auto room = peer.in->room();
      const std::size_t taken = std::min(room.size(), bytes.size());
      std::memcpy(room.data(), bytes.data(), taken);
      peer.in->filled(taken);
      bytes = bytes.subspan(taken);
      for (;;) {
        const auto payload = peer.in->next();
        if (!payload) return close(peer);
        if (!*payload) break;
        if (!request(peer, **payload)) return false;
      }
    }
    return true;
  }

  /// The connection ends; what was granted waits.
  bool close(Peer& peer) {
    if (!peer.member) return false;
    read_replies(peer);
    peer.member->end();
    std::erase_if(slow_, [&](const Slow& one) { return one.member == peer.member.get(); });
    departed_.push_back(std::move(peer.member->grants()));
    peer = Peer();
    return false;
  }
  /// The peer takes up what an earlier connection held.
  void take_up(Peer& peer) {
    if (departed_.empty()) return;
    departed_.back().visit([&](SlotId slot, std::uint32_t) { peer.granted.push_back(slot); });
    peer.member->grants().merge(std::move(departed_.back()));
    departed_.pop_back();
  }
  void process_gone() {
    if (departed_.empty()) return;
    departed_.front().clear();
    departed_.pop_front();
  }
  void run_tasks(std::size_t most) {
    for (std::size_t i = 0; i < most && executor_.run(); ++i) {
    }
    for (Peer& peer : peers_) {
      if (!peer.member) continue;
      peer.member->finish_loads(out_);
      read_replies(peer);
    }
  }
  void run_slow() {
    if (slow_.empty()) return;
    const Slow one = std::move(slow_.front());
    slow_.pop_front();
    const auto dropped = one.work();
    one.member->done_slow(one.request, dropped, out_);
    for (Peer& peer : peers_) {
      if (peer.member.get() == one.member) read_replies(peer);
    }
  }
  void pass(std::uint64_t ns) { clock_.advance(ns); }

  /// All connections and their processes end: nothing may be left, and a client that behaves is served.
  void finish() {
    for (Peer& peer : peers_) close(peer);
    while (!departed_.empty()) process_gone();
    executor_.run_all();
    core_->check_consistency();
    const Stats stats = core_->stats();
    TIERCEL_CHECK(stats.copy_pins == 0, "every grant has ended");
    TIERCEL_CHECK(stats.logical_pins == 0, "every pin has ended");
    TIERCEL_CHECK(stats.sessions == 1, "every other session has ended");
    TIERCEL_CHECK(stats.tiers[static_cast<std::size_t>(TierId::kHost)].quarantined_slots == 0, "no slot is kept back");
    TIERCEL_CHECK(open_blocks_.used() == 0, "nothing counts as open any more");
    store_and_load();
  }

 private:
  struct Slow {
    Member* member = nullptr;
    std::uint64_t request = 0;
    std::function<Result<Dropped>()> work;
  };

  std::unique_ptr<Member> make_member() {
    const MemberLimits limits{.chains = {.handles = 4, .kept_hashes = 96, .max_chain = 48},
                              .loads = 4,
                              .reservations = 4,
                              .pins = 4,
                              .tenants = 2,
                              .open_blocks = 150};
    auto self = std::make_shared<Member*>(nullptr);
    auto made = std::make_unique<Member>(core_, limits, open_blocks_, ring_,
                                         [this, self](std::uint64_t request, std::function<Result<Dropped>()> work) {
                                           if (slow_.size() >= 2) return false;
                                           slow_.push_back({*self, request, std::move(work)});
                                           return true;
                                         });
    *self = made.get();
    return made;
  }

  void check_place(const wire::Place& place) {
    const std::uint64_t arena = core_->arena().mapping().bytes();
    TIERCEL_CHECK(place.length() > 0 && place.offset() <= arena && place.length() <= arena - place.offset(),
                  "a granted place lies in the arena");
    TIERCEL_CHECK(place.slot() < core_->slot_ids(), "a granted slot is one of the arena's");
  }
  /// Bytes that are about to be written belong to nobody else, the departed included.
  void check_alone(const Peer& writer, SlotId slot) {
    std::uint32_t others = 0;
    const auto count = [&](const GrantTable& table) {
      table.visit([&](SlotId at, std::uint32_t grants) { others += at == slot ? grants : 0; });
    };
    for (const GrantTable& table : departed_) count(table);
    for (const Peer& peer : peers_) {
      if (peer.member && &peer != &writer) count(peer.member->grants());
    }
    if (writer.member)
      writer.member->grants().visit([&](SlotId at, std::uint32_t n) { others += at == slot ? n - 1 : 0; });
    TIERCEL_CHECK(others == 0, "a slot that is given out for writing is nobody else's");
  }

  void take_places(Peer& peer, const flatbuffers::Vector<const wire::Place*>* places, std::vector<wire::Place>& into) {
    into.clear();
    if (places == nullptr) return;
    for (const wire::Place* place : *places) {
      check_place(*place);
      into.push_back(*place);
      if (peer.granted.size() < 64) peer.granted.push_back(place->slot());
    }
  }

  void read_replies(Peer& peer) {
    while (!out_.empty()) {
      const auto room = replies_.room();
      const std::size_t taken = std::min(room.size(), out_.pending().size());
      std::memcpy(room.data(), out_.pending().data(), taken);
      out_.sent(taken);
      replies_.filled(taken);
      for (;;) {
        const auto payload = replies_.next();
        TIERCEL_CHECK(payload.has_value(), "the service writes frames");
        if (!*payload) break;
        const wire::Reply* reply = wire::verified_reply(**payload);
        TIERCEL_CHECK(reply != nullptr, "the service writes replies that a client accepts");
        note(peer, *reply);
      }
    }
  }
  void note(Peer& peer, const wire::Reply& reply) {
    if (const auto* loaded = reply.body_as_Loaded()) take_places(peer, loaded->blocks(), peer.loaded);
    if (const auto* granted = reply.body_as_Granted()) take_places(peer, granted->places(), peer.loaded);
    if (const auto* taken = reply.body_as_PinTaken()) peer.pins.push_back(taken->pin());
    const auto* reserved = reply.body_as_ReservedBlocks();
    if (reserved == nullptr) return;
    take_places(peer, reserved->places(), peer.writers);
    const auto yes = reserved->outcomes() == nullptr ? 0 : std::ranges::count(*reserved->outcomes(), 0);
    TIERCEL_CHECK(static_cast<std::size_t>(yes) == peer.writers.size(), "a place for each block that is to be written");
    for (const wire::Place& place : peer.writers) check_alone(peer, place.slot());
    peer.last_reservation = reserved->reservation();
    if (!peer.writers.empty()) peer.reservations.push_back(reserved->reservation());
  }

  void send_good(std::span<const std::byte> payload) {
    TIERCEL_CHECK(request(good_, payload), "a client that behaves is not closed");
    executor_.run_all();
    good_.member->finish_loads(out_);
    read_replies(good_);
  }
  flatbuffers::Offset<wire::Chain> good_chain(const BlockHash& hash) {
    const auto list = make_.builder().CreateVectorOfStructs(wire::as_wire(std::span(&hash, 1)), 1);
    return wire::CreateChain(make_.builder(), 0, 0, 0, 0, 0, list);
  }
  /// A client that does all as it should, while others come and go, gets its bytes back.
  void store_and_load() {
    const BlockHash hash = numbered(0xEE00'0000'0000 + ++stored_);
    const auto pattern = static_cast<std::byte>(stored_ * 31 + 1);
    good_.writers.clear();
    for (int tries = 0; good_.writers.empty(); ++tries) {
      TIERCEL_CHECK(tries < 50, "with nobody else there, there is room");
      if (tries > 0) pass(1'000'000'000);
      const auto written = good_chain(hash);
      send_good(make_.finish(2, wire::CreateReserve(make_.builder(), written, 0, 1)));
    }
    std::byte* const bytes = core_->arena().data() + good_.writers[0].offset();
    std::fill_n(bytes, kGoodBytes, pattern);
    const wire::Item item(kGoodBytes, 0, false, true);
    const auto items = make_.builder().CreateVectorOfStructs(&item, 1);
    send_good(make_.finish(3, wire::CreateCommit(make_.builder(), good_.last_reservation, items)));
    send_good(make_.finish(0, wire::CreateEndReservation(make_.builder(), good_.last_reservation)));
    const auto written = good_chain(hash);
    send_good(make_.finish(4, wire::CreateLoad(make_.builder(), written, 1, 1'000'000'000)));
    TIERCEL_CHECK(good_.loaded.size() == 1 && good_.loaded[0].length() == kGoodBytes, "what was stored is there");
    const std::byte* const back = core_->arena().data() + good_.loaded[0].offset();
    TIERCEL_CHECK(std::all_of(back, back + kGoodBytes, [&](std::byte b) { return b == pattern; }),
                  "and it is what was stored");
    const wire::Grants held(good_.loaded[0].slot(), 1);
    const auto list = make_.builder().CreateVectorOfStructs(&held, 1);
    send_good(make_.finish(0, wire::CreateRelease(make_.builder(), list)));
    TIERCEL_CHECK(good_.member->grants().empty(), "it has given back what it held");
    good_.reservations.clear();
    good_.granted.clear();
  }

  static constexpr std::uint32_t kGoodBytes = 64;

  ManualClock clock_;
  ManualExecutor executor_{clock_};
  HostCopyEngine copies_{executor_};
  std::shared_ptr<detail::CacheCore> core_;
  std::vector<std::byte> ring_;
  Budget open_blocks_{300};
  wire::OutBuffer out_;
  wire::FrameReader replies_{wire::kMaxReplyBytes};
  std::array<Peer, kMembers> peers_;
  std::deque<GrantTable> departed_;
  std::deque<Slow> slow_;
  Peer good_;
  RequestMaker make_;
  std::uint64_t stored_ = 0;
};

}  // namespace tiercel::service::fuzz
