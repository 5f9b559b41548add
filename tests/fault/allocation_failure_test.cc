// Goal: memory that runs out in the middle of any public call is an answer, never a crash, a leak or a half-changed
// cache. Method: fail the i-th allocation of a call for i = 0, 1, ... until the call gets through, on the calling
// thread alone; after each failure the index and the slots are walked, nothing may be held, and the same call then
// works.
#include "cache/core.h"
#include "cache/local_session.h"
#include "cache/testing/disk_world.h"
#include "transfer/host_copy_engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <new>
#include <string>
#include <utility>

namespace {

thread_local std::int64_t allocations_left = -1;  // before the one that fails; negative: none does

bool fails_now() {
  if (allocations_left < 0) return false;
  return allocations_left-- == 0;  // one fails, what is needed to answer about it does not
}

void* allocate(std::size_t bytes) {
  if (fails_now()) throw std::bad_alloc();
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// Replaced for the whole program; aligned forms too, so that none escapes.
void* operator new(std::size_t bytes) { return allocate(bytes); }
void* operator new[](std::size_t bytes) { return allocate(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace tiercel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kBlockBytes = 64_KiB;

class AllocationFailure : public ::testing::TestWithParam<IntegrityMode> {
 protected:
  AllocationFailure()
      : executor_(clock_),
        copies_(executor_),
        core_(*detail::CacheCore::create(
            {.host = {.capacity = 4_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = 64_KiB},
             .integrity = {.mode = GetParam()}},
            {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7})),
        cache_(core_, nullptr),
        session_(*cache_.open_session(options(kBlockBytes))) {}
  ~AllocationFailure() override { (void)cache_.close(0ns); }

  static SessionOptions options(std::uint64_t bytes) {
    return {.model = {.kv_dtype = "f16"}, .block_tokens = 4, .layout = Layout::blob(bytes)};
  }
  BlockChain chain(TokenId seed, std::size_t blocks = 8) {
    std::vector<TokenId> tokens;
    for (std::size_t i = 0; i < 4 * blocks; ++i) tokens.push_back(seed * 1'000 + static_cast<TokenId>(i));
    return hash_blocks(session_.space(), tokens);
  }
  void store(const BlockChain& c) {
    Reservation room = session_.reserve(c, 0);
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) == Reserved::kYes) {
        EXPECT_TRUE(room.writer(i).commit());
      }
    }
    room = {};
    settle();
  }
  void settle() {
    executor_.run_all();
    core_->check_consistency();
  }
  /// Calls `call` with the i-th allocation failing, for every i, until it says that it got all it wanted.
  void fail_each(const std::function<bool()>& call) {
    for (std::int64_t i = 0; i < 10'000; ++i) {
      allocations_left = i;
      const bool whole = call();
      const bool ran_out = allocations_left < 0;
      allocations_left = -1;
      settle();
      const Stats stats = cache_.stats();
      ASSERT_EQ(stats.copy_pins, 0U) << "after allocation " << i;
      ASSERT_EQ(stats.logical_pins, 0U) << "after allocation " << i;
      ASSERT_EQ(stats.tiers[0].quarantined_slots, 0U) << "after allocation " << i;
      if (whole && !ran_out) {
        EXPECT_GT(i, 0) << "the call allocates, or this test is about nothing";
        return;
      }
    }
    FAIL() << "never got through";
  }

  ManualClock clock_;
  ManualExecutor executor_;
  HostCopyEngine copies_;
  std::shared_ptr<detail::CacheCore> core_;
  Cache cache_;
  Session session_;
};

TEST_P(AllocationFailure, match) {
  const BlockChain c = chain(1);
  store(c);
  fail_each([&] { return session_.match(c).blocks() == c.size(); });
}

TEST_P(AllocationFailure, reserve_commit_and_drop_of_the_reservation) {
  TokenId seed = 10;
  fail_each([&] {
    const std::int64_t armed = std::exchange(allocations_left, -1);
    const BlockChain c = chain(seed++);
    allocations_left = armed;
    Reservation room = session_.reserve(c, 0);
    bool whole = room.size() == c.size();
    for (std::size_t i = 0; i < room.size(); ++i) {
      whole = whole && room.outcome(i) == Reserved::kYes && room.writer(i).commit().has_value();
    }
    return whole;
  });
}

TEST_P(AllocationFailure, commit_of_several) {
  TokenId seed = 10;
  fail_each([&] {
    const std::int64_t armed = std::exchange(allocations_left, -1);
    const BlockChain c = chain(seed++);
    allocations_left = armed;
    Reservation room = session_.reserve(c, 0);
    const auto done = room.commit_all();
    return done.has_value() && done->blocks == c.size() && done->failures.empty();
  });
}

TEST_P(AllocationFailure, reserve_that_aborts) {
  TokenId seed = 10;
  fail_each([&] {
    const std::int64_t armed = std::exchange(allocations_left, -1);
    const BlockChain c = chain(seed++);
    allocations_left = armed;
    Reservation room = session_.reserve(c, 0);
    return room.size() == c.size() && room.outcome(7) == Reserved::kYes;
  });
}

TEST_P(AllocationFailure, a_session_of_a_group) {
  std::uint32_t engines = 0;
  fail_each([&] {
    const std::int64_t armed = std::exchange(allocations_left, -1);
    SessionOptions rank = options(kBlockBytes);
    rank.group = {.engine_id = "an engine whose name does not fit a small string " + std::to_string(++engines),
                  .members = 2};
    allocations_left = armed;
    const bool whole = cache_.open_session(rank).has_value();
    if (allocations_left >= 0) return whole;
    rank.group.members = 3;
    EXPECT_TRUE(cache_.open_session(rank)) << "the failed call left a group of two behind";
    return false;
  });
}

TEST_P(AllocationFailure, load) {
  const BlockChain c = chain(1);
  store(c);
  fail_each([&] {
    Load load = session_.load(c, c.size(), 1s);
    return load.wait().size() == c.size();
  });
}

TEST_P(AllocationFailure, pin) {
  const BlockChain c = chain(1);
  store(c);
  fail_each([&] {
    auto pin = session_.pin(c, c.size(), 1s);
    if (!pin) {
      EXPECT_EQ(pin.error().code, ErrorCode::kOutOfMemory);
    }
    return pin && pin->blocks() == c.size();
  });
}

TEST_P(AllocationFailure, drop) {
  const BlockChain c = chain(1);
  fail_each([&] {
    const std::int64_t armed = std::exchange(allocations_left, -1);
    store(c);
    allocations_left = armed;
    const auto dropped = session_.drop(c, 0);
    if (!dropped) {
      EXPECT_EQ(dropped.error().code, ErrorCode::kOutOfMemory);
    }
    return dropped && session_.match(c).blocks() == 0;
  });
}

TEST_P(AllocationFailure, open_session) {
  const SessionOptions larger = options(128_KiB);
  fail_each([&] {
    auto session = cache_.open_session(larger);
    if (!session) {
      EXPECT_EQ(session.error().code, ErrorCode::kOutOfMemory) << session.error().message;
    }
    return session.has_value();
  });
  EXPECT_EQ(cache_.stats().sessions, 1U);
}

TEST_P(AllocationFailure, open_cache) {
  const Config config{.host = {.capacity = 4_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = 64_KiB},
                      .workers = {.threads = 1}};
  fail_each([&] {
    auto cache = Cache::open(config);
    if (!cache) {
      EXPECT_EQ(cache.error().code, ErrorCode::kOutOfMemory) << cache.error().message;
    }
    return cache.has_value();
  });
}

class AllocationFailureOfADiskDelete : public ::testing::Test {
 protected:
  static Config config() {
    Config config = testing::DiskWorld::config();
    config.disk.io_deadline = 100ms;
    config.disk.probe_interval = 10ms;
    return config;
  }
  AllocationFailureOfADiskDelete() : world_(config()) {
    world_.on_wait = [this] { ran_out_ = std::exchange(allocations_left, -1) < 0; };  // the driver is not under test
    world_.settle();
  }
  /// True: it got all that it wanted.
  bool drop(std::int64_t allocations, const BlockChain& chain) {
    ran_out_ = true;
    allocations_left = allocations;
    const auto dropped = world_.session().drop(chain, 0);
    allocations_left = -1;
    if (!dropped) {
      EXPECT_EQ(dropped.error().code, ErrorCode::kOutOfMemory);
    }
    return dropped && !ran_out_;
  }

  testing::DiskWorld world_;
  bool ran_out_ = false;
};

TEST_F(AllocationFailureOfADiskDelete, leaves_no_slot_behind) {
  for (std::int64_t i = 0; i < 10'000; ++i) {
    const BlockChain chain = world_.chain(8, static_cast<TokenId>(i));
    ASSERT_EQ(world_.store(chain, static_cast<TokenId>(i)), 8U);
    world_.settle();
    const bool whole = drop(i, chain);
    world_.settle();
    EXPECT_EQ(world_.host().quarantined_slots, 0U) << "after allocation " << i;
    EXPECT_EQ(world_.disk().quarantined_slots, 0U) << "after allocation " << i;
    if (whole) {
      EXPECT_EQ(world_.session().match(chain).blocks(), 0U);
      EXPECT_GT(i, 5);
      return;
    }
  }
  FAIL() << "never got through";
}

TEST_F(AllocationFailureOfADiskDelete, covers_nothing_that_a_later_directory_has) {
  const BlockChain chain = world_.chain(8, 1);
  ASSERT_EQ(world_.store(chain, 1), 8U);
  world_.settle();
  world_.stop();
  std::string place = "/disk";
  for (std::int64_t i = 0; i < 10'000; ++i) {
    const std::string late = "/late" + std::to_string(i);
    world_.configuration().disk.directories = {late};
    world_.start();
    world_.advance(1s);
    world_.settle();
    const bool whole = drop(i, chain);
    world_.memory().make_directory(late);
    ASSERT_TRUE(world_.memory().rename(place + "/tiercel.kv", late + "/tiercel.kv"));
    place = late;
    for (int turn = 0; turn < 20; ++turn) {
      world_.advance(100ms);
      world_.settle(20);
    }
    EXPECT_EQ(world_.session().match(chain).blocks(), whole ? 0U : 8U) << "after allocation " << i;
    world_.stop();
    if (whole || HasFailure()) return;
  }
  FAIL() << "never got through";
}

INSTANTIATE_TEST_SUITE_P(Modes, AllocationFailure, ::testing::Values(IntegrityMode::kNormal, IntegrityMode::kParanoid),
                         [](const auto& mode) { return mode.param == IntegrityMode::kNormal ? "normal" : "paranoid"; });

}  // namespace
}  // namespace tiercel
