// Goal: every counter and gauge of Stats moves when its thing happens. Method: make each thing happen once on a small
// cache turned by hand; at the end every word of Stats must have been above zero at some time, but for those that are
// listed as those of another test or of tiers that this version does not have.
#include "cache/core.h"
#include "cache/local_session.h"
#include "transfer/host_copy_engine.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <set>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kWords = sizeof(Stats) / 8;
static_assert(sizeof(Stats) % 8 == 0);
using Words = std::array<std::uint64_t, kWords>;

constexpr std::uint64_t kBlockBytes = 64_KiB;
constexpr std::size_t kSlots = 4_MiB / kBlockBytes;

class EveryStat : public testing::Test {
 protected:
  explicit EveryStat(IntegrityMode mode = IntegrityMode::kNormal)
      : executor_(clock_, 8),
        copies_(executor_),
        core_(*detail::CacheCore::create(
            {.host = {.capacity = 4_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = 64_KiB},
             .integrity = {.mode = mode}},
            {.clock = clock_, .executor = executor_, .copies = copies_, .seed = 7})),
        cache_(core_, nullptr),
        session_(*cache_.open_session(options(kBlockBytes))) {}
  ~EveryStat() override { (void)cache_.close(0ns); }

  static SessionOptions options(std::uint64_t bytes) {
    return {.model = {.kv_dtype = "f16"}, .block_tokens = 4, .layout = Layout::blob(bytes)};
  }
  BlockChain chain(TokenId seed, std::size_t blocks) {
    std::vector<TokenId> tokens;
    for (std::size_t i = 0; i < 4 * blocks; ++i) tokens.push_back(seed * 10'000 + static_cast<TokenId>(i));
    return hash_blocks(session_.space(), tokens);
  }
  void store(const BlockChain& c) {
    Reservation room = session_.reserve(c, 0);
    clock_.advance(1'000'000);
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) == Reserved::kYes) {
        EXPECT_TRUE(room.writer(i).commit());
      }
    }
    room = {};
    executor_.run_all();
    note();
  }
  void note() {
    const Stats stats = cache_.stats();
    Words now;
    std::memcpy(now.data(), &stats, sizeof stats);
    for (std::size_t i = 0; i < kWords; ++i) most_[i] = std::max(most_[i], now[i]);
  }

  ManualClock clock_;
  ManualExecutor executor_;
  HostCopyEngine copies_;
  std::shared_ptr<detail::CacheCore> core_;
  Cache cache_;
  Session session_;
  Words most_{};
};

class EveryStatParanoid : public EveryStat {
 protected:
  EveryStatParanoid() : EveryStat(IntegrityMode::kParanoid) {}
};

std::size_t word(std::size_t offset_bytes) { return offset_bytes / 8; }

