// Goal: whatever a client sends, the service neither crashes nor leaks, does nothing to it beyond closing its
// connection, gives no slot to a writer that another may still touch, and serves the next client as if nothing had
// been.
//
// The first byte says how the rest is read. Even: as the frames of one connection, as they were recorded of a real one;
// numbers that the service gives out anew each time (reservations, slots) are first put in place of the recorded ones.
// Odd: as a program, read from its end, which makes requests on several connections, of real numbers mixed with wrong
// ones, lets processes end and connections be taken up, and now and then sends bytes as they are. The cache lives on
// between inputs: its state must never depend on what a client that is gone has done.
#include "base/log.h"
#include "fuzz/service_world.h"

#include <fuzzer/FuzzedDataProvider.h>

#include <cstdint>
#include <string>

namespace {

using namespace tiercel;
using namespace tiercel::service;
using namespace tiercel::service::fuzz;

/// Puts the numbers of this run in place of recorded ones.
void ground(Peer& peer, const wire::Request& request) {
  // The accessors give const; the bytes are the reader's own buffer.
  const auto set_reservation = [&](const auto* body, flatbuffers::voffset_t field) {
    const std::uint64_t recorded = body->reservation() & 0xFFFF'FFFFU;  // a service begins anywhere above
    if (peer.reservations.empty() || recorded == 0 || recorded > 1000) return;
    auto* table = const_cast<flatbuffers::Table*>(reinterpret_cast<const flatbuffers::Table*>(body));
    (void)table->SetField<std::uint64_t>(field, peer.reservations[(recorded - 1) % peer.reservations.size()], 0);
  };
  if (const auto* commit = request.body_as_Commit()) set_reservation(commit, wire::Commit::VT_RESERVATION);
  if (const auto* abort = request.body_as_Abort()) set_reservation(abort, wire::Abort::VT_RESERVATION);
  if (const auto* end = request.body_as_EndReservation()) set_reservation(end, wire::EndReservation::VT_RESERVATION);
  if (const auto* parts = request.body_as_Parts()) set_reservation(parts, wire::Parts::VT_RESERVATION);
  if (const auto* report = request.body_as_Report()) set_reservation(report, wire::Report::VT_RESERVATION);
  if (const auto* release = request.body_as_Release()) {
    for (const wire::Grants* grant : *release->grants()) {
      bool held = false;
      SlotId some = grant->slot();
      peer.member->grants().visit([&](SlotId slot, std::uint32_t) {
        held = held || slot == grant->slot();
        some = slot;
      });
      if (!held) *const_cast<wire::Grants*>(grant) = wire::Grants(some, grant->count());
    }
  }
}

void play_stream(ServiceWorld& world, std::span<const std::uint8_t> data) {
  Peer& peer = world.peer(0);
  std::vector<std::uint64_t> aligned;
  for (auto rest = std::as_bytes(data); !rest.empty();) {
    std::uint32_t length = 0;
    if (rest.size() > wire::kFrameHeaderBytes) std::memcpy(&length, rest.data(), sizeof(length));
    const std::size_t padded = wire::kFrameHeaderBytes + ((std::size_t{length} + 7) & ~std::size_t{7});
    const std::size_t whole = std::min(padded, rest.size());
    aligned.assign((whole + 7) / 8, 0);
    auto* const bytes = reinterpret_cast<std::byte*>(aligned.data());
    std::memcpy(bytes, rest.data(), whole);
    rest = rest.subspan(whole);
    if (whole == padded && length > 0) {
      const auto* request = wire::verified_request({bytes + wire::kFrameHeaderBytes, length});
      if (request != nullptr) ground(peer, *request);
    }
    if (!world.receive(peer, {bytes, whole})) return;
    world.run_tasks(4);
    world.run_slow();
  }
}

class Program {
 public:
  Program(ServiceWorld& world, FuzzedDataProvider& input) : world_(world), input_(input) {}

  void run() {
    for (int steps = 0; steps < 100 && input_.remaining_bytes() > 0; ++steps) step();
  }

