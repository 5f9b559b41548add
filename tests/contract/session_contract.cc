// Goal: what session.h promises, one promise a test, on every implementation.
#include "tests/contract/session_contract.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace tiercel::contract {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kBlockTokens = 4;
constexpr std::uint64_t kBlockBytes = 64_KiB;

Config small_config() {
  return {.host = {.capacity = 4_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = 64_KiB},
          .workers = {.threads = 2}};
}

SessionOptions options(std::uint64_t block_bytes = kBlockBytes) {
  return {
      .model = {.name = "test", .kv_dtype = "f16"}, .block_tokens = kBlockTokens, .layout = Layout::blob(block_bytes)};
}

std::vector<TokenId> tokens(std::size_t blocks, TokenId seed = 0) {
  std::vector<TokenId> result;
  for (std::size_t i = 0; i < blocks * kBlockTokens; ++i) result.push_back(seed * 100'000 + static_cast<TokenId>(i));
  return result;
}

std::byte pattern(std::size_t block, TokenId seed) {
  return static_cast<std::byte>(block * 7 + static_cast<std::size_t>(seed) * 31 + 1);
}

class Contract : public testing::TestWithParam<WorldKind> {
 protected:
  void SetUp() override { start(small_config()); }
  void start(const Config& config) {
    world_ = GetParam().make(config);
    session_.emplace(open());
  }
  Session open(std::uint64_t block_bytes = kBlockBytes) {
    auto session = world_->open(options(block_bytes));
    EXPECT_TRUE(session) << session.error().message;
    return std::move(*session);
  }
  BlockChain chain(std::size_t blocks, TokenId seed = 0, std::string_view tenant = {}) {
    return hash_blocks(session_->space(tenant), tokens(blocks, seed));
  }
  /// Stores blocks [first, chain.size()); answers how many were committed.
  std::size_t store(const BlockChain& chain, TokenId seed = 0, std::size_t first = 0) {
    Reservation room = session_->reserve(chain, first);
    std::size_t committed = 0;
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) != Reserved::kYes) continue;
      std::ranges::fill(room.writer(i).bytes(), pattern(first + i, seed));
      const Status status = room.writer(i).commit();
      EXPECT_TRUE(status) << status.error().message;
      committed += status.has_value();
    }
    room = {};
    world_->settle();
    return committed;
  }
  /// Loads and compares; answers how many leading blocks there were.
  std::size_t load(const BlockChain& chain, TokenId seed = 0) {
    Load load = session_->load(chain, chain.size(), 10s);
    const auto blocks = load.wait();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_TRUE(std::ranges::all_of(blocks[i].bytes(), [&](std::byte b) { return b == pattern(i, seed); })) << i;
    }
    return blocks.size();
  }
  TierStats host() { return world_->stats().tiers[0]; }
  void expect_nothing_held() {
    const Stats stats = world_->stats();
    EXPECT_EQ(stats.copy_pins, 0U);
    EXPECT_EQ(stats.logical_pins, 0U);
    EXPECT_EQ(stats.tiers[0].quarantined_slots, 0U);
  }

  std::unique_ptr<World> world_;
  std::optional<Session> session_;
};

TEST_P(Contract, what_was_stored_is_loaded_byte_for_byte) {
  const BlockChain c = chain(5);
  EXPECT_EQ(session_->match(c).blocks(), 0U);
  EXPECT_EQ(load(c), 0U);
  EXPECT_EQ(store(c), 5U);
  const Match match = session_->match(c);
  EXPECT_EQ(match.blocks(), 5U);
  EXPECT_EQ(match.blocks_in(TierId::kHost), 5U);
  EXPECT_EQ(match.blocks_in(TierId::kDisk), 0U);
  EXPECT_EQ(load(c), 5U);
  EXPECT_TRUE(session_->match(c).predicted_load_time());
  expect_nothing_held();
}

