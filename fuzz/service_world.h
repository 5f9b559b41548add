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
    bytes_.assign(builder_.GetBufferPointer(), builder_.GetBufferPointer() + builder_.GetSize());
    builder_.Clear();
    frame_ = wire::OutBuffer();
    frame_.add_frame(std::as_bytes(std::span(bytes_)));
    return frame_.pending();
  }

 private:
  flatbuffers::FlatBufferBuilder builder_{512};
  std::vector<std::uint8_t> bytes_;
  wire::OutBuffer frame_;
};

/// One connection: what it has been told, for those who want to send something that fits.
struct Peer {
  std::unique_ptr<Member> member;
  wire::FrameReader in{wire::kMaxRequestBytes};
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
  }
  ~ServiceWorld() {
    (void)core_->close(std::chrono::nanoseconds(0));
    executor_.run_all();
  }

  [[nodiscard]] std::span<std::byte> ring() { return ring_; }
  [[nodiscard]] Peer& peer(std::size_t i) {
    Peer& at = peers_[i % kMembers];
    if (!at.member) at.member = make_member();
    return at;
  }

  /// Bytes of a peer's stream arrive. False: the connection was closed for them.
  bool receive(Peer& peer, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto room = peer.in.room();
      const std::size_t taken = std::min(room.size(), bytes.size());
      std::memcpy(room.data(), bytes.data(), taken);
      peer.in.filled(taken);
      bytes = bytes.subspan(taken);
      for (;;) {
        const auto payload = peer.in.next();
        if (!payload) return close(peer);
        if (!*payload) break;
        const wire::Request* request = wire::verified_request(**payload);
        if (request == nullptr || !peer.member->handle(*request, out_)) return close(peer);
        read_replies(peer);
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
    if (!departed_.empty()) departed_.pop_front();
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
    departed_.clear();
    executor_.run_all();
    core_->check_consistency();
    const Stats stats = core_->stats();
    TIERCEL_CHECK(stats.copy_pins == 0, "every grant has ended");
    TIERCEL_CHECK(stats.logical_pins == 0, "every pin has ended");
    TIERCEL_CHECK(stats.sessions == 0, "every session has ended");
    TIERCEL_CHECK(stats.tiers[static_cast<std::size_t>(TierId::kHost)].quarantined_slots == 0, "no slot is kept back");
    store_and_load();
  }

 private:
  struct Slow {
    const Member* key() const { return member; }
    Member* member = nullptr;
    std::uint64_t request = 0;
    std::function<Result<Dropped>()> work;
  };

  std::unique_ptr<Member> make_member() {
    const MemberLimits limits{.chains = {.handles = 4, .kept_hashes = 96, .max_chain = 48},
                              .loads = 4,
                              .reservations = 4,
                              .pins = 4,
                              .tenants = 2};
    auto self = std::make_shared<Member*>(nullptr);
    auto made = std::make_unique<Member>(core_, limits, ring_,
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
    if (writer.member) writer.member->grants().visit([&](SlotId at, std::uint32_t n) { others += at == slot ? n - 1 : 0; });
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
    wire::FrameReader reader(wire::kMaxReplyBytes);
    while (!out_.empty()) {
      const auto room = reader.room();
      const std::size_t taken = std::min(room.size(), out_.pending().size());
      std::memcpy(room.data(), out_.pending().data(), taken);
      out_.sent(taken);
      reader.filled(taken);
      for (;;) {
        const auto payload = reader.next();
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

  /// A client that does all as it should gets its bytes back.
  void store_and_load() {
    Peer good{.member = make_member()};
    const BlockHash hash = numbered(0xEE00'0000'0000 + ++stored_);
    const auto pattern = static_cast<std::byte>(stored_ * 31 + 1);
    RequestMaker make;
    const auto chain = [&] {
      auto& builder = make.builder();
      return wire::CreateChain(builder, 0, 0, 0, 0, 0, builder.CreateVectorOfStructs(wire::as_wire(std::span(&hash, 1)), 1));
    };
    const auto send = [&](std::span<const std::byte> frame) {
      TIERCEL_CHECK(receive(good, frame), "a client that behaves is not closed");
      executor_.run_all();
      good.member->finish_loads(out_);
      read_replies(good);
    };
    send(make.finish(1, wire::write_open(make.builder(), plain_session())));
    for (int tries = 0; good.writers.empty(); ++tries) {
      TIERCEL_CHECK(tries < 50, "with nobody else there, there is room");
      if (tries > 0) pass(1'000'000'000);
      const auto written = chain();
      send(make.finish(2, wire::CreateReserve(make.builder(), written, 0, 1)));
    }
    std::byte* const bytes = core_->arena().data() + good.writers[0].offset();
    std::fill_n(bytes, 512, pattern);
    const wire::Item item(512, 0, false, true);
    const auto items = make.builder().CreateVectorOfStructs(&item, 1);
    send(make.finish(3, wire::CreateCommit(make.builder(), good.last_reservation, items)));
    const auto written = chain();
    send(make.finish(4, wire::CreateLoad(make.builder(), written, 1, 1'000'000'000)));
    TIERCEL_CHECK(good.loaded.size() == 1 && good.loaded[0].length() == 512, "what was stored is there");
    const std::byte* const back = core_->arena().data() + good.loaded[0].offset();
    TIERCEL_CHECK(std::all_of(back, back + 512, [&](std::byte b) { return b == pattern; }), "and it is what was stored");
    const wire::Grants held(good.loaded[0].slot(), 1);
    const auto list = make.builder().CreateVectorOfStructs(&held, 1);
    send(make.finish(0, wire::CreateRelease(make.builder(), list)));
    TIERCEL_CHECK(good.member->grants().empty(), "it has given back what it held");
    good.member->end();
    executor_.run_all();
    TIERCEL_CHECK(core_->stats().copy_pins == 0, "nothing is left of it");
  }

  ManualClock clock_;
  ManualExecutor executor_{clock_};
  HostCopyEngine copies_{executor_};
  std::shared_ptr<detail::CacheCore> core_;
  std::vector<std::byte> ring_;
  wire::OutBuffer out_;
  std::array<Peer, kMembers> peers_;
  std::deque<GrantTable> departed_;
  std::deque<Slow> slow_;
  std::uint64_t stored_ = 0;
};

}  // namespace tiercel::service::fuzz