 private:
  template <class T>
  T below(T end) {
    return input_.ConsumeIntegralInRange<T>(0, end - 1);
  }
  bool rarely() { return below(16) == 0; }
  std::uint64_t number() { return rarely() ? input_.ConsumeIntegral<std::uint64_t>() : below<std::uint64_t>(10); }
  std::uint32_t word() { return rarely() ? input_.ConsumeIntegral<std::uint32_t>() : below<std::uint32_t>(10); }
  template <class T>
  T one_of(const std::vector<T>& list) {
    if (list.empty() || rarely()) return static_cast<T>(number());
    return list[list.size() - 1 - below(std::min<std::size_t>(list.size(), 8))];
  }
  flatbuffers::FlatBufferBuilder& builder() { return make_.builder(); }

  flatbuffers::Offset<wire::Chain> chain() {
    static constexpr const char* kTenants[] = {"", "a", "b", "c"};
    const auto tenant = builder().CreateString(kTenants[below(4)]);
    std::vector<BlockHash> hashes(below<std::size_t>(rarely() ? 60 : 8));
    // Mostly in order; the same hash in other places too, which no honest client sends.
    std::uint64_t at = below<std::uint64_t>(4);
    for (BlockHash& hash : hashes) hash = numbered(rarely() ? below<std::uint64_t>(8) : at++);
    const std::uint32_t handle = rarely() ? word() : below(4U);
    const std::uint32_t known = below(3) == 0 ? word() : 0;
    if (below(4) == 0) {  // by the ring
      const auto room = world_.ring().size() / sizeof(BlockHash);
      const std::size_t first = below<std::size_t>(8);
      for (std::size_t i = 0; i < hashes.size() && first + i < room; ++i) {
        std::memcpy(world_.ring().data() + (first + i) * sizeof(BlockHash), &hashes[i], sizeof(BlockHash));
      }
      const auto ring_first = rarely() ? word() : static_cast<std::uint32_t>(first);
      const auto count = rarely() ? word() : static_cast<std::uint32_t>(hashes.size());
      return wire::CreateChain(builder(), tenant, handle, known, ring_first, count);
    }
    const auto list = builder().CreateVectorOfStructs(wire::as_wire(hashes), hashes.size());
    return wire::CreateChain(builder(), tenant, handle, known, 0, rarely() ? 1 : 0, list);
  }

  SessionOptions session() {
    SessionOptions options = plain_session();
    options.model.name = below(2) == 0 ? "x" : "y";
    switch (below(5)) {
      case 0:
        options.layout = Layout::blob(200'000);
        break;
      case 1:
        options.group = {.engine_id = "engine", .members = 2, .member = below(2U)};
        break;
      case 2:
        options.layout = Layout::blob(number() * 8192);
        options.block_tokens = word();
        options.group = {.engine_id = below(2) == 0 ? "" : "engine", .members = word(), .member = word()};
        break;
      default:
        break;
    }
    return options;
  }

  template <class T>
  flatbuffers::Offset<flatbuffers::Vector<T>> numbers(T most) {
    std::vector<T> list(below<std::size_t>(5));
    for (T& one : list) one = rarely() ? static_cast<T>(number()) : below<T>(most);
    return builder().CreateVector(list);
  }
  flatbuffers::Offset<flatbuffers::Vector<const wire::Grants*>> grants(Peer& peer) {
    std::vector<wire::Grants> list;
    for (std::size_t i = below<std::size_t>(5); i > 0; --i) {
      list.emplace_back(static_cast<SlotId>(one_of(peer.granted)), rarely() ? word() : 1);
    }
    return builder().CreateVectorOfStructs(list);
  }

  template <class Body>
  void send(Peer& peer, flatbuffers::Offset<Body> body) {
    const std::uint64_t id = rarely() ? number() : ++last_id_;
    (void)world_.request(peer, make_.finish(id, body));
  }

  void step() {
    Peer& peer = world_.peer(below<std::size_t>(rarely() ? 3 : 2));
    builder().Clear();
    if (peer.member->options() == nullptr && !rarely()) return send(peer, wire::write_open(builder(), session()));
    switch (below(24)) {
      case 0:
      case 1:
        return send(peer, wire::CreateMatch(builder(), chain()));
      case 2:
        return send(peer, wire::CreateKeep(builder(), chain()));
      case 3:
      case 4:
      case 5: {
        const auto of = chain();
        return send(peer, wire::CreateLoad(builder(), of, number(), number() * 1'000'000));
      }
      case 6:
        if (below(2U) == 0) return send(peer, wire::CreateSoFar(builder(), last_id_ - below(3U)));
        return send(peer, wire::CreateCancelLoad(builder(), last_id_ - below(3U)));
      case 7:
      case 8:
      case 9: {
        const auto of = chain();
        return send(peer, wire::CreateReserve(builder(), of, below(4) == 0 ? number() : 0, number()));
      }
      case 10:
      case 11:
      case 12:
        return commit(peer);
      case 13: {
        const auto items = numbers<std::uint32_t>(8);
        return send(peer, wire::CreateAbort(builder(), one_of(peer.reservations), items));
      }
      case 14:
        return send(peer, wire::CreateEndReservation(builder(), one_of(peer.reservations)));
      case 15:
        return parts(peer);
      case 16:
      case 17:
        return send(peer, wire::CreateRelease(builder(), grants(peer)));
      default:
        return seldom(peer);
    }
  }

  void commit(Peer& peer) {
    std::vector<wire::Item> items;
    const std::uint32_t count = below(6U);
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint64_t size = rarely() ? input_.ConsumeIntegral<std::uint64_t>() : 1 + below(4096U);
      items.emplace_back(size, rarely() ? word() : i, rarely(), below(2) == 0);
    }
    const auto list = builder().CreateVectorOfStructs(items);
    send(peer, wire::CreateCommit(builder(), one_of(peer.reservations), list));
  }