TEST_P(Contract, a_load_says_why_it_ends) {
  const BlockChain c = chain(4);
  store(chain(2));
  Load part = session_->load(c, 4, 1s);
  EXPECT_EQ(part.wait().size(), 2U);
  EXPECT_TRUE(part.done());
  EXPECT_EQ(part.outcome(), LoadOutcome::kMiss);
  Load whole = session_->load(c, 2, 1s);
  EXPECT_EQ(whole.wait().size(), 2U);
  EXPECT_EQ(whole.outcome(), LoadOutcome::kComplete);
  EXPECT_EQ(whole.wait().size(), 2U) << "a second call returns the same";
  Load none = session_->load(c, 0, 0s);
  EXPECT_TRUE(none.wait().empty());
  EXPECT_EQ(none.outcome(), LoadOutcome::kComplete);
}

TEST_P(Contract, an_opaque_block_may_be_shorter_than_its_slot) {
  const BlockChain c = chain(1);
  {
    Reservation room = session_->reserve(c, 0);
    ASSERT_EQ(room.outcome(0), Reserved::kYes);
    EXPECT_EQ(room.writer(0).bytes().size(), kBlockBytes);
    room.writer(0).bytes()[0] = std::byte{9};
    EXPECT_FALSE(room.writer(0).commit(0));
    EXPECT_FALSE(room.writer(0).commit(kBlockBytes + 1));
    EXPECT_TRUE(room.writer(0).commit(1));
    EXPECT_TRUE(room.writer(0).bytes().empty());
    const Status again = room.writer(0).commit(1);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, ErrorCode::kInvalidArgument);
  }
  world_->settle();
  Load load = session_->load(c, 1, 1s);
  ASSERT_EQ(load.wait().size(), 1U);
  EXPECT_EQ(load.wait()[0].bytes().size(), 1U);
  EXPECT_EQ(load.wait()[0].bytes()[0], std::byte{9});
}

TEST_P(Contract, a_writer_dropped_without_commit_leaves_nothing) {
  const BlockChain c = chain(3);
  {
    Reservation room = session_->reserve(c, 0);
    ASSERT_EQ(room.outcome(2), Reserved::kYes);
    EXPECT_TRUE(room.writer(0).commit());
    room.writer(1).abort();
    EXPECT_EQ(room.writer(2).commit().error().code, ErrorCode::kNoParent) << "its parent was given up";
  }
  world_->settle();
  EXPECT_EQ(session_->match(c).blocks(), 1U);
  EXPECT_EQ(host().used_bytes, kBlockBytes);
  expect_nothing_held();
  EXPECT_EQ(store(c), 2U) << "and the blocks can be stored again";
  EXPECT_EQ(session_->match(c).blocks(), 3U);
}

TEST_P(Contract, reserve_tells_present_from_in_flight) {
  const BlockChain c = chain(3);
  store(chain(1));
  Reservation first = session_->reserve(c, 0, 2);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first.outcome(0), Reserved::kExists);
  EXPECT_EQ(first.outcome(1), Reserved::kYes);
  EXPECT_TRUE(first.writer(0).bytes().empty());
  Session other = open();
  Reservation second = other.reserve(c, 1);
  EXPECT_EQ(second.outcome(0), Reserved::kInFlight);
  EXPECT_EQ(second.outcome(1), Reserved::kYes) << "its parent is queued ahead of it";
  EXPECT_EQ(session_->match(c).blocks(), 1U) << "readers see what is committed only";
  EXPECT_TRUE(second.writer(1).commit());
  EXPECT_TRUE(first.writer(1).commit());
  world_->settle();
  EXPECT_EQ(session_->match(c).blocks(), 3U);
}

TEST_P(Contract, a_block_without_its_parent_is_refused) {
  Reservation room = session_->reserve(chain(4), 2);
  ASSERT_EQ(room.size(), 2U);
  EXPECT_EQ(room.outcome(0), Reserved::kNoParent);
  EXPECT_EQ(room.outcome(1), Reserved::kNoParent);
}

TEST_P(Contract, the_arena_is_bounded_and_the_tail_of_the_oldest_goes_first) {
  const std::size_t slots = 4_MiB / kBlockBytes;
  const BlockChain a = chain(slots / 2, 1);
  const BlockChain b = chain(slots / 2, 2);
  EXPECT_EQ(store(a, 1), slots / 2);
  EXPECT_EQ(store(b, 2), slots / 2);
  EXPECT_EQ(load(a, 1), slots / 2);
  world_->settle();
  EXPECT_EQ(store(chain(4, 3), 3), 4U);
  EXPECT_EQ(session_->match(a).blocks(), slots / 2) << "used last";
  EXPECT_EQ(session_->match(b).blocks(), slots / 2 - 4) << "its tail went, its head stays";
  EXPECT_EQ(host().evicted_blocks, 4U);
  EXPECT_LE(host().used_bytes, 4_MiB);
  expect_nothing_held();
}

