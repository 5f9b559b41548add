// Goal: a core whose arena's memory comes later serves without room, hands out nothing that others may still write, and
// everything else once it is offered. Every task is run by hand.
#include "cache/core.h"
#include "cache/local_session.h"
#include "transfer/host_copy_engine.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kBlockBytes = 64_KiB;
constexpr std::size_t kSlots = 4_MiB / kBlockBytes;

SessionOptions options(std::uint64_t block_bytes) {
  return {.model = {.name = "test", .kv_dtype = "f16"}, .block_tokens = 1, .layout = Layout::blob(block_bytes)};
}

class LaterArena : public testing::TestWithParam<bool> {
 protected:
  LaterArena() {
    Config config{.host = {.capacity = 4_MiB,
                           .arena = ArenaKind::kMemfd,
                           .prefault = GetParam(),
                           .extent_bytes = 2_MiB,
                           .min_slot_bytes = kBlockBytes}};
    core_ = *detail::CacheCore::create(
        config, {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7, .arena_later = true});
    cache_.emplace(core_, nullptr);
    session_.emplace(*cache_->open_session(options(kBlockBytes)));
    other_ = *Mapping::share({.bytes = 4_MiB, .kind = ArenaKind::kMemfd});
  }
  void TearDown() override {
    session_.reset();
    (void)cache_->close(0ns);
    executor_.run_all();
  }
  BlockChain chain(std::size_t blocks, TokenId seed) {
    return hash_blocks(session_->space(), std::vector<TokenId>(blocks, seed));
  }
  /// How many of so many blocks get a writer, each of which writes all of its block.
  std::size_t fill(std::size_t blocks, TokenId seed) {
    rooms_.push_back(session_->reserve(chain(blocks, seed), 0));
    std::size_t got = 0;
    for (std::size_t i = 0; i < rooms_.back().size(); ++i) {
      if (rooms_.back().outcome(i) != Reserved::kYes) continue;
      std::ranges::fill(rooms_.back().writer(i).bytes(), std::byte{1});
      ++got;
    }
    executor_.run_all();
    core_->check_consistency();
    return got;
  }
  /// Does the arena that others hold show a write at this slot?
  bool written(std::size_t slot) { return other_->data()[slot * kBlockBytes] != std::byte{0}; }

  ManualClock clock_;
  ManualExecutor executor_{clock_};
  HostCopyEngine copies_{executor_};
  std::shared_ptr<detail::CacheCore> core_;
  std::optional<Cache> cache_;
  std::optional<Session> session_;
  std::shared_ptr<const Mapping> other_;
  std::vector<Reservation> rooms_;
};

TEST_P(LaterArena, serves_without_room_until_it_is_offered) {
  EXPECT_EQ(fill(2, 1), 0U);
  EXPECT_EQ(rooms_.back().outcome(0), Reserved::kBusy);
  EXPECT_EQ(session_->match(chain(2, 1)).blocks(), 0U);
  ASSERT_TRUE(core_->fill_arena(-1));
  EXPECT_EQ(fill(2, 2), 0U) << "it has memory, and nobody has offered it";
  core_->offer_arena();
  EXPECT_EQ(fill(kSlots + 1, 3), kSlots);
}

TEST_P(LaterArena, takes_the_memory_of_others_and_leaves_alone_what_they_claim) {
  ASSERT_TRUE(core_->fill_arena(::dup(other_->fd())));
  ASSERT_TRUE(core_->claim({.slot = 3, .slot_bytes = kBlockBytes, .pins = 2}));
  ASSERT_TRUE(core_->claim({.slot = 40, .slot_bytes = kBlockBytes, .pins = 1}));
  ASSERT_TRUE(core_->claim({.slot = 40, .slot_bytes = kBlockBytes, .pins = 1})) << "two may hold the same";
  EXPECT_EQ(fill(2, 1), 0U);
  EXPECT_EQ(cache_->stats().copy_pins, 4U);
  core_->release(3);
  core_->offer_arena();
  EXPECT_EQ(fill(kSlots, 2), kSlots - 2);
  EXPECT_FALSE(written(3));
  EXPECT_FALSE(written(40));
  EXPECT_TRUE(written(4)) << "the bytes are those that the others see";
  core_->release(3);
  core_->release(40);
  EXPECT_EQ(fill(2, 3), 1U) << "slot 40 has another pin";
  EXPECT_TRUE(written(3));
  core_->release(40);
  EXPECT_EQ(fill(2, 4), 1U);
  EXPECT_TRUE(written(40));
}

TEST_P(LaterArena, a_claim_of_another_slot_size_keeps_what_it_names_out_of_use) {
  ASSERT_TRUE(core_->fill_arena(::dup(other_->fd())));
  ASSERT_TRUE(core_->claim({.slot = 1, .slot_bytes = 512_KiB, .pins = 1}));  // [512 KiB, 1 MiB) of the first extent
  core_->offer_arena();
  EXPECT_EQ(fill(kSlots, 1), kSlots / 2) << "its extent stays cut for the other size";
  core_->release(1);
  EXPECT_EQ(fill(kSlots, 2), kSlots / 2) << "and is free when that has ended";
}

TEST_P(LaterArena, refuses_claims_that_cannot_be) {
  ASSERT_TRUE(core_->fill_arena(-1));
  using Claim = detail::CacheCore::SlotClaim;
  const Claim bad[] = {
      {.slot = 64, .slot_bytes = kBlockBytes, .pins = 1},    {.slot = 0, .slot_bytes = kBlockBytes, .pins = 0},
      {.slot = 0, .slot_bytes = kBlockBytes / 2, .pins = 1}, {.slot = 0, .slot_bytes = kBlockBytes + 1, .pins = 1},
      {.slot = 0, .slot_bytes = 1_MiB, .pins = 1},           {.slot = 31, .slot_bytes = 2 * kBlockBytes, .pins = 1}};
  for (const Claim& claim : bad) EXPECT_EQ(core_->claim(claim).error().code, ErrorCode::kInvalidArgument);
  core_->check_consistency();
  core_->offer_arena();
  EXPECT_FALSE(core_->claim({.slot = 0, .slot_bytes = kBlockBytes, .pins = 1})) << "it has been handed out";
  EXPECT_EQ(fill(kSlots, 1), kSlots);
}

TEST_P(LaterArena, a_memfd_that_is_not_this_arena_s_leaves_it_as_it_was) {
  const auto small = *Mapping::share({.bytes = 2_MiB, .kind = ArenaKind::kMemfd});
  EXPECT_EQ(core_->fill_arena(::dup(small->fd())).error().code, ErrorCode::kInvalidArgument);
  ASSERT_TRUE(core_->fill_arena(::dup(other_->fd())));
}

INSTANTIATE_TEST_SUITE_P(All, LaterArena, testing::Bool(),
                         [](const auto& with) { return with.param ? "prefault" : "untouched"; });

}  // namespace
}  // namespace tiercel
