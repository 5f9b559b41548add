// Goal: what one member, and all members together, may have open is bounded in blocks, not in calls alone: memory does
// not grow with the length of the chains. What ends gives its share back. And how people know its engine.
#include "service/server/member.h"

#include "transfer/host_copy_engine.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace tiercel::service {
namespace {

TEST(EngineName, tells_engines_apart) {
  EXPECT_EQ(engine_name("e", "m", {.pid = 17, .member = 5}), "e");
  EXPECT_EQ(engine_name("", "m", {.pid = 17, .member = 5}), "m (process 17)");
  const std::uint64_t second_run = std::uint64_t{2} << 32U;
  EXPECT_EQ(engine_name("", "m", {.pid = 0, .member = second_run + 5}), "m (connection 2-5)");
}

class OpenBlocks : public testing::Test {
 protected:
  static constexpr std::uint64_t kBlockBytes = 64_KiB;
  static constexpr std::uint64_t kOfOne = 40;
  static constexpr std::uint64_t kOfAll = 60;

  OpenBlocks() {
    const Config config{
        .host = {.capacity = 16_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = kBlockBytes}};
    core_ = *detail::CacheCore::create(config, {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7});
    for (auto& member : members_) {
      member = std::make_unique<Member>(core_, MemberLimits{.open_blocks = kOfOne}, all_, ring_,
                                        [](std::uint64_t, const std::function<Result<Dropped>()>&) { return false; });
      const SessionOptions options{.model = {.name = "m"}, .block_tokens = 1, .layout = Layout::blob(kBlockBytes)};
      ask(*member, wire::write_open(builder_, options));
    }
  }
  ~OpenBlocks() override {
    for (auto& member : members_) {
      member->end();
      member->grants().clear();
      member.reset();
    }
    EXPECT_EQ(all_.used(), 0U);
    executor_.run_all();
    core_->check_consistency();
    (void)core_->close(std::chrono::nanoseconds(0));
  }

  /// The reply, valid until the next one.
  template <class Body>
  const wire::Reply& ask(Member& member, flatbuffers::Offset<Body> body) {
    builder_.Finish(wire::CreateRequest(builder_, ++id_, wire::RequestBodyTraits<Body>::enum_value, body.Union()));
    const Status handled = member.handle(*flatbuffers::GetRoot<wire::Request>(builder_.GetBufferPointer()), out_);
    EXPECT_TRUE(handled) << (handled ? "" : handled.error().message);
    builder_.Clear();
    const auto room = in_.room();
    const auto pending = out_.pending();
    std::memcpy(room.data(), pending.data(), pending.size());
    in_.filled(pending.size());
    out_.sent(pending.size());
    const auto payload = in_.next();
    EXPECT_TRUE(payload && *payload);
    return *wire::verified_reply(**payload);
  }
  flatbuffers::Offset<wire::Chain> chain(std::uint64_t first, std::size_t blocks) {
    std::vector<BlockHash> hashes(blocks);
    for (BlockHash& hash : hashes) std::memcpy(hash.bytes.data(), &++first, sizeof(first));
    return wire::CreateChain(builder_, 0, 0, 0, 0, 0,
                             builder_.CreateVectorOfStructs(wire::as_wire(hashes), hashes.size()));
  }
  /// The number of the reservation of the last `count` blocks of a chain; 0: it was told kBusy.
  std::uint64_t reserve(Member& member, std::size_t blocks, std::size_t count) {
    const auto of = chain(1'000 * ++chains_, blocks);
    const auto* reserved =
        ask(member, wire::CreateReserve(builder_, of, blocks - count, count)).body_as_ReservedBlocks();
    EXPECT_EQ(reserved->outcomes()->size(), count);
    for (const std::uint8_t outcome : *reserved->outcomes()) {
      const auto wanted = reserved->reservation() == 0 ? Reserved::kBusy
                          : blocks == count            ? Reserved::kYes
                                                       : Reserved::kNoParent;
      EXPECT_EQ(static_cast<Reserved>(outcome), wanted);
    }
    return reserved->reservation();
  }
  void end(Member& member, std::uint64_t reservation) {
    builder_.Finish(wire::CreateRequest(builder_, 0, wire::RequestBody::EndReservation,
                                        wire::CreateEndReservation(builder_, reservation).Union()));
    EXPECT_TRUE(member.handle(*flatbuffers::GetRoot<wire::Request>(builder_.GetBufferPointer()), out_));
    builder_.Clear();
  }

  ManualClock clock_;
  ManualExecutor executor_{clock_};
  HostCopyEngine copies_{executor_};
  std::shared_ptr<detail::CacheCore> core_;
  Budget all_{kOfAll};
  std::vector<std::byte> ring_;
  wire::OutBuffer out_;
  wire::FrameReader in_{wire::kMaxReplyBytes};
  flatbuffers::FlatBufferBuilder builder_;
  std::uint64_t id_ = 0;
  std::uint64_t chains_ = 0;
  std::unique_ptr<Member> members_[2];
};

TEST_F(OpenBlocks, of_one_member_are_bounded) {
  const std::uint64_t first = reserve(*members_[0], 30, 30);
  ASSERT_NE(first, 0U);
  EXPECT_EQ(reserve(*members_[0], 11, 11), 0U);
  EXPECT_NE(reserve(*members_[0], 10, 10), 0U);
  end(*members_[0], first);
  EXPECT_NE(reserve(*members_[0], 30, 30), 0U);
}

TEST_F(OpenBlocks, of_all_members_are_bounded) {
  const std::uint64_t first = reserve(*members_[0], 40, 40);
  ASSERT_NE(first, 0U);
  EXPECT_EQ(reserve(*members_[1], 21, 21), 0U);
  EXPECT_NE(reserve(*members_[1], 20, 20), 0U);
  end(*members_[0], first);
  EXPECT_NE(reserve(*members_[1], 20, 20), 0U);
}

TEST_F(OpenBlocks, what_is_refused_at_once_is_not_open) {
  (void)reserve(*members_[0], 40, 1);  // its parents are not there
  EXPECT_EQ(all_.used(), 0U);
}

TEST_F(OpenBlocks, a_pin_over_the_limit_is_told_both_numbers) {
  const std::uint64_t room = reserve(*members_[0], 30, 30);
  const auto of = chain(500'000, 11);
  const auto* error = ask(*members_[0], wire::CreatePin(builder_, of, 11, 1'000'000'000)).body_as_Error();
  ASSERT_NE(error, nullptr);
  EXPECT_NE(error->message()->str().find("30 blocks are open on this session; the limits are 1024 and 40"),
            std::string::npos)
      << error->message()->str();
  end(*members_[0], room);
}

TEST_F(OpenBlocks, loads_over_the_limit_are_busy) {
  (void)reserve(*members_[0], 30, 30);
  const auto of = chain(600'000, 11);
  const auto* loaded = ask(*members_[0], wire::CreateLoad(builder_, of, 11, 1'000'000)).body_as_Loaded();
  ASSERT_NE(loaded, nullptr);
  EXPECT_EQ(static_cast<LoadOutcome>(loaded->outcome()), LoadOutcome::kBusy);
}

}  // namespace
}  // namespace tiercel::service