TEST_P(Contract, full_of_pins_says_busy_and_never_waits) {
  const std::size_t slots = 4_MiB / kBlockBytes;
  const BlockChain a = chain(slots, 1);
  store(a, 1);
  Load load = session_->load(a, slots, 1s);
  ASSERT_EQ(load.wait().size(), slots);
  Reservation room = session_->reserve(chain(2, 2), 0);
  EXPECT_EQ(room.outcome(0), Reserved::kBusy);
  EXPECT_EQ(room.outcome(1), Reserved::kBusy);
  load = {};
  Reservation again = session_->reserve(chain(2, 2), 0);
  EXPECT_EQ(again.outcome(1), Reserved::kYes);
}

TEST_P(Contract, bytes_stay_what_they_are_while_a_reference_lives) {
  const BlockChain c = chain(1, 1);
  store(c, 1);
  Load load = session_->load(c, 1, 1s);
  ASSERT_EQ(load.wait().size(), 1U);
  std::vector<BlockRef> refs = load.take();
  load = {};
  const auto dropped = session_->drop(c, 0);
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->blocks, 1U);
  EXPECT_EQ(dropped->pending, 1U) << "said, not hidden: the copy is still being read";
  EXPECT_EQ(host().quarantined_slots, 1U);
  for (TokenId seed = 2; seed < 40; ++seed) store(chain(4, seed), seed);  // everything else is overwritten many times
  EXPECT_TRUE(std::ranges::all_of(refs[0].bytes(), [](std::byte b) { return b == pattern(0, 1); }));
  CopyPin copy = refs[0].begin_copy();
  refs.clear();
  EXPECT_EQ(host().quarantined_slots, 1U) << "a copy that goes on holds the slot";
  copy = {};
  expect_nothing_held();
}

TEST_P(Contract, a_dropped_writer_whose_copy_runs_quarantines_its_slot) {
  const BlockChain c = chain(1);
  CopyPin copy;
  {
    Reservation room = session_->reserve(c, 0);
    copy = room.writer(0).begin_copy();
  }
  EXPECT_EQ(host().quarantined_slots, 1U);
  EXPECT_EQ(store(c), 1U) << "the block itself can be stored elsewhere";
  copy = {};
  expect_nothing_held();
}

TEST_P(Contract, logical_pins_forbid_eviction_until_they_end) {
  const std::size_t slots = 4_MiB / kBlockBytes;
  const BlockChain a = chain(8, 1);
  store(a, 1);
  auto pin = session_->pin(a, 8, 1min);
  ASSERT_TRUE(pin) << pin.error().message;
  EXPECT_EQ(pin->blocks(), 8U);
  for (TokenId seed = 2; seed < 30; ++seed) store(chain(8, seed), seed);
  EXPECT_EQ(session_->match(a).blocks(), 8U);
  EXPECT_EQ(world_->stats().logical_pins, 8U);
  const auto too_much = session_->pin(chain(8, 29), 8, 1min);
  EXPECT_TRUE(too_much) << "80 % may be pinned";
  *pin = Pin();
  for (TokenId seed = 30; seed < 60; ++seed) store(chain(8, seed), seed);
  EXPECT_EQ(session_->match(a).blocks(), 0U);
  EXPECT_LE(host().used_bytes, slots * kBlockBytes);
}

