// Goal: what session.h promises, one promise a test, on every implementation. Here: blocks, room and pins.
#include "tests/contract/session_fixture.h"

namespace tiercel::contract {
namespace {

TEST_P(Contract, what_was_stored_is_loaded_byte_for_byte) {
  const BlockChain c = chain(5);
  EXPECT_EQ(session_->match(c).blocks(), 0U);
  EXPECT_EQ(load(c), 0U);
  EXPECT_EQ(store(c), 5U);
  const Match match = session_->match(c);
  EXPECT_EQ(match.blocks(), 5U);
  EXPECT_EQ(match.blocks_in(TierId::kHost), 5U);
  EXPECT_EQ(match.blocks_in(TierId::kDisk), world_->has_disk() ? 5U : 0U);
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

TEST_P(Contract, several_writers_are_committed_in_one_call) {
  const BlockChain c = chain(6);
  Reservation room = session_->reserve(c, 0);
  for (std::size_t i = 0; i < room.size(); ++i) std::ranges::fill(room.writer(i).bytes(), pattern(i, 0));
  ASSERT_TRUE(room.writer(0).commit());
  const std::array some = {WriterCommit{.writer = 1}, WriterCommit{.writer = 2, .size = kBlockBytes}};
  const auto first = room.commit(some);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->blocks, 2U);
  EXPECT_TRUE(first->failures.empty());
  EXPECT_TRUE(room.writer(2).bytes().empty());
  const auto rest = room.commit_all();
  ASSERT_TRUE(rest) << rest.error().message;
  EXPECT_EQ(rest->blocks, 3U) << "those that were open still";
  EXPECT_TRUE(rest->failures.empty());
  const auto none = room.commit_all();
  ASSERT_TRUE(none);
  EXPECT_EQ(none->blocks + none->failures.size(), 0U);
  room = {};
  world_->settle();
  EXPECT_EQ(load(c), 6U);
  expect_nothing_held();
}

TEST_P(Contract, of_several_commits_each_failure_is_told_and_keeps_none_of_the_others_back) {
  const BlockChain c = chain(5);
  store(chain(1));
  Reservation room = session_->reserve(c, 0);
  ASSERT_EQ(room.outcome(0), Reserved::kExists);
  ASSERT_EQ(room.outcome(4), Reserved::kYes);
  for (std::size_t i = 1; i < room.size(); ++i) std::ranges::fill(room.writer(i).bytes(), pattern(i, 0));
  room.writer(4).abort();
  const std::array some = {WriterCommit{.writer = 0},             // exists: it has no writer
                           WriterCommit{.writer = 1},             //
                           WriterCommit{.writer = 1},             // twice
                           WriterCommit{.writer = 2, .size = 0},  // no size; the writer stays
                           WriterCommit{.writer = 3},             //
                           WriterCommit{.writer = 4},             // aborted
                           WriterCommit{.writer = 5}};            // beyond the reservation
  const auto done = room.commit(some);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->blocks, 2U);
  std::vector<std::size_t> places;
  for (const CommitFailure& failure : done->failures) {
    places.push_back(failure.place);
    EXPECT_EQ(failure.writer, some[failure.place].writer);
    EXPECT_EQ(failure.error.code, ErrorCode::kInvalidArgument) << failure.place;
    EXPECT_FALSE(failure.error.message.empty());
  }
  EXPECT_EQ(places, (std::vector<std::size_t>{0, 2, 3, 5, 6}));
  EXPECT_EQ(room.writer(2).bytes().size(), kBlockBytes) << "as Writer::commit leaves it";
  EXPECT_TRUE(room.commit_all()->failures.empty());
  room = {};
  world_->settle();
  EXPECT_EQ(load(c), 4U);
  expect_nothing_held();
}

TEST_P(Contract, of_several_commits_those_that_the_cache_refuses_are_told) {
  const BlockChain c = chain(4);
  Reservation room = session_->reserve(c, 0);
  ASSERT_EQ(room.outcome(3), Reserved::kYes);
  ASSERT_TRUE(room.writer(0).commit());
  ASSERT_TRUE(session_->drop(c, 2));
  const auto done = room.commit_all();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->blocks, 1U);
  ASSERT_EQ(done->failures.size(), 2U);
  EXPECT_EQ(done->failures[0].writer, 2U);
  EXPECT_EQ(done->failures[0].error.code, ErrorCode::kDropped) << done->failures[0].error.message;
  EXPECT_EQ(done->failures[1].writer, 3U);
  EXPECT_TRUE(room.writer(2).bytes().empty());
  session_->close();
  Session other = open();
  EXPECT_EQ(other.match(c).blocks(), 2U);
  room = {};
  world_->settle();
  expect_nothing_held();
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
  EXPECT_EQ(session_->match(b).blocks_in(TierId::kHost), slots / 2 - 4) << "its tail went, its head stays";
  EXPECT_EQ(host().evicted_blocks, 4U);
  EXPECT_LE(host().used_bytes, 4_MiB);
  expect_nothing_held();
}

