// Goal: the host store's bookkeeping at the limits of its counters and across slices.
#include "cache/host_store.h"
#include "base/random.h"
#include "model/testing/numbered_hash.h"
#include "policy/lru.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

namespace tiercel {
namespace {

constexpr std::uint64_t kSlot = 4096;

BlockHash name(std::uint64_t n) { return testing_support::numbered_hash(n); }

/// As the core reserves: slice after slice.
Reserved fill_block(HostStore& store, const HostStore::FillRequest& request, Fill& fill) {
  HostStore::RoomSearch room = HostStore::room_search(1);
  std::optional<Reserved> outcome;
  while (!outcome) {
    store.begin_slice(room);
    outcome = store.begin_fill(request, fill, room);
  }
  return *outcome;
}

class CountingLru final : public EvictionPolicy {
 public:
  explicit CountingLru(std::uint64_t capacity) : lru_(capacity) {}
  void add_list(PolicyList list) override { lru_.add_list(list); }
  void insert(PolicyBlock block, PolicyList list, std::uint64_t now_ns) override { lru_.insert(block, list, now_ns); }
  void touch(std::span<const PolicyBlock> blocks, std::uint64_t now_ns) override { lru_.touch(blocks, now_ns); }
  void erase(PolicyBlock block) override { lru_.erase(block); }
  [[nodiscard]] std::optional<PolicyBlock> victim(PolicyList list, FunctionRef<bool(PolicyBlock)> may) override {
    return lru_.victim(list, [&](PolicyBlock block) {
      ++questions;
      return may(block);
    });
  }
  [[nodiscard]] std::uint64_t asks_for_all(PolicyList list) const override { return lru_.asks_for_all(list); }
  [[nodiscard]] double value(PolicyBlock block, std::uint64_t now_ns) const override {
    ++values;
    return lru_.value(block, now_ns);
  }
  [[nodiscard]] std::optional<PolicyBlock> coldest(PolicyList list) const override { return lru_.coldest(list); }
  [[nodiscard]] bool knows(PolicyBlock block) const override { return lru_.knows(block); }
  [[nodiscard]] std::uint64_t bytes_per_block() const override { return lru_.bytes_per_block(); }

  mutable std::uint64_t values = 0;
  std::uint64_t questions = 0;

 private:
  LruPolicy lru_;
};

/// A full store of one slot size, some of whose blocks are pinned, and what the core does with it.
class FullStore {
 public:
  explicit FullStore(std::uint32_t extents) : blocks_(extents * 64), store_(parts(extents)) {
    store_.add_slot_size(kSlot);
    root_ = store_.root_of(name(UINT64_MAX));
  }
  [[nodiscard]] std::uint64_t blocks() const { return blocks_; }
  [[nodiscard]] HostStore& store() { return store_; }
  /// Stores block `n` below block `n - 1`, or below the root.
  void put(std::uint64_t n, bool below) {
    Fill fill;
    ASSERT_EQ(fill_block(store_, request(n, below ? store_.table().find(name(n - 1), 0) : root_), fill),
              Reserved::kYes);
    ASSERT_TRUE(store_.commit(fill, 1, false, 1));
  }
  void pin(std::uint64_t n) {
    BlockName pinned;
    ASSERT_EQ(store_.pin(name(n), 0, pinned), HostStore::PinOutcome::kPinned);
  }
  [[nodiscard]] bool may_go(std::uint64_t n) const {
    const BlockId id = store_.table().find(name(n), 0);
    return id != kNoBlock && store_.table()[id].logical_pins == 0 && store_.table().children_in(id, TierId::kHost) == 0;
  }
  struct Reserve {
    Reserved outcome;
    std::uint64_t questions = 0;
    std::uint64_t most_in_a_slice = 0;
  };
  Reserve reserve(std::uint64_t n) {
    HostStore::RoomSearch room = HostStore::room_search(1);
    Reserve result{};
    Fill fill;
    std::optional<Reserved> outcome;
    while (!outcome) {
      const std::uint64_t before = policy_->questions;
      store_.begin_slice(room);
      outcome = store_.begin_fill(request(n, root_), fill, room);
      result.most_in_a_slice = std::max(result.most_in_a_slice, policy_->questions - before);
      result.questions += policy_->questions - before;
    }
    result.outcome = *outcome;
    if (*outcome == Reserved::kYes) store_.abort(fill);
    return result;
  }

 private:
  HostStore::Parts parts(std::uint32_t extents) {
    auto policy = std::make_unique<CountingLru>(blocks_ + 8);
    policy_ = policy.get();
    return {.table = *BlockTable::create({.capacity = blocks_ + 8, .seed = 1, .huge_pages = HugePages::kOff}),
            .slots = {.extents = extents, .extent_bytes = 64 * kSlot, .min_slot_bytes = kSlot},
            .policy = std::move(policy),
            .max_namespaces = 1,
            .max_pinned_bytes = UINT64_MAX};
  }
  static HostStore::FillRequest request(std::uint64_t n, BlockId parent) {
    static BlockHash hash;
    hash = name(n);
    return {.hash = hash, .group = 0, .parent = parent, .slot_bytes = kSlot, .now_ns = 1};
  }

