// Goal: what session.h promises, one promise a test, on every implementation. Here: namespaces, the lives of
// sessions, groups and caches, several block sizes, paranoid mode.
#include "tests/contract/session_fixture.h"

#include <limits>

namespace tiercel::contract {
namespace {

/// A member of a group of `members`; number 0 is the scheduler.
SessionOptions member_of(std::uint32_t members, std::uint32_t member) {
  SessionOptions o = options();
  o.group = {.engine_id = "engine", .members = members, .member = member};
  return o;
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

TEST_P(Contract, a_mode_is_answered_as_a_miss_and_as_busy_from_the_next_call_on) {
  const BlockChain c = chain(4);
  store(chain(3));
  Load before = session_->load(c, 3, 10s);
  ASSERT_EQ(before.wait().size(), 3U);  // over a socket the cache has seen it then
  Reservation room = session_->reserve(c, 3);
  ASSERT_EQ(room.outcome(0), Reserved::kYes);
  world_->set_mode(Mode::kOff);
  EXPECT_EQ(session_->match(c).blocks(), 0U);
  Load none = session_->load(c, 3, 10s);
  EXPECT_TRUE(none.wait().empty());
  EXPECT_EQ(none.outcome(), LoadOutcome::kMiss);
  Load nothing = session_->load(c, 0, 0s);
  EXPECT_TRUE(nothing.wait().empty());
  EXPECT_EQ(nothing.outcome(), LoadOutcome::kComplete) << "nothing was asked for";
  const BlockChain fresh = chain(2, 5);
  {
    const Reservation refused = session_->reserve(fresh, 0);
    ASSERT_EQ(refused.size(), 2U);
    EXPECT_EQ(refused.outcome(0), Reserved::kBusy);
    EXPECT_EQ(refused.outcome(1), Reserved::kBusy);
  }
  EXPECT_EQ(before.wait().size(), 3U) << "what was loaded stays";
  EXPECT_EQ(before.wait()[2].bytes()[0], pattern(2, 0));
  std::ranges::fill(room.writer(0).bytes(), pattern(3, 0));
  EXPECT_TRUE(room.writer(0).commit()) << "and a writer can still be committed";
  before = {};
  room = {};
  world_->set_mode(Mode::kStoreOnly);
  EXPECT_EQ(session_->match(c).blocks(), 0U);
  EXPECT_EQ(store(fresh, 5), 2U);
  world_->set_mode(Mode::kLoadOnly);
  EXPECT_EQ(load(c), 4U);
  EXPECT_EQ(store(chain(1, 6), 6), 0U);
  EXPECT_EQ(load(fresh, 5), 2U);
  world_->set_mode(Mode::kOn);
  EXPECT_EQ(store(chain(1, 6), 6), 1U);
  const Stats stats = world_->stats();
  EXPECT_EQ(stats.mode_refused_matches, 2U);
  EXPECT_EQ(stats.mode_refused_loads, 2U);
  EXPECT_EQ(stats.mode_refused_reserves, 2U);
  expect_nothing_held();
}

TEST_P(Contract, a_commit_needs_every_member_of_the_group) {
  auto scheduler = world_->open(member_of(3, 0));
  auto one = world_->open(member_of(3, 1));
  auto two = world_->open(member_of(3, 2));
  ASSERT_TRUE(scheduler && one && two);
  EXPECT_FALSE(world_->open(member_of(3, 1))) << "a member is there once";
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
  EXPECT_TRUE(world_->open(member_of(3, 2))) << "and its place is free again";
}

TEST_P(Contract, a_part_keeps_its_slot_until_its_member_lets_go) {
  auto scheduler = world_->open(member_of(2, 0));
  auto one = world_->open(member_of(2, 1));
  ASSERT_TRUE(scheduler && one);
  const BlockChain c = chain(3);
  Reservation room = scheduler->reserve(c, 0);
  ASSERT_EQ(room.outcome(2), Reserved::kYes);
  const std::array<std::size_t, 2> blocks{0, 2};
  auto parts = one->parts(room.id(), blocks);
  ASSERT_TRUE(parts) << parts.error().message;
  ASSERT_EQ(parts->size(), 2U);
  ASSERT_EQ((*parts)[0].bytes().size(), kBlockBytes);
  std::ranges::fill(room.writer(0).bytes(), pattern(0, 1));
  (*parts)[0].bytes()[7] = std::byte{200};  // the same memory, whoever maps it
  EXPECT_EQ(room.writer(0).bytes()[7], std::byte{200});
  (*parts)[0].bytes()[7] = pattern(0, 1);
  EXPECT_TRUE(one->report(room.id(), blocks));
  EXPECT_TRUE(room.writer(0).commit());
  EXPECT_EQ(one->parts(room.id(), blocks).error().code, ErrorCode::kNotFound) << "block 0 is committed";
  const std::array<std::size_t, 1> beyond{3};
  EXPECT_EQ(one->parts(room.id(), beyond).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(session_->parts(room.id(), blocks).error().code, ErrorCode::kInvalidArgument) << "of no group";
  room = {};  // the scheduler gives the rest up; the rank may still be writing
  EXPECT_EQ(host().quarantined_slots, 1U);
  EXPECT_EQ(one->parts(room.id(), blocks).error().code, ErrorCode::kNotFound);
  CopyPin copy = (*parts)[1].begin_copy();
  parts->clear();
  EXPECT_EQ(host().quarantined_slots, 1U) << "a copy that goes on holds the slot";
  copy = {};
  world_->settle();
  expect_nothing_held();
  EXPECT_EQ(load(chain(1), 1), 1U);
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
  EXPECT_GE(stats.handovers, 1U);
  if (!world_->has_disk()) {
    EXPECT_EQ(stats.handovers, 1U);
    EXPECT_GT(stats.moved_blocks, 0U);  // with a disk they may go instead: there is a copy
  }
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

TEST_P(Contract, what_an_engine_says_of_itself_is_heard_and_changes_nothing) {
  const auto heard = [this](double bytes_per_second) {
    const auto sum = world_->prefill();
    return !sum || *sum == bytes_per_second;
  };
  EXPECT_TRUE(heard(0));
  session_->report_prefill(2e9);
  EXPECT_TRUE(heard(2e9));
  session_->report_pool({.used_bytes = 1, .free_bytes = 2, .total_bytes = 3});
  EXPECT_TRUE(heard(2e9)) << "each report leaves the other";
  const BlockChain c = chain(4, 1);
  EXPECT_EQ(store(c, 1), 4U);
  EXPECT_EQ(load(c, 1), 4U);
  for (const double none :
       {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    session_->report_prefill(3e9);
    EXPECT_TRUE(heard(3e9));
    session_->report_prefill(none);
    EXPECT_TRUE(heard(0)) << none << " is no speed";
  }
  EXPECT_EQ(load(c, 1), 4U);
  session_->close();
  session_->report_prefill(1e9);
  session_->report_pool({.used_bytes = 3, .free_bytes = 0, .total_bytes = 3});
  EXPECT_EQ(session_->match(c).blocks(), 0U);
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

TEST_P(Contract, a_tenant_at_its_cap_is_told_busy_and_has_its_own_limit_of_pins) {
  Config config = small_config();
  config.tenants["capped"] = {.host_cap = TierShare::of_percent(25), .pinned_cap = TierShare::of_bytes(256_KiB)};
  session_.reset();
  start(config);
  const BlockChain c = chain(20, 1, "capped");
  {
    const Reservation room = session_->reserve(c, 0);
    EXPECT_EQ(room.outcome(15), Reserved::kYes);
    EXPECT_EQ(room.outcome(16), Reserved::kBusy) << "16 of 64 slots are a quarter";
  }
  world_->settle();
  EXPECT_EQ(store(c, 1), 16U);
  EXPECT_EQ(store(chain(40, 2), 2), 40U) << "another tenant has its room";
  const BlockChain d = chain(8, 3, "capped");
  EXPECT_EQ(store(d, 3), 8U) << "its own coldest went";
  EXPECT_EQ(load(d, 3), 8U);
  EXPECT_EQ(load(chain(40, 2), 2), 40U);
  const auto refused = session_->pin(d, 6, 1min);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kLimit);
  EXPECT_EQ(refused.error().message,
            "tenants.capped.pinned_cap: tenant \"capped\" has 256KiB pinned, of at most 256KiB; these 6 blocks would "
            "exceed it");
  const auto pin = session_->pin(d, 4, 1min);
  ASSERT_TRUE(pin);
  EXPECT_EQ(pin->blocks(), 4U);
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
  // On disk there is another copy, which is right.
  EXPECT_EQ(session_->match(c).blocks(), world_->has_disk() ? 12U : 9U) << "the bad copy was dropped";
  EXPECT_EQ(store(c, 1, 9), world_->has_disk() ? 0U : 1U) << "it can be stored again; what continues it is still there";
  EXPECT_EQ(this->load(c, 1), 12U);
  world_->settle();  // a checking task may still be letting go
  expect_nothing_held();
}

}  // namespace
}  // namespace tiercel::contract
