// Goal: what the core must keep when time, workers and room are at their limits. Every task is run by hand.
#include "cache/core.h"
#include "cache/local_session.h"
#include "transfer/host_copy_engine.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kBlockBytes = 64_KiB;
constexpr std::size_t kSlotsPerExtent = 2_MiB / kBlockBytes;

Config two_extents() {
  return {.host = {.capacity = 4_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = kBlockBytes}};
}

SessionOptions options(std::uint64_t block_bytes) {
  return {.model = {.name = "test", .kv_dtype = "f16"}, .block_tokens = 1, .layout = Layout::blob(block_bytes)};
}

BlockChain chain(const Session& session, std::size_t blocks, TokenId seed, std::string_view tenant = {}) {
  std::vector<TokenId> tokens(blocks, seed);
  return hash_blocks(session.space(tenant), tokens);
}

class Core : public testing::Test {
 protected:
  void start(const Config& config) {
    core_ = *detail::CacheCore::create(config, {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7});
    cache_.emplace(core_, nullptr);
    session_.emplace(*cache_->open_session(options(kBlockBytes)));
  }
  void TearDown() override {
    if (cache_) (void)cache_->close(0ns);
    executor_.run_all();
  }
  void settle() {
    executor_.run_all();
    clock_.advance(1'000'000'000);
    core_->check_consistency();
  }
  static std::size_t store(Session& session, const BlockChain& chain) {
    Reservation room = session.reserve(chain, 0);
    std::size_t committed = 0;
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) != Reserved::kYes) continue;
      std::ranges::fill(room.writer(i).bytes(), std::byte{1});
      committed += room.writer(i).commit().has_value();
    }
    return committed;
  }

  ManualClock clock_;
  ManualExecutor executor_{clock_};
  HostCopyEngine copies_{executor_};
  std::shared_ptr<detail::CacheCore> core_;
  std::optional<Cache> cache_;
  std::optional<Session> session_;
};

TEST(Cache, handles_that_outlive_an_opened_cache_read_no_dead_clock) {
  Config config = two_extents();
  config.integrity.mode = IntegrityMode::kParanoid;
  std::optional<Cache> cache(std::move(*Cache::open(config)));
  Session session = *cache->open_session(options(kBlockBytes));
  const BlockChain one = chain(session, 1, 1);
  {
    Reservation room = session.reserve(one, 0);
    ASSERT_TRUE(room.writer(0).commit());
  }
  while (session.match(one).blocks() == 0) std::this_thread::yield();
  auto pin = session.pin(one, 1, 1min);
  ASSERT_TRUE(pin);
  Load waited = session.load(one, 1, 1min);
  Load dropped = session.load(one, 1, 1min);
  cache.reset();
  EXPECT_EQ(pin->blocks(), 0U);
  (void)waited.wait();
  dropped = {};
  EXPECT_EQ(session.reserve(one, 0).outcome(0), Reserved::kClosed);
}

TEST_F(Core, a_handover_goes_on_when_the_coldest_blocks_lie_in_the_drained_extent) {
  start(two_extents());
  for (const TokenId seed : {1, 2}) {  // each chain fills an extent; the tail of the older one is the coldest block
    ASSERT_EQ(store(*session_, chain(*session_, kSlotsPerExtent, seed)), kSlotsPerExtent);
    settle();
  }
  Session large = *cache_->open_session(options(512_KiB));
  const BlockChain theirs = chain(large, 1, 9);
  EXPECT_EQ(large.reserve(theirs, 0).outcome(0), Reserved::kBusy) << "an extent is asked for";
  executor_.run_all();
  EXPECT_EQ(cache_->stats().handovers, 1U) << "nobody has to call again for it";
  EXPECT_EQ(large.reserve(theirs, 0).outcome(0), Reserved::kYes);
  settle();
}

