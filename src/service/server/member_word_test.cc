// Goal: what members of an earlier run say that they hold is never handed out before they give it back, whatever they
// say; and what cannot be is answered by closing the connection, with nothing kept.
#include "cache/local_session.h"
#include "service/server/member.h"
#include "transfer/host_copy_engine.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace tiercel::service {
namespace {

constexpr std::uint64_t kBlockBytes = 64_KiB;
constexpr std::uint64_t kArena = 4_MiB;

class World {
 public:
  World() {
    const Config config{.host = {.capacity = kArena,
                                 .arena = ArenaKind::kMemfd,
                                 .prefault = false,
                                 .extent_bytes = 2_MiB,
                                 .min_slot_bytes = kBlockBytes}};
    core_ = *detail::CacheCore::create(
        config, {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7, .arena_later = true});
    EXPECT_TRUE(core_->fill_arena(-1));
  }
  ~World() {
    (void)core_->close(std::chrono::nanoseconds(0));
    executor_.run_all();
  }
  std::unique_ptr<Member> member() {
    return std::make_unique<Member>(core_, MemberLimits{}, open_blocks_, std::span<const std::byte>(), Member::Slow(),
                                    MemberWord{.claims = true, .said = [this] { ++said_; }});
  }
  /// One message; false: the connection is to be closed.
  bool hold(Member& member, const std::vector<wire::Grants>& grants, std::uint64_t slot_bytes, bool last = true) {
    flatbuffers::FlatBufferBuilder builder;
    const auto list = builder.CreateVectorOfStructs(grants);
    const auto body = wire::CreateHold(builder, list, last, slot_bytes);
    builder.Finish(wire::CreateRequest(builder, 0, wire::RequestBody::Hold, body.Union()));
    std::vector<std::uint64_t> payload((builder.GetSize() + 7) / 8);
    std::memcpy(payload.data(), builder.GetBufferPointer(), builder.GetSize());
    const auto* request = wire::verified_request(std::as_bytes(std::span(payload)).first(builder.GetSize()));
    EXPECT_NE(request, nullptr);
    return request != nullptr && member.handle(*request, out_).has_value();
  }
  [[nodiscard]] int said() const { return said_; }
  [[nodiscard]] std::uint64_t pins() const { return core_->stats().copy_pins; }
  detail::CacheCore& core() { return *core_; }

  /// Takes all the room there is in blocks of 64 KiB, and answers which of the arena's 64 KiB pieces it got.
  std::vector<bool> take_all() {
    std::vector<bool> pieces(kArena / kBlockBytes);
    auto session =
        *core_->open_session({.model = {.name = "t"}, .block_tokens = 1, .layout = Layout::blob(kBlockBytes)});
    const std::vector<TokenId> tokens(kArena / kBlockBytes, 1);
    const BlockChain chain = hash_blocks(session->space({}), tokens);
    const auto room = session->reserve({chain.space(), chain.hashes()}, 0, chain.size());
    for (std::size_t i = 0; i < room->size(); ++i) {
      if (room->outcome(i) != Reserved::kYes) continue;
      const auto at = static_cast<std::size_t>(room->bytes(i).data() - core_->arena().data()) / kBlockBytes;
      EXPECT_FALSE(pieces[at]);
      pieces[at] = true;
    }
    room->finish();
    session->close();
    executor_.run_all();
    core_->check_consistency();
    return pieces;
  }

