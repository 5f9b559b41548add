// Goal: a grant is a copy pin of its own, ends once, and no table gives back more than it holds.
#include "service/server/grants.h"

#include "cache/local_reservation.h"
#include "cache/local_session.h"
#include "transfer/host_copy_engine.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>

namespace tiercel::service {
namespace {

class Grants : public testing::Test {
 protected:
  static constexpr std::uint64_t kBlockBytes = 64_KiB;

  Grants() {
    const Config config{
        .host = {.capacity = 4_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = kBlockBytes}};
    core_ = *detail::CacheCore::create(config, {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7});
    session_ = *core_->open_session({.model = {.name = "m"}, .block_tokens = 1, .layout = Layout::blob(kBlockBytes)});
    const std::vector<TokenId> tokens(2, 1);
    chain_ = hash_blocks(session_->space({}), tokens);
    room_ =
        std::static_pointer_cast<detail::LocalReservation>(session_->reserve({chain_.space(), chain_.hashes()}, 0, 2));
    pins_before_ = core_->stats().copy_pins;
  }
  ~Grants() override {
    room_->finish();
    room_.reset();
    session_->close();
    executor_.run_all();
    core_->check_consistency();
    (void)core_->close(std::chrono::nanoseconds(0));
  }
  SlotId slot(std::size_t i) { return room_->slot(i); }
  std::uint64_t pins() { return core_->stats().copy_pins - pins_before_; }

  ManualClock clock_;
  ManualExecutor executor_{clock_};
  HostCopyEngine copies_{executor_};
  std::shared_ptr<detail::CacheCore> core_;
  std::shared_ptr<detail::LocalSession> session_;
  BlockChain chain_;
  std::shared_ptr<detail::LocalReservation> room_;
  std::uint64_t pins_before_ = 0;
};

TEST_F(Grants, each_grant_is_a_pin_until_it_is_given_back) {
  GrantTable table(core_);
  ASSERT_TRUE(table.add(slot(0)));
  ASSERT_TRUE(table.add(slot(0)));
  ASSERT_TRUE(table.add(slot(1)));
  EXPECT_EQ(pins(), 3U);
  EXPECT_EQ(table.slots(), 2U);
  EXPECT_TRUE(table.release(slot(0), 1));
  EXPECT_TRUE(table.release(slot(1), 1));
  EXPECT_EQ(pins(), 1U);
  EXPECT_TRUE(table.release(slot(0), 1));
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(pins(), 0U);
}

TEST_F(Grants, more_than_was_given_cannot_be_given_back) {
  GrantTable table(core_);
  ASSERT_TRUE(table.add(slot(0)));
  EXPECT_FALSE(table.release(slot(0), 2));
  EXPECT_FALSE(table.release(slot(0), 0));
  EXPECT_FALSE(table.release(slot(1), 1));
  EXPECT_FALSE(table.release(0xFFFFFFFF, 1));
  EXPECT_EQ(pins(), 1U);
}

TEST_F(Grants, what_is_left_ends_when_it_is_cleared_and_not_by_accident) {
  {
    GrantTable table(core_);
    ASSERT_TRUE(table.add(slot(0)));
    table.clear();
    EXPECT_EQ(pins(), 0U);
    ASSERT_TRUE(table.add(slot(1)));
  }
  EXPECT_EQ(pins(), 1U) << "a slot that is lost is better than one that is used twice";
}

TEST_F(Grants, of_one_slot_there_is_an_end) {
  GrantTable table(core_);
  std::uint32_t added = 0;
  while (table.add(slot(0))) ++added;
  EXPECT_EQ(added, 1U << 16U);
  EXPECT_EQ(pins(), added);
  table.clear();
  EXPECT_EQ(pins(), 0U);
}

TEST_F(Grants, a_table_that_was_moved_or_merged_holds_nothing) {
  GrantTable first(core_);
  ASSERT_TRUE(first.add(slot(0)));
  GrantTable moved(std::move(first));
  EXPECT_TRUE(first.empty());  // NOLINT(bugprone-use-after-move,clang-analyzer-cplusplus.Move): that is the question
  GrantTable second(core_);
  ASSERT_TRUE(second.add(slot(0)));
  second.merge(std::move(moved));
  EXPECT_EQ(pins(), 2U);
  EXPECT_TRUE(second.release(slot(0), 2));
  EXPECT_EQ(pins(), 0U);
}

TEST_F(Grants, a_client_that_comes_back_keeps_what_it_says_and_no_more) {
  GrantTable table(core_);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(table.add(slot(0)));
  ASSERT_TRUE(table.add(slot(1)));
  table.shrink_to(slot(0), 2);
  table.shrink_to(slot(0), 5);
  table.shrink_to(slot(1), 0);
  std::map<SlotId, std::uint32_t> held;
  table.visit([&](SlotId at, std::uint32_t count) { held[at] = count; });
  EXPECT_EQ(held, (std::map<SlotId, std::uint32_t>{{slot(0), 2}}));
  EXPECT_EQ(pins(), 2U);
}

TEST_F(Grants, an_aborted_slot_waits_in_quarantine_for_its_grant) {
  GrantTable table(core_);
  ASSERT_TRUE(table.add(slot(1)));
  room_->abort(1);
  const auto quarantined = [&] {
    return core_->stats().tiers[static_cast<std::size_t>(TierId::kHost)].quarantined_slots;
  };
  EXPECT_EQ(quarantined(), 1U);
  table.clear();
  EXPECT_EQ(quarantined(), 0U);
}

}  // namespace
}  // namespace tiercel::service
