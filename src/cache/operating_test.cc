// Goal: what people do to a running cache takes effect with the next call, and does nothing to what was given before;
// modes of an engine outlive its sessions; settings that may change do, and the others do not.
#include "cache/core.h"
#include "cache/local_session.h"
#include "cache/modes.h"
#include "cache/testing/disk_world.h"
#include "transfer/host_copy_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

namespace tiercel::detail {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

constexpr std::uint64_t kBlockBytes = 64_KiB;

Config config() {
  return {.host = {.capacity = 4_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = kBlockBytes}};
}

class Operating : public ::testing::Test {
 protected:
  Operating()
      : core_(*CacheCore::create(config(), {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7})),
        cache_(core_, nullptr) {}
  ~Operating() override { (void)cache_.close(0ns); }

  Session open(const std::string& engine = {}) {
    auto session = cache_.open_session({.model = {.name = "test", .kv_dtype = "f16"},
                                        .block_tokens = 1,
                                        .layout = Layout::blob(kBlockBytes),
                                        .group = {.engine_id = engine}});
    EXPECT_TRUE(session) << session.error().message;
    return std::move(*session);
  }
  static BlockChain chain(const Session& session, std::size_t blocks, TokenId seed = 1, std::string_view tenant = {}) {
    return hash_blocks(session.space(tenant), std::vector<TokenId>(blocks, seed));
  }
  void store(Session& session, const BlockChain& blocks) {
    Reservation room = session.reserve(blocks, 0);
    const auto done = room.commit_all();
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_TRUE(done->failures.empty());
    room = {};
    executor_.run_all();
  }
  static std::size_t stored(Session& session, const BlockChain& blocks) {
    const Reservation room = session.reserve(blocks, 0);
    std::size_t yes = 0;
    for (std::size_t i = 0; i < room.size(); ++i) yes += static_cast<std::size_t>(room.outcome(i) == Reserved::kYes);
    return yes;
  }

