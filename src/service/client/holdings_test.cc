// Goal: the last handle of a slot gives back every grant on it, once; what the service names beyond the arena is not
// taken.
#include "service/client/holdings.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <vector>

namespace tiercel::service {
namespace {

using Counts = std::map<std::uint32_t, std::uint32_t>;

class HoldingsTest : public testing::Test {
 protected:
  static constexpr std::uint32_t kSlots = 16;
  static constexpr std::uint64_t kArena = 2_MiB;

  HoldingsTest() {
    auto arena = Mapping::share({.bytes = kArena, .huge_pages = HugePages::kOff});
    EXPECT_TRUE(arena);
    holdings_ = std::make_shared<Holdings>(*arena, kSlots, [this] { ++woken_; });
  }
  bool grant(std::uint32_t slot) {
    return holdings_->granted(wire::Place(slot * 4096, 4096, slot), epoch_) == Holdings::Grant::kTaken;
  }
  bool is_outside(const wire::Place& place) { return holdings_->granted(place, epoch_) == Holdings::Grant::kOutside; }
  static Counts counts(const std::vector<wire::Grants>& list) {
    Counts result;
    for (const wire::Grants& one : list) result[one.slot()] += one.count();
    return result;
  }
  Counts returned() { return counts(holdings_->take_returned(epoch_)); }

  /// All that is held; a new epoch begins.
  Counts all() {
    const Holdings::All all = holdings_->all();
    epoch_ = all.epoch;
    return counts(all.grants);
  }

  int woken_ = 0;
  std::uint64_t epoch_ = 0;
  std::shared_ptr<Holdings> holdings_;
};

TEST_F(HoldingsTest, the_last_handle_gives_all_grants_back_at_once) {
  ASSERT_TRUE(grant(3));
  ASSERT_TRUE(grant(3));
  CopyPin first = holdings_->adopt(3);
  {
    const CopyPin second = holdings_->adopt(3);
    const CopyPin third = first.clone();
  }
  EXPECT_EQ(returned(), Counts{});
  EXPECT_FALSE(holdings_->empty());
  first = {};
  EXPECT_EQ(returned(), (Counts{{3, 2}}));
  EXPECT_EQ(returned(), Counts{}) << "once";
  EXPECT_TRUE(holdings_->empty());
}

TEST_F(HoldingsTest, its_owner_is_woken_for_the_first_of_several) {
  for (std::uint32_t slot = 0; slot < 3; ++slot) ASSERT_TRUE(grant(slot));
  for (std::uint32_t slot = 0; slot < 3; ++slot) holdings_->release(slot);
  EXPECT_EQ(woken_, 1);
  EXPECT_EQ(returned(), (Counts{{0, 1}, {1, 1}, {2, 1}}));
  ASSERT_TRUE(grant(0));
  holdings_->release(0);
  EXPECT_EQ(woken_, 2);
}

TEST_F(HoldingsTest, only_a_single_handle_with_a_single_grant_is_handed_back) {
  ASSERT_TRUE(grant(1));
  holdings_->retain(1);
  EXPECT_FALSE(holdings_->hand_back(1, epoch_)) << "a second handle uses it";
  holdings_->release(1);
  EXPECT_TRUE(holdings_->hand_back(1, epoch_));
  EXPECT_FALSE(holdings_->hand_back(1, epoch_)) << "nothing is held";
  EXPECT_FALSE(holdings_->empty()) << "until it is known what came of it";
  holdings_->handed_over();
  EXPECT_TRUE(holdings_->empty());
  EXPECT_EQ(returned(), Counts{}) << "its caller tells the service";
}

TEST_F(HoldingsTest, what_the_service_did_not_take_is_held_again) {
  ASSERT_TRUE(grant(1));
  ASSERT_TRUE(holdings_->hand_back(1, epoch_));
  EXPECT_TRUE(holdings_->take_again(1, epoch_));
  EXPECT_EQ(all(), (Counts{{1, 1}}));
  holdings_->release(1);
  EXPECT_EQ(returned(), (Counts{{1, 1}}));
}

TEST_F(HoldingsTest, all_says_what_is_held_and_nothing_of_what_was_let_go) {
  for (std::uint32_t slot = 0; slot < 3; ++slot) ASSERT_TRUE(grant(slot));
  ASSERT_TRUE(grant(2));
  holdings_->release(0);
  EXPECT_EQ(all(), (Counts{{1, 1}, {2, 2}}));
  EXPECT_EQ(returned(), Counts{}) << "the list said so already";
}

TEST_F(HoldingsTest, what_was_granted_before_the_connection_was_taken_up_anew_is_not_ours_any_more) {
  ASSERT_TRUE(grant(1));
  ASSERT_TRUE(grant(2));
  ASSERT_TRUE(holdings_->hand_back(1, epoch_));
  const std::uint64_t before = epoch_;
  EXPECT_EQ(all(), (Counts{{2, 1}}));
  EXPECT_FALSE(holdings_->take_again(1, before)) << "the service was not told of it, and has ended it";
  EXPECT_EQ(holdings_->granted(wire::Place(4096, 4096, 1), before), Holdings::Grant::kStale);
  holdings_->release(2);
  EXPECT_TRUE(holdings_->take_returned(before).empty()) << "a link that is over must not take it along";
  EXPECT_EQ(returned(), (Counts{{2, 1}}));
  EXPECT_TRUE(holdings_->empty());
}

TEST_F(HoldingsTest, places_beyond_the_arena_or_its_slots_are_not_taken) {
  EXPECT_TRUE(is_outside(wire::Place(0, 0, 1)));
  EXPECT_TRUE(is_outside(wire::Place(kArena, 1, 1)));
  EXPECT_TRUE(is_outside(wire::Place(kArena - 1, 2, 1)));
  EXPECT_TRUE(is_outside(wire::Place(UINT64_MAX, 0xFFFFFFFF, 1)));
  EXPECT_TRUE(is_outside(wire::Place(0, 1, kSlots)));
  EXPECT_FALSE(is_outside(wire::Place(kArena - 1, 1, kSlots - 1)));
  EXPECT_EQ(all(), (Counts{{kSlots - 1, 1}}));
}

}  // namespace
}  // namespace tiercel::service