TEST_P(Contract, how_long_a_load_takes_is_predicted_from_the_tiers_that_it_comes_from) {
  if (!world_->has_disk()) GTEST_SKIP() << "one tier";
  const std::size_t slots = 4_MiB / kBlockBytes;
  const BlockChain a = chain(slots, 1);
  EXPECT_EQ(store(a, 1), slots);
  EXPECT_EQ(load(a, 1), slots);
  EXPECT_TRUE(session_->match(a).predicted_load_time()) << "in RAM, where loads have come from";
  world_->settle();
  EXPECT_EQ(store(chain(slots, 2), 2), slots);
  world_->settle();
  ASSERT_EQ(session_->match(a).blocks_in(TierId::kHost), 0U);
  EXPECT_FALSE(session_->match(a).predicted_load_time()) << "nothing has come from disk yet";
  EXPECT_EQ(load(a, 1), slots);
  world_->settle();
  EXPECT_EQ(store(chain(slots, 3), 3), slots);
  world_->settle();
  ASSERT_EQ(session_->match(a).blocks_in(TierId::kHost), 0U);
  EXPECT_TRUE(session_->match(a).predicted_load_time());
  expect_nothing_held();
}

TEST_P(Contract, a_load_that_says_what_is_ahead_leaves_what_is_computed_sooner) {
  const BlockChain in_ram = chain(4, 9);
  EXPECT_EQ(store(in_ram, 9), 4U);
  const PrefillAhead ahead{.prompt_tokens = 4 * kBlockTokens + 1};
  Load unknown = session_->load(in_ram, 4, 10s, ahead);
  EXPECT_EQ(unknown.wait().size(), 4U) << "the engine has not said how fast it is";
  EXPECT_EQ(unknown.outcome(), LoadOutcome::kComplete);
  unknown = {};
  session_->report_prefill(PrefillTime{.tokens = 10, .time = 100s});
  Load known = session_->load(in_ram, 4, 10s, ahead);
  EXPECT_EQ(known.wait().size(), 4U);
  EXPECT_EQ(known.outcome(), LoadOutcome::kComplete);
  known = {};
  expect_nothing_held();
  std::uint64_t plans = 0;
  for (const std::uint64_t count : world_->stats().load_plans) plans += count;
  EXPECT_EQ(plans, 2U);
}

TEST_P(Contract, an_engine_that_is_faster_than_the_disk_is_left_to_compute) {
  if (!world_->has_disk()) GTEST_SKIP() << "one tier";
  const std::size_t slots = 4_MiB / kBlockBytes;
  const BlockChain a = chain(slots, 1);
  const PrefillAhead ahead{.prompt_tokens = slots * kBlockTokens + 1};
  EXPECT_EQ(store(a, 1), slots);
  EXPECT_EQ(store(chain(slots, 2), 2), slots);
  EXPECT_EQ(load(a, 1), slots) << "so that the disk is known";
  world_->settle();
  EXPECT_EQ(store(chain(slots, 3), 3), slots);
  ASSERT_EQ(session_->match(a).blocks_in(TierId::kHost), 0U);
  session_->report_prefill(PrefillTime{.tokens = 1'000'000, .time = 1us});
  Load left = session_->load(a, slots, 10s, ahead);
  EXPECT_TRUE(left.wait().empty());
  EXPECT_EQ(left.outcome(), LoadOutcome::kSlower);
  EXPECT_EQ(session_->match(a).blocks(), slots) << "it is there nevertheless";
  left = {};
  world_->settle();
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
  EXPECT_GE(dropped->pending, 1U);
  EXPECT_LE(dropped->pending, world_->has_disk() ? 2U : 1U);  // the block before it may be on its way down
  EXPECT_EQ(room.writer(1).commit().error().code, ErrorCode::kDropped);
  room = {};
  EXPECT_EQ(session_->match(c).blocks(), 0U);
  expect_nothing_held();
}

INSTANTIATE_TEST_SUITE_P(Session, Contract, testing::ValuesIn(world_kinds()),
                         [](const auto& kind) { return kind.param.name; });

}  // namespace
}  // namespace tiercel::contract