TEST_P(Contract, pins_are_bounded_in_number_and_time) {
  const std::size_t slots = 4_MiB / kBlockBytes;
  const BlockChain a = chain(slots, 1);
  store(a, 1);
  EXPECT_EQ(session_->pin(a, slots, 1min).error().code, ErrorCode::kLimit);
  EXPECT_EQ(world_->stats().logical_pins, 0U) << "a refused pin leaves none";
  EXPECT_EQ(session_->pin(a, 1, 0s).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(session_->pin(a, 1, 24h).error().code, ErrorCode::kInvalidArgument);
  auto pin = session_->pin(a, 2, 1s);
  ASSERT_TRUE(pin);
  if (!world_->advance(2s)) return;
  EXPECT_EQ(pin->blocks(), 0U);
  const Stats stats = world_->stats();
  EXPECT_EQ(stats.logical_pins, 0U);
  EXPECT_EQ(stats.expired_pins, 1U);
}

TEST_P(Contract, drop_deletes_a_block_and_all_that_continues_it) {
  const BlockChain a = chain(6);
  store(a);
  auto longer = tokens(3);
  longer.insert(longer.end(), 8, 77);
  const BlockChain fork = hash_blocks(session_->space(), longer);
  EXPECT_EQ(store(fork), 2U);
  const auto dropped = session_->drop(a, 2);
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->blocks, 6U) << "blocks 2 to 5, and the fork's two behind block 2";
  EXPECT_EQ(dropped->pending, 0U);
  EXPECT_EQ(session_->match(a).blocks(), 2U);
  EXPECT_EQ(session_->match(fork).blocks(), 2U);
  EXPECT_EQ(session_->drop(a, 9).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(session_->drop(a, 2)->blocks, 0U) << "nothing left to delete";
}

TEST_P(Contract, a_block_deleted_while_it_is_written_is_not_published) {
  const BlockChain c = chain(2);
  Reservation room = session_->reserve(c, 0);
  EXPECT_TRUE(room.writer(0).commit());
  world_->settle();
  const auto dropped = session_->drop(c, 0);
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->blocks, 2U);
  EXPECT_EQ(dropped->pending, 1U);
  EXPECT_EQ(room.writer(1).commit().error().code, ErrorCode::kDropped);
  room = {};
  EXPECT_EQ(session_->match(c).blocks(), 0U);
  expect_nothing_held();
}

TEST_P(Contract, namespaces_never_meet) {
  store(chain(2, 1, "alice"), 1);
  EXPECT_EQ(session_->match(chain(2, 1, "bob")).blocks(), 0U);
  EXPECT_EQ(session_->match(chain(2, 1, "alice")).blocks(), 2U);
  auto other_model = options();
  other_model.model.kv_dtype = "q8_0";
  auto other = world_->open(other_model);
  ASSERT_TRUE(other);
  const BlockChain theirs = hash_blocks(other->space("alice"), tokens(2, 1));
  EXPECT_EQ(other->match(theirs).blocks(), 0U);
  // A chain of one session means nothing to a session of another model.
  EXPECT_EQ(session_->match(theirs).blocks(), 0U);
  EXPECT_EQ(session_->load(theirs, 2, 1s).wait().size(), 0U);
  EXPECT_EQ(session_->reserve(theirs, 0).outcome(1), Reserved::kClosed);
  EXPECT_EQ(session_->drop(theirs, 0).error().code, ErrorCode::kInvalidArgument);
  const auto dropped = session_->drop(session_->space("alice"));
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->blocks, 2U);
  EXPECT_EQ(session_->match(chain(2, 1, "alice")).blocks(), 0U);
}

TEST_P(Contract, sessions_of_one_model_share_blocks) {
  store(chain(3));
  Session other = open();
  EXPECT_EQ(other.match(chain(3)).blocks(), 3U);
}

TEST_P(Contract, a_session_that_goes_away_leaks_nothing) {
  const BlockChain c = chain(2);
  Session other = open();
  Reservation room = other.reserve(c, 0);
  auto pin_target = chain(1, 5);
  store(pin_target, 5);
  auto pin = other.pin(pin_target, 1, 1min);
  ASSERT_TRUE(pin);
  other.close();
  EXPECT_EQ(world_->stats().logical_pins, 0U);
  EXPECT_EQ(host().quarantined_slots, 2U) << "the writers may still be writing";
  std::ranges::fill(room.writer(0).bytes(), std::byte{1});
  EXPECT_EQ(room.writer(0).commit().error().code, ErrorCode::kClosed);
  EXPECT_EQ(session_->match(c).blocks(), 0U);
  EXPECT_EQ(store(c), 2U) << "others go on meanwhile";
  room = {};
  expect_nothing_held();
  EXPECT_EQ(other.match(c).blocks(), 0U);
  EXPECT_EQ(other.reserve(c, 0).outcome(0), Reserved::kClosed);
  EXPECT_EQ(other.load(c, 1, 1s).outcome(), LoadOutcome::kClosed);
  EXPECT_EQ(other.pin(c, 1, 1s).error().code, ErrorCode::kClosed);
  EXPECT_EQ(other.drop(c, 0).error().code, ErrorCode::kClosed);
  EXPECT_EQ(world_->stats().sessions, 1U);
}

