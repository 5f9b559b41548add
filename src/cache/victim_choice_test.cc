// Goal: whose block goes for whose: never from a tenant that would fall below its guarantee, the own one first unless
// another's is much colder, and others first for one that is within its guarantee.
#include "cache/victim_choice.h"

#include "cache/tenant_lists.h"
#include "policy/lru.h"

#include <gtest/gtest.h>

#include <set>

namespace tiercel {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kNow = 1000 * kSecond;

class Choice : public ::testing::Test {
 protected:
  Choice() { size_ = lists_.add(4096); }
  /// One block of a tenant, last used so many seconds ago.
  void block(TenantNumber tenant, std::uint64_t age) {
    lru_.insert(next_++, lists_.make(size_, tenant, lru_), kNow - age * kSecond);
  }
  std::optional<TenantNumber> victim(TenantNumber tenant, bool within_guarantee = false) {
    const auto found = choose_victim({.policy = lru_,
                                      .lists = lists_.lists(size_),
                                      .tenant = tenant,
                                      .within_guarantee = within_guarantee,
                                      .tenants = kTenants,
                                      .may_lose = [&](TenantNumber one) { return !guarded_.contains(one); },
                                      .exhausted = exhausted_,
                                      .now_ns = kNow},
                                     turn_);
    return found ? std::optional(found->tenant) : std::nullopt;
  }

  static constexpr std::uint32_t kTenants = 300;
  std::set<TenantNumber> guarded_;
  TenantSet exhausted_;

 private:
  LruPolicy lru_{1000};
  TenantLists lists_{kTenants};
  std::size_t size_ = 0;
  PolicyBlock next_ = 0;
  std::uint32_t turn_ = 0;
};

TEST_F(Choice, nobody_has_anything) { EXPECT_EQ(victim(2), std::nullopt); }

TEST_F(Choice, its_own_first_unless_another_has_waited_more_than_twice_as_long) {
  block(2, 99);
  block(3, 190);
  EXPECT_EQ(victim(2), 2);
  block(4, 210);
  EXPECT_EQ(victim(2), 4);
  EXPECT_EQ(victim(4), 4);
}

TEST_F(Choice, one_without_blocks_takes_the_coldest_of_all) {
  block(2, 10);
  block(3, 30);
  block(4, 20);
  EXPECT_EQ(victim(5), 3);
}

TEST_F(Choice, what_is_guaranteed_stays) {
  block(2, 10);
  block(3, 900);
  guarded_ = {3};
  EXPECT_EQ(victim(2), 2);
  EXPECT_EQ(victim(4), 2);
  EXPECT_EQ(victim(3), 3) << "its own may go for itself";
  guarded_ = {2, 3};
  EXPECT_EQ(victim(4), std::nullopt);
}

TEST_F(Choice, within_its_guarantee_it_takes_from_the_others) {
  block(2, 900);
  block(3, 1);
  EXPECT_EQ(victim(2, true), 3);
  guarded_ = {3};
  EXPECT_EQ(victim(2, true), 2) << "before there is no room at all";
}

TEST_F(Choice, who_has_nothing_that_may_go_is_passed_over) {
  block(2, 10);
  block(3, 900);
  exhausted_.set(3);
  EXPECT_EQ(victim(2), 2);
  exhausted_.set(2);
  EXPECT_EQ(victim(2), std::nullopt);
}

TEST_F(Choice, among_very_many_the_coldest_is_found_within_a_few_turns) {
  for (TenantNumber tenant = 10; tenant < 290; ++tenant) block(tenant, tenant == 280 ? 500 : 5);
  block(7, 1);
  bool found = false;
  for (int turn = 0; turn < 6 && !found; ++turn) found = victim(7) == 280;
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace tiercel