 private:
  Budget open_blocks_{std::uint64_t{1} << 20U};
  ManualClock clock_;
  ManualExecutor executor_{clock_};
  HostCopyEngine copies_{executor_};
  std::shared_ptr<detail::CacheCore> core_;
  wire::OutBuffer out_;
  int said_ = 0;
};

TEST(MemberWord, holding_nothing_is_a_word_too) {
  World world;
  const auto member = world.member();
  EXPECT_TRUE(world.hold(*member, {}, 0));
  EXPECT_EQ(world.said(), 1);
  EXPECT_EQ(world.pins(), 0U);
}

TEST(MemberWord, counts_when_the_last_message_of_it_is_there) {
  World world;
  const auto member = world.member();
  EXPECT_TRUE(world.hold(*member, {{3, 1}, {4, 2}}, kBlockBytes, false));
  EXPECT_EQ(world.said(), 0);
  EXPECT_EQ(world.pins(), 0U);
  EXPECT_TRUE(world.hold(*member, {{3, 1}}, kBlockBytes));
  EXPECT_EQ(world.said(), 1);
  EXPECT_EQ(world.pins(), 4U);
  EXPECT_TRUE(world.hold(*member, {{4, 1}}, kBlockBytes)) << "from here on it is a member like others";
  EXPECT_EQ(world.pins(), 1U);
  EXPECT_EQ(world.said(), 1);
  member->grants().clear();
}

TEST(MemberWord, what_cannot_be_closes_the_connection_and_claims_nothing) {
  World world;
  const std::pair<std::vector<wire::Grants>, std::uint64_t> bad[] = {{{{0, 1}, {64, 1}}, kBlockBytes},
                                                                     {{{0, 1}, {1, 0}}, kBlockBytes},
                                                                     {{{0, 1}, {1, UINT32_MAX}}, kBlockBytes},
                                                                     {{{0, 1}}, 0},
                                                                     {{{0, 1}}, kBlockBytes + 1},
                                                                     {{{0, 1}}, UINT64_MAX},
                                                                     {{{0, 1}, {31, 1}}, 2 * kBlockBytes}};
  for (const auto& [grants, slot_bytes] : bad) {
    const auto member = world.member();
    EXPECT_FALSE(world.hold(*member, grants, slot_bytes));
    EXPECT_EQ(world.pins(), 0U);
  }
  EXPECT_EQ(world.said(), 0) << "its process is waited for";
  world.core().check_consistency();
}

RC_GTEST_PROP(MemberWordProperty, what_is_claimed_is_not_handed_out, ()) {
  World world;
  struct Claimed {
    std::unique_ptr<Member> member;
    std::uint64_t slot_bytes = 0;
    std::map<std::uint32_t, std::uint32_t> slots;
  };
  std::vector<Claimed> members;
  std::map<std::uint32_t, std::uint64_t> extent_bytes;  // an extent has slots of one size
  const auto count = *rc::gen::inRange(1, 5);
  for (int i = 0; i < count; ++i) {
    Claimed one{
        .member = world.member(), .slot_bytes = kBlockBytes * *rc::gen::inRange<std::uint64_t>(1, 9), .slots = {}};
    bool possible = true;
    auto sizes = extent_bytes;
    std::vector<wire::Grants> grants;
    for (int k = *rc::gen::inRange(0, 8); k > 0; --k) {
      const auto slot = *rc::gen::inRange<std::uint32_t>(0, 64);
      const auto pins = *rc::gen::inRange<std::uint32_t>(1, 4);
      grants.emplace_back(slot, pins);
      one.slots[slot] += pins;
      possible &= slot % 32 < 2_MiB / one.slot_bytes;
      possible &= sizes.emplace(slot / 32, one.slot_bytes).first->second == one.slot_bytes;
    }
    RC_ASSERT(world.hold(*one.member, grants, one.slot_bytes) == possible);
    if (!possible) continue;
    extent_bytes = sizes;
    members.push_back(std::move(one));
  }
  world.core().offer_arena();
  while (true) {
    std::uint64_t pins = 0;
    const std::vector<bool> got = world.take_all();
    for (const Claimed& one : members) {
      for (const auto& [slot, grants] : one.slots) {
        pins += grants;
        const std::uint64_t begin = slot / 32 * 2_MiB + slot % 32 * one.slot_bytes;
        for (std::uint64_t at = begin / kBlockBytes; at < (begin + one.slot_bytes) / kBlockBytes; ++at)
          RC_ASSERT(!got[at]);
      }
    }
    RC_ASSERT(world.pins() == pins);
    if (members.empty()) break;
    RC_ASSERT(members.back().member->grants().slots() == members.back().slots.size());
    members.back().member->grants().clear();
    members.pop_back();
  }
  const std::vector<bool> all = world.take_all();
  RC_ASSERT(std::ranges::count(all, true) == std::ssize(all));
}

}  // namespace
}  // namespace tiercel::service