TEST_P(Contract, a_commit_needs_every_member_of_the_group) {
  auto rank = [](std::uint32_t member) {
    SessionOptions o = options();
    o.group = {.engine_id = "engine", .members = 3, .member = member};
    return o;
  };
  auto scheduler = world_->open(rank(0));
  auto one = world_->open(rank(1));
  auto two = world_->open(rank(2));
  ASSERT_TRUE(scheduler && one && two);
  EXPECT_FALSE(world_->open(rank(1))) << "a member is there once";
  const BlockChain c = chain(2);
  EXPECT_EQ(one->reserve(c, 0).outcome(0), Reserved::kClosed) << "ranks do not reserve";
  EXPECT_EQ(one->reserve(c, 7).size(), 0U) << "past the end";
  Reservation room = scheduler->reserve(c, 0);
  ASSERT_EQ(room.outcome(1), Reserved::kYes);
  EXPECT_TRUE(one->report(room.id(), 0));
  EXPECT_EQ(room.writer(0).commit().error().code, ErrorCode::kIncomplete);
  EXPECT_TRUE(two->report(room.id(), 0));
  EXPECT_EQ(two->report(room.id(), 5).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(two->report(room.id() + 1'000, 0).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(room.writer(0).commit());
  EXPECT_EQ(room.writer(1).commit().error().code, ErrorCode::kIncomplete);
  two->close();  // a member that goes away aborts what is open
  EXPECT_EQ(room.writer(1).commit().error().code, ErrorCode::kClosed);
  room = {};
  world_->settle();
  EXPECT_EQ(session_->match(c).blocks(), 1U);
  expect_nothing_held();
  EXPECT_TRUE(world_->open(rank(2))) << "and its place is free again";
}

TEST_P(Contract, bad_options_are_refused_with_the_key) {
  const auto message = [&](const std::function<void(SessionOptions&)>& change) {
    SessionOptions o = options();
    change(o);
    auto session = world_->open(o);
    EXPECT_FALSE(session);
    return session ? std::string() : session.error().message;
  };
  const auto names = [](const std::string& text, std::string_view key) {
    return text.find(key) != std::string::npos ? testing::AssertionSuccess() : testing::AssertionFailure() << text;
  };
  EXPECT_TRUE(names(message([](SessionOptions& o) { o.block_tokens = 0; }), "block_tokens"));
  EXPECT_TRUE(names(message([](SessionOptions& o) { o.layout = Layout::blob(0); }), "run"));
  EXPECT_TRUE(names(message([](SessionOptions& o) { o.layout = Layout::blob(1_MiB); }), "host.extent_bytes"));
  EXPECT_TRUE(names(message([](SessionOptions& o) { o.layout.groups.clear(); }), "layout.groups"));
  EXPECT_TRUE(names(message([](SessionOptions& o) { o.layout.groups[0].kind = GroupKind::kRecurrent; }), "layout"));
  EXPECT_TRUE(names(message([](SessionOptions& o) { o.model.properties = {{"a", ""}, {"a", ""}}; }), "properties"));
  EXPECT_TRUE(names(message([](SessionOptions& o) { o.group = {.members = 2}; }), "engine_id"));
  EXPECT_TRUE(names(message([](SessionOptions& o) { o.group = {.engine_id = "e", .members = 65}; }), "64"));
  EXPECT_TRUE(
      names(message([](SessionOptions& o) { o.group = {.engine_id = "e", .members = 2, .member = 2}; }), "member"));
}

TEST_P(Contract, block_sizes_share_the_arena) {
  const std::size_t slots = 4_MiB / kBlockBytes;
  const BlockChain small = chain(slots, 1);
  store(small, 1);
  Session large = open(512_KiB);
  const BlockChain theirs = hash_blocks(large.space(), tokens(2, 9));
  // The first reserve finds the arena full of the other size and asks for an extent; a later one gets it.
  std::size_t stored = 0;
  for (int attempt = 0; attempt < 50 && stored == 0; ++attempt) {
    Reservation room = large.reserve(theirs, 0);
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) != Reserved::kYes) continue;
      std::ranges::fill(room.writer(i).bytes(), std::byte{5});
      EXPECT_TRUE(room.writer(i).commit());
      ++stored;
    }
    room = {};
    world_->settle();
  }
  EXPECT_EQ(stored, 2U);
  EXPECT_EQ(large.match(theirs).blocks(), 2U);
  EXPECT_EQ(load(small, 1), slots / 2) << "the head of the other conversation stays, whole";
  const Stats stats = world_->stats();
  EXPECT_EQ(stats.handovers, 1U);
  EXPECT_GT(stats.moved_blocks, 0U);
  expect_nothing_held();
}