  /// What a rank does: mostly with the scheduler's reservation.
  void parts(Peer& peer) {
    const auto blocks = numbers<std::uint64_t>(4);
    const std::uint64_t reservation = one_of(world_.peer(below<std::size_t>(2)).reservations);
    if (below(2) == 0) return send(peer, wire::CreateParts(builder(), reservation, blocks));
    send(peer, wire::CreateReport(builder(), reservation, blocks));
  }

  void seldom(Peer& peer) {
    switch (below(14)) {
      case 0: {
        const auto of = chain();
        return send(peer,
                    wire::CreatePin(builder(), of, number(), static_cast<std::int64_t>(number() * 1'000'000'000)));
      }
      case 1:
        return send(peer, wire::CreatePinnedBlocks(builder(), one_of(peer.pins)));
      case 2:
        return send(peer, wire::CreateUnpin(builder(), one_of(peer.pins)));
      case 3: {
        const wire::Hash hash = wire::write_hash(numbered(below<std::uint64_t>(8)));
        return send(peer, wire::CreateDropChain(builder(), builder().CreateString("a"), &hash));
      }
      case 4:
        return send(peer, wire::CreateDropSpace(builder(), builder().CreateString("a")));
      case 5:
        return send(peer, wire::CreateHold(builder(), grants(peer), below(3) != 0));
      case 6:
        return send(peer, wire::CreateClose(builder()));
      case 7:
        return send(peer, wire::CreatePing(builder()));
      case 8:
        return world_.take_up(peer);
      case 9:
        return world_.process_gone();
      case 10:
        (void)world_.close(peer);
        return;
      case 11:
        world_.pass(number() * 100'000'000);
        return world_.run_tasks(number());
      case 12:
        return world_.run_slow();
      default: {
        const std::string bytes = input_.ConsumeRandomLengthString(64);
        (void)world_.receive(peer, std::as_bytes(std::span(bytes)));
      }
    }
  }

  ServiceWorld& world_;
  FuzzedDataProvider& input_;
  RequestMaker make_;
  std::uint64_t last_id_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static ServiceWorld plain(IntegrityMode::kNormal);
  static ServiceWorld paranoid(IntegrityMode::kParanoid);
  if (size == 0) return 0;
  set_log_sink([](LogLevel, std::string_view) {});
  ServiceWorld& world = (data[0] & 2U) == 0 ? plain : paranoid;
  if ((data[0] & 1U) == 0) {
    play_stream(world, {data + 1, size - 1});
  } else {
    FuzzedDataProvider input(data + 1, size - 1);
    Program(world, input).run();
  }
  world.finish();
  return 0;
}