TEST_F(Core, a_store_finds_the_room_of_pins_whose_time_is_over) {
  Config config = two_extents();
  config.limits.pinned_percent = 100;
  start(config);
  const BlockChain all = chain(*session_, 2 * kSlotsPerExtent, 1);
  ASSERT_EQ(store(*session_, all), all.size());
  settle();
  auto pin = session_->pin(all, all.size(), 10s);
  ASSERT_TRUE(pin) << pin.error().message;
  EXPECT_EQ(session_->reserve(chain(*session_, 1, 2), 0).outcome(0), Reserved::kBusy);
  clock_.advance(11'000'000'000);
  EXPECT_EQ(session_->reserve(chain(*session_, 1, 2), 0).outcome(0), Reserved::kYes);
  settle();
}

TEST_F(Core, a_store_finds_the_one_leaf_behind_thousands_of_pinned_blocks) {
  Config config = two_extents();
  config.host.capacity = 16_MiB;
  config.host.min_slot_bytes = 4_KiB;
  config.limits.pinned_percent = 100;
  start(config);
  constexpr std::size_t kSlots = 16_MiB / 4_KiB;
  Session small = *cache_->open_session(options(4_KiB));
  const BlockChain pinned = chain(small, kSlots - 1, 1);
  ASSERT_EQ(store(small, pinned), pinned.size());
  ASSERT_EQ(store(small, chain(small, 1, 2)), 1U);
  settle();
  auto pin = small.pin(pinned, pinned.size(), 1min);
  ASSERT_TRUE(pin) << pin.error().message;
  Reservation room = small.reserve(chain(small, 2, 3), 0);
  EXPECT_EQ(room.outcome(0), Reserved::kYes);
  EXPECT_EQ(room.outcome(1), Reserved::kBusy) << "its parent is all that is not pinned";
  room = {};
  settle();
}

TEST_F(Core, a_pin_that_was_dropped_early_leaves_no_record_behind) {
  start(two_extents());
  const BlockChain one = chain(*session_, 1, 1);
  store(*session_, one);
  settle();
  auto lasting = session_->pin(one, 1, 1s);
  for (int i = 0; i < 1'000; ++i) ASSERT_TRUE(session_->pin(one, 1, 10s));
  EXPECT_EQ(core_->pin_records(), 1U);
}

TEST_F(Core, a_load_that_is_done_says_its_outcome_before_wait) {
  Config config = two_extents();
  config.integrity.mode = IntegrityMode::kParanoid;
  start(config);
  const BlockChain two = chain(*session_, 2, 1);
  ASSERT_EQ(store(*session_, two), 2U);
  settle();
  Load load = session_->load(two, 2, 1s);
  EXPECT_FALSE(load.done());
  executor_.run_all();
  EXPECT_TRUE(load.done());
  EXPECT_EQ(load.outcome(), LoadOutcome::kComplete);
  EXPECT_EQ(load.wait().size(), 2U);
}

TEST_F(Core, a_load_past_its_deadline_is_done) {
  Config config = two_extents();
  config.integrity.mode = IntegrityMode::kParanoid;
  start(config);
  const BlockChain two = chain(*session_, 2, 1);
  ASSERT_EQ(store(*session_, two), 2U);
  settle();
  Load load = session_->load(two, 2, 1s);
  clock_.advance(2'000'000'000);
  EXPECT_TRUE(load.done()) << "whoever only polls must not wait for a worker that does not come";
  EXPECT_EQ(load.outcome(), LoadOutcome::kDeadline);
  executor_.run_all();
  EXPECT_TRUE(load.wait().empty()) << "the answer was final";
}

/// Has no room for tasks; runs `at_submit` where another thread could come in between.
class FullExecutor final : public Executor {
 public:
  [[nodiscard]] bool submit(Task) override {
    if (at_submit) std::exchange(at_submit, nullptr)();
    return false;
  }
  bool wait_until(const std::function<bool()>& ready, std::uint64_t) override { return ready(); }
  void wake() noexcept override {}
  [[nodiscard]] std::size_t concurrency() const noexcept override { return 1; }
  std::function<void()> at_submit;
};

TEST(Cache, a_checksum_that_the_committer_takes_holds_no_lock) {
  ManualClock clock;
  FullExecutor executor;
  HostCopyEngine copies(executor);
  Config config = two_extents();
  config.integrity.mode = IntegrityMode::kParanoid;
  auto core = *detail::CacheCore::create(config, {.clock = clock, .executor = executor, .copies = copies});
  Cache cache(core, nullptr);
  Session session = *cache.open_session(options(kBlockBytes));
  const BlockChain two = chain(session, 2, 1);
  Reservation room = session.reserve(two, 0);
  executor.at_submit = [&] { session.close(); };  // would wait for ever for a lock that the commit holds
  EXPECT_TRUE(room.writer(0).commit()) << "it was first";
  ASSERT_FALSE(executor.at_submit);
  EXPECT_EQ(room.writer(1).commit().error().code, ErrorCode::kClosed);
  room = {};
  EXPECT_EQ(cache.stats().tiers[0].blocks, 1U) << "its checksum was taken";
  EXPECT_TRUE(cache.close(0ns));
}

/// Runs `at_next` once, when the time is asked for: that is where another thread could come in between.
class InterruptingClock final : public Clock {
 public:
  [[nodiscard]] std::uint64_t now_ns() const noexcept override {
    if (at_next) std::exchange(at_next, nullptr)();
    return 1;
  }
  mutable std::function<void()> at_next;
};

SessionOptions rank(std::uint32_t member) {
  SessionOptions o = options(kBlockBytes);
  o.group = {.engine_id = "engine", .members = 2, .member = member};
  return o;
}

TEST(Cache, a_reservation_that_a_rank_leaves_in_the_middle_of_cannot_stay_incomplete) {
  InterruptingClock clock;
  ManualExecutor executor(clock);
  HostCopyEngine copies(executor);
  auto core = *detail::CacheCore::create(two_extents(), {.clock = clock, .executor = executor, .copies = copies});
  Cache cache(core, nullptr);
  Session scheduler = *cache.open_session(rank(0));
  Session other = *cache.open_session(rank(1));
  const BlockChain two = chain(scheduler, 2, 1);
  clock.at_next = [&] { other.close(); };
  Reservation room = scheduler.reserve(two, 0);
  ASSERT_FALSE(clock.at_next) << "the rank left meanwhile";
  ASSERT_EQ(room.outcome(0), Reserved::kYes);
  EXPECT_EQ(room.writer(0).commit().error().code, ErrorCode::kClosed);
  room = {};
  EXPECT_EQ(scheduler.reserve(two, 0).writer(0).commit().error().code, ErrorCode::kClosed) << "its part cannot come";
  other = *cache.open_session(rank(1));
  room = scheduler.reserve(two, 0);
  EXPECT_EQ(room.writer(0).commit().error().code, ErrorCode::kIncomplete);
  EXPECT_TRUE(other.report(room.id(), 0));
  EXPECT_TRUE(room.writer(0).commit());
  EXPECT_EQ(core->stats().aborted_blocks, 4U);
}

TEST_F(Core, a_new_namespace_finds_room_in_a_full_index) {
  Config config = two_extents();
  config.index.blocks = 8;
  start(config);
  EXPECT_EQ(store(*session_, chain(*session_, 7, 1)), 7U);
  settle();
  EXPECT_EQ(session_->reserve(chain(*session_, 1, 1, "other"), 0).outcome(0), Reserved::kYes);
  settle();
}

TEST(Cache, a_second_close_does_not_hide_copies_that_still_run) {
  Cache cache = *Cache::open(two_extents());
  Session session = *cache.open_session(options(kBlockBytes));
  Reservation room = session.reserve(chain(session, 1, 1), 0);
  CopyPin copy = room.writer(0).begin_copy();
  room = {};
  EXPECT_EQ(cache.close(0ns).error().code, ErrorCode::kTimeout);
  EXPECT_EQ(cache.close(0ns).error().code, ErrorCode::kTimeout);
  copy = {};
  EXPECT_TRUE(cache.close(0ns));
}

TEST(Cache, threads_that_the_system_refuses_are_an_error_and_do_not_end_the_process) {
  pthread_attr_t usual;
  ASSERT_EQ(pthread_getattr_default_np(&usual), 0);
  pthread_attr_t huge;
  ASSERT_EQ(pthread_getattr_default_np(&huge), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&huge, 1_TiB), 0);  // the address space has room for a hundred of these
  ASSERT_EQ(pthread_setattr_default_np(&huge), 0);
  Config config = two_extents();
  config.workers.threads = 1'000;
  const auto cache = Cache::open(config);
  ASSERT_EQ(pthread_setattr_default_np(&usual), 0);
  ASSERT_FALSE(cache);
  EXPECT_EQ(cache.error().code, ErrorCode::kIo);
  EXPECT_NE(cache.error().message.find("workers.threads"), std::string::npos) << cache.error().message;
}

TEST(Cache, more_slots_than_ids_are_an_error_that_names_the_key) {
  Config config = two_extents();
  config.host.capacity = 16_TiB;
  config.host.min_slot_bytes = 4_KiB;
  config.index.blocks = 1'000;
  const auto cache = Cache::open(config);
  ASSERT_FALSE(cache);
  EXPECT_EQ(cache.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(cache.error().message.find("host.min_slot_bytes"), std::string::npos) << cache.error().message;
}

}  // namespace
}  // namespace tiercel