TEST_P(Contract, pinned_extents_are_skipped_and_counted) {
  const std::size_t slots = 4_MiB / kBlockBytes;
  const BlockChain small = chain(slots, 1);
  store(small, 1);
  Load everything = session_->load(small, slots, 1s);
  ASSERT_EQ(everything.wait().size(), slots);
  Session large = open(512_KiB);
  const BlockChain theirs = hash_blocks(large.space(), tokens(1, 9));
  EXPECT_EQ(large.reserve(theirs, 0).outcome(0), Reserved::kBusy);
  world_->settle();
  const Stats stats = world_->stats();
  EXPECT_EQ(stats.handovers, 0U);
  EXPECT_GE(stats.handover_pinned_skips, 2U);
  EXPECT_EQ(stats.handovers_failed, 1U);
}

TEST_P(Contract, handles_may_outlive_the_cache) {
  const BlockChain c = chain(3, 1);
  store(c, 1);
  Load load = session_->load(c, 3, 1s);
  ASSERT_EQ(load.wait().size(), 3U);
  Reservation room = session_->reserve(chain(1, 2), 0);
  ASSERT_EQ(room.outcome(0), Reserved::kYes);
  world_->close();
  EXPECT_EQ(room.writer(0).commit().error().code, ErrorCode::kClosed);
  std::ranges::fill(room.writer(0).bytes(), std::byte{1});
  world_.reset();
  EXPECT_TRUE(std::ranges::all_of(load.wait()[2].bytes(), [](std::byte b) { return b == pattern(2, 1); }));
  EXPECT_EQ(session_->match(c).blocks(), 0U);
  EXPECT_EQ(session_->load(c, 1, 1s).outcome(), LoadOutcome::kClosed);
}

TEST_P(Contract, paranoid_mode_finds_a_flipped_bit) {
  Config config = small_config();
  config.integrity.mode = IntegrityMode::kParanoid;
  session_.reset();
  start(config);
  const BlockChain c = chain(12, 1);
  EXPECT_EQ(store(c, 1), 12U);
  EXPECT_EQ(session_->match(c).blocks(), 12U);
  EXPECT_EQ(load(c, 1), 12U);
  {
    Load load = session_->load(c, 12, 10s);
    ASSERT_EQ(load.wait().size(), 12U);
    const_cast<std::byte&>(load.wait()[9].bytes()[1'000]) ^= std::byte{4};
  }
  Load load = session_->load(c, 12, 10s);
  EXPECT_EQ(load.wait().size(), 9U);
  EXPECT_EQ(load.outcome(), LoadOutcome::kCorrupt);
  load = {};
  world_->settle();
  EXPECT_EQ(world_->stats().checksum_failures, 1U);
  EXPECT_EQ(session_->match(c).blocks(), 9U) << "the bad copy was dropped";
  EXPECT_EQ(store(c, 1, 9), 1U) << "it can be stored again; what continues it is still there";
  EXPECT_EQ(this->load(c, 1), 12U);
  world_->settle();  // a checking task may still be letting go
  expect_nothing_held();
}

INSTANTIATE_TEST_SUITE_P(Session, Contract, testing::ValuesIn(world_kinds()),
                         [](const auto& kind) { return kind.param.name; });

}  // namespace
}  // namespace tiercel::contract