  ManualClock clock_;
  ManualExecutor executor_{clock_};
  HostCopyEngine copies_{executor_};
  std::shared_ptr<CacheCore> core_;
  Cache cache_;
};

TEST(Mode, the_stricter_of_two_allows_what_both_allow) {
  for (std::size_t a = 0; a < kModes; ++a) {
    for (std::size_t b = 0; b < kModes; ++b) {
      const Mode both = stricter(static_cast<Mode>(a), static_cast<Mode>(b));
      EXPECT_EQ(allows_loads(both), allows_loads(static_cast<Mode>(a)) && allows_loads(static_cast<Mode>(b)));
      EXPECT_EQ(allows_stores(both), allows_stores(static_cast<Mode>(a)) && allows_stores(static_cast<Mode>(b)));
    }
  }
  EXPECT_EQ(stricter(Mode::kStoreOnly, Mode::kLoadOnly), Mode::kOff);
}

TEST_F(Operating, an_engine_has_a_mode_of_its_own_and_the_stricter_holds) {
  Session a = open("a");
  Session b = open("b");
  store(a, chain(a, 3));
  ASSERT_TRUE(cache_.set_mode("a", Mode::kStoreOnly));
  EXPECT_EQ(a.match(chain(a, 3)).blocks(), 0U);
  EXPECT_EQ(b.match(chain(b, 3)).blocks(), 3U);
  EXPECT_EQ(stored(a, chain(a, 2, 5)), 2U);
  cache_.set_mode(Mode::kLoadOnly);
  EXPECT_EQ(stored(a, chain(a, 2, 6)), 0U) << "store_only and load_only together are off";
  EXPECT_EQ(a.load(chain(a, 3), 3, 1s).outcome(), LoadOutcome::kMiss);
  EXPECT_EQ(b.match(chain(b, 3)).blocks(), 3U);
  EXPECT_EQ(stored(b, chain(b, 2, 6)), 0U);
  cache_.set_mode(Mode::kOn);
  EXPECT_EQ(stored(b, chain(b, 2, 6)), 2U);
  EXPECT_EQ(a.match(chain(a, 3)).blocks(), 0U) << "its own mode still holds";
  ASSERT_TRUE(cache_.set_mode("a", Mode::kOn));
  EXPECT_EQ(a.match(chain(a, 3)).blocks(), 3U);
}

TEST_F(Operating, what_a_mode_refused_is_counted_there_alone) {
  Session session = open();
  store(session, chain(session, 3));
  const Stats before = cache_.stats();
  cache_.set_mode(Mode::kOff);
  (void)session.match(chain(session, 3));
  (void)session.load(chain(session, 3), 3, 1s);
  (void)session.reserve(chain(session, 4), 0);
  const Stats after = cache_.stats();
  EXPECT_EQ(after.mode_refused_matches, 1U);
  EXPECT_EQ(after.mode_refused_loads, 1U);
  EXPECT_EQ(after.mode_refused_reserves, 1U);
  EXPECT_EQ(after.matches, before.matches);
  EXPECT_EQ(after.missed_blocks, before.missed_blocks) << "the hit ratio stays that of what was asked for";
  EXPECT_EQ(after.load_outcomes, before.load_outcomes);
  EXPECT_EQ(after.reserve_outcomes, before.reserve_outcomes) << "busy still means that the arena is full";
}

TEST_F(Operating, what_was_given_before_stays_good) {
  Session session = open();
  store(session, chain(session, 2));
  Load load = session.load(chain(session, 2), 2, 1s);
  Reservation room = session.reserve(chain(session, 3), 2);
  cache_.set_mode(Mode::kOff);
  EXPECT_EQ(load.wait().size(), 2U);
  EXPECT_EQ(load.outcome(), LoadOutcome::kComplete);
  EXPECT_TRUE(room.writer(0).commit());
  auto pin = session.pin(chain(session, 3), 3, 1min);
  ASSERT_TRUE(pin);
  EXPECT_EQ(pin->blocks(), 3U) << "pins work in every mode";
  cache_.set_mode(Mode::kOn);
  EXPECT_EQ(session.match(chain(session, 3)).blocks(), 3U);
}

TEST_F(Operating, a_mode_is_remembered_while_its_engine_is_away_and_a_name_that_nobody_has_is_refused) {
  {
    const Session first = open("vllm-0");
    ASSERT_TRUE(cache_.set_mode("vllm-0", Mode::kOff));
  }
  EXPECT_EQ(cache_.mode("vllm-0"), Mode::kOff);
  Session again = open("vllm-0");
  EXPECT_EQ(stored(again, chain(again, 1)), 0U);
  const Status typo = cache_.set_mode("vlm-0", Mode::kOn);
  ASSERT_FALSE(typo);
  EXPECT_EQ(typo.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(typo.error().message, HasSubstr("did you mean vllm-0?"));
  again.close();
  ASSERT_TRUE(cache_.set_mode("vllm-0", Mode::kOn));
  EXPECT_FALSE(cache_.set_mode("vllm-0", Mode::kOff)) << "set back and gone: nobody knows it any more";
  EXPECT_TRUE(core_->modes().engines().empty());
}

TEST(Modes, how_many_engines_have_their_own_is_bounded) {
  Modes modes;
  for (std::size_t i = 0; i <= Modes::kMostEngines; ++i) (void)modes.join(std::to_string(i));
  for (std::size_t i = 0; i < Modes::kMostEngines; ++i) ASSERT_TRUE(modes.set(std::to_string(i), Mode::kOff));
  EXPECT_EQ(modes.set(std::to_string(Modes::kMostEngines), Mode::kOff).error().code, ErrorCode::kLimit);
  ASSERT_TRUE(modes.set("3", Mode::kOn));
  EXPECT_TRUE(modes.set(std::to_string(Modes::kMostEngines), Mode::kOff));
}

TEST_F(Operating, a_run_is_found_by_its_last_block) {
  Session session = open();
  const BlockChain blocks = chain(session, 60);  // more than a slice
  store(session, blocks);
  const auto run = core_->run_to(blocks[59], 100);
  ASSERT_TRUE(run) << run.error().message;
  EXPECT_TRUE(std::ranges::equal(*run, blocks.hashes()));
  EXPECT_EQ(core_->run_to(blocks[59], 32).error().code, ErrorCode::kLimit);
  EXPECT_EQ(core_->run_to(chain(session, 1, 9)[0], 100).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(core_->run_to(session.space().fingerprint(), 100).error().code, ErrorCode::kNotFound)
      << "a root is no block";
  EXPECT_EQ(core_->namespace_of(blocks[59]), session.space().fingerprint());
  EXPECT_EQ(core_->namespace_of(chain(session, 1, 9)[0]), std::nullopt);
}

TEST_F(Operating, namespaces_are_listed_and_named_where_somebody_named_them) {
  Session session = open();
  std::vector<BlockHash> expected;
  for (int i = 0; i < 40; ++i) {  // more than a slice
    const std::string tenant = "t" + std::to_string(i);
    store(session, chain(session, 1, 1, tenant));
    expected.push_back(session.space(tenant).fingerprint());
  }
  core_->namespace_names().note(expected[7], "qwen", "t7");
  std::vector<BlockHash> found;
  for (const NamespaceReport& report : core_->namespaces()) {
    found.push_back(report.fingerprint);
    EXPECT_EQ(report.tenant, report.fingerprint == expected[7] ? "t7" : "");
  }
  EXPECT_THAT(found, ::testing::UnorderedElementsAreArray(expected));
}

TEST_F(Operating, a_delete_says_how_many_bytes_went) {
  Session session = open();
  const BlockChain blocks = chain(session, 5);
  store(session, blocks);
  const auto dropped = session.drop(blocks, 2);
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->blocks, 3U);
  EXPECT_EQ(dropped->bytes, 3 * kBlockBytes);
}

TEST_F(Operating, limits_that_may_change_do) {
  Session session = open();
  store(session, chain(session, 40));
  Config changed = config();
  changed.limits.pin_max_ttl = 1s;
  changed.limits.sessions = 1;
  changed.limits.pinned_percent = 10;
  ASSERT_TRUE(cache_.reconfigure(changed));
  EXPECT_FALSE(session.pin(chain(session, 1), 1, 2s));
  EXPECT_TRUE(session.pin(chain(session, 1), 1, 1s));
  EXPECT_EQ(session.pin(chain(session, 40), 40, 1s).error().code, ErrorCode::kLimit);
  EXPECT_EQ(cache_.open_session({.model = {.name = "x"}, .layout = Layout::blob(kBlockBytes)}).error().code,
            ErrorCode::kLimit);
  ASSERT_TRUE(cache_.reconfigure(config()));
  EXPECT_TRUE(session.pin(chain(session, 40), 40, 2s));
  changed.limits.sessions = 0;
  EXPECT_FALSE(cache_.reconfigure(changed)) << "an invalid one changes nothing";
  EXPECT_TRUE(cache_.open_session({.model = {.name = "x"}, .layout = Layout::blob(kBlockBytes)}));
}

TEST(Reconfigured, what_is_admitted_to_disk_changes_while_it_runs) {
  Config settings = tiercel::testing::DiskWorld::config();
  settings.disk.admission = Admission::kSecondSight;
  tiercel::testing::DiskWorld world(settings);
  world.settle();
  EXPECT_EQ(world.store(world.chain(4, 1), 1), 4U);
  world.settle();
  EXPECT_EQ(world.disk().stored_blocks, 0U) << "seen once";
  settings.disk.admission = Admission::kAll;
  ASSERT_TRUE(world.cache().reconfigure(settings));
  EXPECT_EQ(world.store(world.chain(4, 2), 2), 4U);
  world.settle();
  EXPECT_EQ(world.disk().stored_blocks, 4U);
  const auto dropped = world.session().drop(world.chain(4, 2), 0);
  ASSERT_TRUE(dropped);
  EXPECT_EQ(dropped->bytes, 2 * 4 * tiercel::testing::kDiskBlockBytes) << "in host memory and on disk";
}

}  // namespace
}  // namespace tiercel::detail