TEST_F(EveryStat, moves) {
  const BlockChain a = chain(1, 4);
  note();  // sessions, capacity, free extents
  (void)session_.match(a);
  store(a);
  (void)session_.match(a);
  {
    Load whole = session_.load(a, 4, 1s);
    Load miss = session_.load(a, 5, 1s);
    clock_.advance(5'000'000'000);
    note();  // copy pins
  }
  {
    Reservation first = session_.reserve(chain(2, 2), 0);
    Reservation second = session_.reserve(chain(2, 2), 0);  // in flight
    Reservation orphan = session_.reserve(chain(3, 3), 1);  // no parent
    Reservation exists = session_.reserve(a, 0);
    EXPECT_FALSE(first.writer(0).commit(0));
    const CopyPin copy = first.writer(1).begin_copy();
    first = {};
    note();  // quarantine, aborts
  }
  {
    auto pin = session_.pin(a, 4, 1s);
    ASSERT_TRUE(pin);
    note();
    clock_.advance(2'000'000'000);
    note();  // expired
  }
  {
    const BlockChain d = chain(4, 2);
    store(d);
    Load held = session_.load(d, 2, 1s);
    EXPECT_TRUE(session_.drop(d, 0));
    note();
  }
  {  // a stub: a block whose child is being filled goes
    const BlockChain s = chain(5, 2);
    Reservation room = session_.reserve(s, 0);
    EXPECT_EQ(room.outcome(1), Reserved::kYes);
    room.writer(0).abort();
    note();
  }
  store(chain(6, kSlots));  // evicts
  {
    Session large = *cache_.open_session(options(512_KiB));
    std::vector<TokenId> tokens(8, 9);
    const BlockChain theirs = hash_blocks(large.space(), tokens);
    {
      Load everything = session_.load(chain(6, kSlots), kSlots, 1s);
      (void)large.reserve(theirs, 0);  // busy; every extent is pinned
      executor_.run_all();
      note();
    }
    (void)large.reserve(theirs, 0);
    executor_.run_all();  // hands an extent over, moves blocks
    note();
  }
  for (int i = 0; i < 10; ++i) (void)session_.load(chain(6, 4), 4, 1s).wait();  // more touches than the queue holds
  note();
  cache_.set_mode(Mode::kOff);
  (void)session_.match(a);
  (void)session_.load(a, 4, 1s);
  (void)session_.reserve(a, 0);
  cache_.set_mode(Mode::kOn);
  Session closed = *cache_.open_session(options(kBlockBytes));
  closed.close();
  (void)closed.reserve(chain(1, 1), 0);
  note();

  std::set<std::size_t> unreachable{
      word(offsetof(Stats, load_outcomes)) + static_cast<std::size_t>(LoadOutcome::kBusy),
      word(offsetof(Stats, load_outcomes)) + static_cast<std::size_t>(LoadOutcome::kDeadline),  // paranoid, below
      word(offsetof(Stats, load_outcomes)) + static_cast<std::size_t>(LoadOutcome::kCorrupt),   // paranoid, below
      word(offsetof(Stats, load_outcomes)) + static_cast<std::size_t>(LoadOutcome::kClosed),
      word(offsetof(Stats, checksum_failures)),  // paranoid, below
  };
  const auto skip = [&](std::size_t from_bytes, std::size_t to_bytes) {
    for (std::size_t i = word(from_bytes); i < word(to_bytes); ++i) unreachable.insert(i);
  };
  unreachable.insert(word(offsetof(Stats, load_outcomes)) + static_cast<std::size_t>(LoadOutcome::kSlower));
  skip(offsetof(Stats, load_plans), offsetof(Stats, sessions));             // planned_loads_test.cc
  skip(sizeof(TierStats), kTierCount * sizeof(TierStats));                  // disk_stats_test.cc
  skip(offsetof(Stats, disk_directories), offsetof(Stats, match_latency));  // disk_stats_test.cc
  skip(offsetof(Stats, demotion_latency), offsetof(Stats, demotion_latency) + sizeof(LatencyHistogram));
  // Buckets of histograms: a call falls into one; the sums must move.
  for (const std::size_t histogram : {offsetof(Stats, match_latency), offsetof(Stats, reserve_latency),
                                      offsetof(Stats, load_latency), offsetof(Stats, fill_latency)}) {
    std::uint64_t counted = 0;
    for (std::size_t b = 0; b < LatencyHistogram::kBuckets; ++b) {
      counted += most_[word(histogram) + b];
      unreachable.insert(word(histogram) + b);
    }
    EXPECT_GT(counted, 0U);
    unreachable.insert(word(histogram) + word(offsetof(LatencyHistogram, sum_ns)));  // time is turned by hand
  }
  EXPECT_GT(most_[word(offsetof(Stats, fill_latency)) + word(offsetof(LatencyHistogram, sum_ns))], 0U);
  for (std::size_t i = 0; i < kWords; ++i) {
    EXPECT_TRUE(most_[i] > 0 || unreachable.contains(i)) << "word " << i << " of Stats never moved";
  }
}

TEST_F(EveryStatParanoid, moves) {
  const BlockChain a = chain(1, 4);
  store(a);
  {
    Load late = session_.load(a, 4, 0ns);
    EXPECT_TRUE(late.wait().empty());
    EXPECT_EQ(late.outcome(), LoadOutcome::kDeadline);
  }
  executor_.run_all();
  {
    Load load = session_.load(a, 1, 1s);
    ASSERT_EQ(load.wait().size(), 1U);
    const_cast<std::byte&>(load.wait()[0].bytes()[3]) ^= std::byte{1};
  }
  {
    Load load = session_.load(a, 4, 1s);
    EXPECT_TRUE(load.wait().empty());
  }
  executor_.run_all();
  const Stats stats = cache_.stats();
  EXPECT_EQ(stats.checksum_failures, 1U);
  EXPECT_EQ(stats.load_outcomes[static_cast<std::size_t>(LoadOutcome::kDeadline)], 1U);
  EXPECT_EQ(stats.load_outcomes[static_cast<std::size_t>(LoadOutcome::kCorrupt)], 1U);
}

}  // namespace
}  // namespace tiercel