  std::uint64_t blocks_;
  CountingLru* policy_ = nullptr;
  HostStore store_;
  BlockId root_ = kNoBlock;
};

RC_GTEST_PROP(StoreProperty, a_full_store_has_room_exactly_if_a_block_may_go, ()) {
  constexpr std::uint64_t kAdded = 2'000'000;
  FullStore full(*rc::gen::inRange<std::uint32_t>(1, 60));
  Random random(*rc::gen::arbitrary<std::uint64_t>());
  const std::uint64_t chain = 1 + random.below(40);  // blocks of a sequence
  const std::uint64_t unpinned = random.below(3) * random.below(full.blocks()) / 2;
  for (std::uint64_t n = 0; n < full.blocks(); ++n) full.put(n, n % chain != 0);
  const std::uint64_t first = random.below(full.blocks());
  for (std::uint64_t n = 0; n < full.blocks(); ++n) {
    if ((n + full.blocks() - first) % full.blocks() >= unpinned) full.pin(n);
  }
  for (std::uint64_t reserve = 0; reserve < 20; ++reserve) {
    bool any = false;
    for (std::uint64_t n = 0; n < full.blocks() && !any; ++n) any = full.may_go(n);
    for (std::uint64_t n = 0; n < reserve && !any; ++n) any = full.may_go(kAdded + n);
    const bool room = full.store().slots().used_bytes() < full.blocks() * kSlot;
    const auto result = full.reserve(1'000'000 + reserve);
    RC_ASSERT(result.outcome == (any || room ? Reserved::kYes : Reserved::kBusy));
    RC_ASSERT(result.most_in_a_slice <= 64U + EvictionPolicy::kSearch);
    if (!room) continue;
    full.put(kAdded + reserve, false);
    if (random.below(2) == 0) full.pin(kAdded + reserve);
  }
  full.store().check_consistency();
}

TEST(FullStoreSearch, one_reserve_is_bounded_and_the_next_goes_on_behind_it) {
  FullStore full(200);
  for (std::uint64_t n = 0; n < full.blocks(); ++n) full.put(n, false);
  for (std::uint64_t n = 0; n + 1 < full.blocks(); ++n) full.pin(n);  // the hottest alone may go
  int calls = 0;
  Reserved outcome = Reserved::kBusy;
  while (outcome == Reserved::kBusy && calls < 10) {
    const auto result = full.reserve(1'000'000);
    EXPECT_LE(result.questions, 8'192U + 64 + EvictionPolicy::kSearch);
    outcome = result.outcome;
    ++calls;
  }
  EXPECT_EQ(outcome, Reserved::kYes);
  EXPECT_EQ(calls, 2) << "12,799 blocks in the way";
}

class Store : public testing::Test {
 protected:
  static HostStore::Parts parts(std::uint32_t namespaces) {
    return {.table = *BlockTable::create({.capacity = 256, .seed = 1, .huge_pages = HugePages::kOff}),
            .slots = {.extents = 2, .extent_bytes = 64 * kSlot, .min_slot_bytes = kSlot},
            .policy = std::make_unique<LruPolicy>(256),
            .max_namespaces = namespaces,
            .max_pinned_bytes = UINT64_MAX};
  }
  Reserved begin(std::uint64_t n, BlockId parent, Fill& fill) {
    return fill_block(store_, {.hash = name(n), .group = 0, .parent = parent, .slot_bytes = kSlot, .now_ns = 1}, fill);
  }
  BlockId put(std::uint64_t n, BlockId parent) {
    Fill fill;
    EXPECT_EQ(begin(n, parent, fill), Reserved::kYes);
    EXPECT_TRUE(store_.commit(fill, 1, false, 1));
    return fill.id;
  }
  Store() { store_.add_slot_size(kSlot); }
  HostStore store_{parts(1)};
};

TEST_F(Store, a_delete_in_slices_spares_the_namespace_that_took_its_roots_place) {
  const BlockId root = store_.root_of(name(1'000));
  put(1, root);
  put(2, root);
  HostStore::DropWork work;
  work.pending.reserve(256);
  store_.begin_drop(root, work);
  ASSERT_FALSE(store_.drop_some(work, 1));  // one child is listed
  HostStore::DropWork other;                // meanwhile another delete takes them all
  other.pending.reserve(256);
  store_.begin_drop(root, other);
  while (!store_.drop_some(other, 32)) {
  }
  const BlockId next = store_.root_of(name(2'000));  // the limit of namespaces makes the empty root go
  ASSERT_EQ(next, root) << "the entry is used again";
  put(3, next);
  while (!store_.drop_some(work, 32)) {
  }
  EXPECT_NE(store_.table().find(name(3), 0), kNoBlock) << "a block of another namespace";
  store_.check_consistency();
}

TEST_F(Store, a_parent_with_all_the_pins_that_fit_still_gets_children_and_no_pin_leaks) {
  const BlockId root = store_.root_of(name(1'000));
  const BlockId parent = put(1, root);
  const BlockId middle = put(2, parent);
  put(3, middle);
  store_.drop_corrupt({.id = middle, .generation = store_.table()[middle].generation});  // a stub now
  BlockName pin;
  for (int i = 0; i < UINT16_MAX; ++i) ASSERT_EQ(store_.pin(name(1), 0, pin), HostStore::PinOutcome::kPinned);
  EXPECT_EQ(store_.pin(name(1), 0, pin), HostStore::PinOutcome::kLimit);
  Fill fill;
  EXPECT_EQ(begin(2, parent, fill), Reserved::kYes);
  EXPECT_EQ(store_.table()[middle].logical_pins, 0U);
  EXPECT_EQ(store_.table()[parent].logical_pins, UINT16_MAX);
  EXPECT_EQ(store_.table().pinned_blocks(), 1U);
  store_.check_consistency();
}

TEST_F(Store, the_search_for_an_extent_goes_in_slices) {
  constexpr std::uint32_t kExtents = 64;
  HostStore::Parts big = parts(1);
  big.table = *BlockTable::create({.capacity = kExtents * 64 + 8, .seed = 1, .huge_pages = HugePages::kOff});
  big.slots = {.extents = kExtents, .extent_bytes = 64 * kSlot, .min_slot_bytes = kSlot};
  auto policy = std::make_unique<CountingLru>(kExtents * 64 + 8);
  const CountingLru& asked = *policy;
  big.policy = std::move(policy);
  HostStore store(std::move(big));
  store.add_slot_size(kSlot);
  store.add_slot_size(16 * kSlot);
  const BlockId root = store.root_of(name(1'000'000));
  Fill fill;
  const auto begin = [&](std::uint64_t n, std::uint64_t bytes) {
    return fill_block(store, {.hash = name(n), .group = 0, .parent = root, .slot_bytes = bytes, .now_ns = 1}, fill);
  };
  for (std::uint64_t n = 0; n < kExtents * 64; ++n) {
    ASSERT_EQ(begin(n, kSlot), Reserved::kYes);
    ASSERT_TRUE(store.commit(fill, 1, false, 1));
  }
  ASSERT_EQ(begin(1'000'001, 16 * kSlot), Reserved::kBusy);
  std::vector<SlotMove> moves;
  std::uint64_t most = 0;
  std::uint64_t whole = 0;
  while (store.handover_wanted() && !store.handover_running()) {
    const std::uint64_t before = asked.values;
    ASSERT_EQ(store.step_handover(1, UINT64_MAX, moves), HostStore::HandoverStep::kMoves);
    most = std::max(most, asked.values - before);
    whole += asked.values - before;
  }
  EXPECT_EQ(whole, kExtents * 32U + HostStore::kMovesPerStep) << "and whose goes, for each move";
  EXPECT_LE(most, 256U);
}

TEST_F(Store, any_empty_namespace_makes_room_for_a_new_one) {
  HostStore::Parts many = parts(1'000);
  many.table = *BlockTable::create({.capacity = 2'100, .seed = 1, .huge_pages = HugePages::kOff});
  many.slots = {.extents = 20, .extent_bytes = 64 * kSlot, .min_slot_bytes = kSlot};
  many.policy = std::make_unique<LruPolicy>(2'100);
  HostStore store(std::move(many));
  store.add_slot_size(kSlot);
  for (std::uint64_t n = 0; n < 1'000; ++n) {
    const BlockId root = store.root_of(name(10'000 + n));
    ASSERT_NE(root, kNoBlock);
    if (n == 777) continue;
    Fill fill;
    ASSERT_EQ(fill_block(store, {.hash = name(n), .group = 0, .parent = root, .slot_bytes = kSlot, .now_ns = 1}, fill),
              Reserved::kYes);
    ASSERT_TRUE(store.commit(fill, 1, false, 1));
  }
  // A call looks at some of them only; the next goes on where it ended.
  BlockId found = kNoBlock;
  for (int call = 0; call < 8 && found == kNoBlock; ++call) found = store.root_of(name(20'000));
  EXPECT_NE(found, kNoBlock);
  EXPECT_EQ(store.find_root(name(10'777)), kNoBlock);
  Fill fill;
  ASSERT_EQ(
      fill_block(store, {.hash = name(5'000), .group = 0, .parent = found, .slot_bytes = kSlot, .now_ns = 1}, fill),
      Reserved::kYes);
  for (int call = 0; call < 8; ++call) EXPECT_EQ(store.root_of(name(20'001)), kNoBlock) << "20000 stays: it is in use";
}

}  // namespace
}  // namespace tiercel
