// Goal: eight threads store, load, pin, drop, delete, hold copies back and end sessions on a small arena with two block
// sizes, and every load is exactly one commit, whole; at the end nothing is held, pinned or in quarantine.
//
// Method: a block's bytes are a function of (key, writer, sequence number), and its first words say which; so a block
// mixed from two fills, or of another key, is seen. Copies are held back at random: writers dropped and blocks deleted
// while a CopyPin lives, which then goes on writing or reading. Usage: cache_stress_test [--operations N] [--seed N].
#include "base/random.h"
#include "base/testing/pass_queue.h"
#include "cache/core.h"
#include "cache/disk_drivers.h"
#include "cache/local_session.h"
#include "io/memory_file_system.h"
#include "transfer/host_copy_engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

struct Arguments {
  std::uint64_t operations = 100'000;
  std::uint64_t seed = 1;
};
Arguments arguments;  // set by main before any test runs

constexpr std::size_t kThreads = 8;
constexpr std::uint32_t kBlockTokens = 2;
constexpr std::uint64_t kSmallBytes = 4'096;
constexpr std::uint64_t kLargeBytes = 40'960;
constexpr std::uint64_t kConversations = 96;
constexpr std::size_t kLongest = 24;

std::uint64_t mix(std::uint64_t a, std::uint64_t b) { return Random(a * 0x9E37'79B9'7F4A'7C15U ^ b).next(); }

struct Stamp {
  std::uint64_t key;
  std::uint64_t writer;
  std::uint64_t sequence;
};

void write_block(std::span<std::byte> bytes, const Stamp& stamp) {
  const std::uint64_t seed = mix(mix(stamp.key, stamp.writer), stamp.sequence);
  std::memcpy(bytes.data(), &stamp, sizeof stamp);
  for (std::size_t at = sizeof stamp; at + 8 <= bytes.size(); at += 8) {
    const std::uint64_t word = seed + at;
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
}

/// Are these bytes one whole commit of `key`?
bool is_one_commit(std::span<const std::byte> bytes, std::uint64_t key) {
  Stamp stamp{};
  std::memcpy(&stamp, bytes.data(), sizeof stamp);
  if (stamp.key != key || stamp.writer >= kThreads) return false;
  const std::uint64_t seed = mix(mix(stamp.key, stamp.writer), stamp.sequence);
  for (std::size_t at = sizeof stamp; at + 8 <= bytes.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    if (word != seed + at) return false;
  }
  return true;
}

SessionOptions options(std::uint64_t bytes) {
  return {.model = {.kv_dtype = "f16"}, .block_tokens = kBlockTokens, .layout = Layout::blob(bytes)};
}

/// Steady time, 1,024 times as fast: hours of ageing, of what hand-overs decide by, in seconds.
class FastClock final : public Clock {
 public:
  [[nodiscard]] std::uint64_t now_ns() const noexcept override { return 1'024 * steady_.now_ns(); }

 private:
  SteadyClock steady_;
};

struct Kind {
  const char* name;
  IntegrityMode mode = IntegrityMode::kNormal;
  bool disk = false;
};

Config config(const Kind& kind) {
  Config config{.host = {.capacity = 16_MiB, .prefault = false, .extent_bytes = 2_MiB, .min_slot_bytes = kSmallBytes},
                .index = {.blocks = kind.disk ? 6'000U : 3'000U},
                .integrity = {.mode = kind.mode},
                .limits = {.namespaces = 8, .pinned_percent = 30, .handover_deadline = 60'000ms}};
  if (!kind.disk) return config;
  config.disk.directories = {"/a", "/b"};
  config.disk.capacity = 8_MiB;
  config.disk.io_deadline = 600'000ms;  // of the fast clock: 0.6 s
  return config;
}

std::shared_ptr<MemoryFileSystem> disk_files() {
  auto files = std::make_shared<MemoryFileSystem>();
  files->make_directory("/a");
  files->make_directory("/b");
  return files;
}

struct Shared {
  explicit Shared(const Kind& kind)
      : files(disk_files()),
        executor({.threads = 2, .queue_capacity = 256}, clock),
        copies(executor),
        core(*detail::CacheCore::create(
            config(kind),
            {.clock = clock, .executor = executor, .copies = copies, .seed = arguments.seed, .files = files.get()})),
        cache(core, nullptr) {
    drivers.start(core, files);
    (void)cache.wait_for_disks(6'000s);
  }
  ~Shared() {
    (void)cache.close(0ns);
    (void)drivers.stop(*core, 20s);
  }

  /// Nothing moves and nothing waits to be moved, before and after the queue has been passed; false after 20 s. A
  /// pause between two writes to disk is not rest: the blocks behind them are counted.
  bool comes_to_rest() {
    const auto rests = [this] {
      const Stats now = cache.stats();
      return now.copy_pins == 0 && now.tiers[0].quarantined_slots == 0 && now.demotions_queued == 0;
    };
    const std::uint64_t end_ns = clock.now_ns() + 20'000'000'000'000U;
    while (clock.now_ns() < end_ns) {
      (void)executor.wait_until(rests, clock.now_ns() + 10'000'000U);
      const bool before = rests();
      pass_queue(executor);
      if (before && rests()) return true;
    }
    return false;
  }

  FastClock clock;
  std::shared_ptr<MemoryFileSystem> files;
  ThreadedExecutor executor;
  HostCopyEngine copies;
  std::shared_ptr<detail::CacheCore> core;
  Cache cache;
  detail::DiskDrivers drivers;
  std::atomic<std::int64_t> left{0};  // operations; relaxed: a countdown
  std::atomic<std::uint64_t> loaded{0};
  std::atomic<std::uint64_t> stored{0};
  std::atomic<std::uint64_t> wrong{0};
};

/// A copy that outlives its writer or reference, and goes on touching the bytes until it is let go.
struct HeldCopy {
  CopyPin pin;
  std::span<std::byte> writes;
  std::span<const std::byte> reads;
  std::uint64_t key = 0;
};

class Worker {
 public:
  Worker(Shared& shared, std::uint64_t id) : shared_(shared), id_(id), random_(mix(arguments.seed, id)) {
    reopen(0), reopen(1);
  }

  void run() {
    while (shared_.left.fetch_sub(1, std::memory_order_relaxed) > 0) {
      choose();
      const std::uint64_t dice = random_.below(1000);
      if (dice < 450) {
        load();
      } else if (dice < 900) {
        store();
      } else if (dice < 940) {
        pin();
      } else if (dice < 970) {
        if (auto done = session().drop(*chain_, random_.below(chain_->size())); !done) ++shared_.wrong;
      } else if (dice < 972) {
        if (auto done = session().drop(session().space(tenant())); !done) ++shared_.wrong;
      } else if (dice < 973) {
        if (random_.below(16) != 0) continue;
        if (auto done = shared_.cache.drop_tenant(tenant()); !done) ++shared_.wrong;
      } else if (dice < 974) {
        // One alone: if both were capped the arena would never be full, and no extent would change sides.
        if (!shared_.cache.set_tenant("even", random_.below(3) == 0 ? shares() : TenantConfig{})) ++shared_.wrong;
      } else if (dice < 976) {
        reopen(size_);
      } else if (dice < 980) {
        (void)shared_.cache.stats();
        for (const TenantReport& one : shared_.cache.tenants()) shared_.wrong += one.name.empty() ? 1U : 0U;
      } else {
        let_go(random_.below(held_.size() + 1));
      }
      while (held_.size() > 2) let_go(0);
    }
    pins_.clear();
    while (!held_.empty()) let_go(0);
  }

 private:
  Session& session() { return *sessions_[size_]; }
  std::string_view tenant() const { return size_ == 0 && conversation_ % 2 == 0 ? "even" : "odd"; }
  void reopen(std::size_t size) {
    sessions_[size].reset();
    auto opened = shared_.cache.open_session(options(size == 0 ? kSmallBytes : kLargeBytes));
    ASSERT_TRUE(opened) << opened.error().message;
    sessions_[size].emplace(std::move(*opened));
  }
  TenantConfig shares() {
    return {.host_guarantee = TierShare::of_percent(random_.below(30)),
            .host_cap = TierShare::of_percent(40 + random_.below(61)),
            .disk_guarantee = TierShare::of_percent(random_.below(30)),
            .disk_cap = TierShare::of_percent(40 + random_.below(61))};
  }
  /// A conversation: its first blocks are shared by all of the same tenant and size, so the tree branches.
  void choose() {
    // The favoured size changes eight times, so that extents change sides.
    const auto left =
        static_cast<std::uint64_t>(std::max<std::int64_t>(0, shared_.left.load(std::memory_order_relaxed)));
    const bool favour_large = left * 16 / arguments.operations % 2 == 0;
    size_ = (random_.below(50) == 0) == favour_large ? 0 : 1;
    conversation_ = random_.below(kConversations);
    std::vector<TokenId> tokens;
    const std::size_t blocks = 1 + random_.below(kLongest);
    for (std::size_t i = 0; i < blocks * kBlockTokens; ++i) {
      const bool common = i < 3 * kBlockTokens;
      tokens.push_back(static_cast<TokenId>(common ? i : i + 1'000 * (1 + conversation_)));
    }
    chain_.emplace(hash_blocks(session().space(tenant()), tokens));
  }
  std::uint64_t key(std::size_t block) const {
    std::uint64_t key = 0;
    std::memcpy(&key, (*chain_)[block].bytes.data(), sizeof key);
    return key;
  }

  void load() {
    Load load = session().load(*chain_, chain_->size(), 6'000s);
    const auto blocks = load.wait();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (!is_one_commit(blocks[i].bytes(), key(i))) shared_.wrong.fetch_add(1);
    }
    shared_.loaded.fetch_add(blocks.size(), std::memory_order_relaxed);
    if (blocks.empty() || random_.below(8) != 0) return;
    const std::size_t i = random_.below(blocks.size());
    held_.push_back({.pin = blocks[i].begin_copy(), .reads = blocks[i].bytes(), .key = key(i)});
  }

  void store() {
    const std::size_t first = std::min<std::size_t>(session().match(*chain_).blocks(), chain_->size());
    Reservation room = session().reserve(*chain_, first, 1 + random_.below(kLongest));
    for (std::size_t i = 0; i < room.size(); ++i) {
      if (room.outcome(i) != Reserved::kYes) continue;
      Writer& writer = room.writer(i);
      const Stamp stamp{.key = key(first + i), .writer = id_, .sequence = ++sequence_};
      const std::uint64_t dice = random_.below(100);
      const std::span<std::byte> bytes = writer.bytes();
      if (dice < 6) {  // given up, while a copy into it goes on
        held_.push_back({.pin = writer.begin_copy(), .writes = bytes, .key = stamp.key});
        if (dice < 3) writer.abort();
        continue;
      }
      if (dice < 9) continue;
      const std::size_t length = random_.below(2) == 0 ? bytes.size() : 64 + 8 * random_.below(bytes.size() / 16);
      write_block(bytes.first(length), stamp);
      if (const Status status = writer.commit(length)) {
        shared_.stored.fetch_add(1, std::memory_order_relaxed);
      } else if (status.error().code != ErrorCode::kDropped && status.error().code != ErrorCode::kNoParent) {
        shared_.wrong.fetch_add(1);
      }
    }
  }

  void pin() {
    auto pin = session().pin(*chain_, chain_->size(), std::chrono::microseconds(1 + random_.below(2'000'000)));
    if (pin) {
      pins_.push_back(std::move(*pin));
    } else if (pin.error().code != ErrorCode::kLimit) {
      shared_.wrong.fetch_add(1);
    }
    if (pins_.size() > 1) pins_.erase(pins_.begin() + static_cast<std::ptrdiff_t>(random_.below(pins_.size())));
  }

  void let_go(std::size_t i) {
    if (i >= held_.size()) return;
    HeldCopy& copy = held_[i];
    if (!copy.writes.empty()) write_block(copy.writes, {.key = 0, .writer = kThreads, .sequence = 0});
    if (!copy.reads.empty() && !is_one_commit(copy.reads, copy.key)) shared_.wrong.fetch_add(1);
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  Shared& shared_;
  const std::uint64_t id_;
  Random random_;
  std::optional<Session> sessions_[2];
  std::size_t size_ = 0;
  std::uint64_t conversation_ = 0;
  std::uint64_t sequence_ = 0;
  std::optional<BlockChain> chain_;
  std::deque<HeldCopy> held_;
  std::vector<Pin> pins_;
};

class CacheStress : public testing::TestWithParam<Kind> {};

TEST_P(CacheStress, every_load_is_one_commit_and_nothing_leaks) {
  RecordProperty("seed", static_cast<int>(arguments.seed));
  Shared shared(GetParam());
  shared.left.store(static_cast<std::int64_t>(arguments.operations / 2));
  {
    std::vector<std::thread> threads;
    for (std::uint64_t id = 0; id < kThreads; ++id) {
      threads.emplace_back([&shared, id] { Worker(shared, id).run(); });
    }
    for (std::thread& thread : threads) thread.join();
  }
  const bool quiet = shared.comes_to_rest();
  EXPECT_TRUE(quiet);
  const Stats stats = shared.cache.stats();
  EXPECT_EQ(shared.wrong.load(), 0U) << "seed " << arguments.seed;
  EXPECT_EQ(stats.sessions, 0U);
  EXPECT_EQ(stats.copy_pins, 0U);
  EXPECT_EQ(stats.logical_pins, 0U);
  EXPECT_EQ(stats.tiers[0].quarantined_slots, 0U);
  EXPECT_EQ(stats.checksum_failures, 0U);
  shared.core->check_consistency();
  // The run must have met what it is about.
  EXPECT_GT(shared.loaded.load(), arguments.operations / 8);
  EXPECT_GT(shared.stored.load(), arguments.operations / 8);
  EXPECT_GT(stats.tiers[0].evicted_blocks, 0U);
  EXPECT_GT(stats.aborted_blocks, 0U);
  EXPECT_GT(stats.dropped_blocks, 0U);
  EXPECT_GT(stats.handovers, 0U);
  if (GetParam().disk) {
    EXPECT_EQ(stats.disk_checksum_failures, 0U);
    EXPECT_EQ(stats.disk_unreadable_blocks, 0U);
    EXPECT_GT(stats.promoted_blocks, 0U);
    EXPECT_GT(stats.tiers[1].stored_blocks, 0U);
    EXPECT_GT(stats.tiers[1].evicted_blocks, 0U);
  }
  RecordProperty("handovers", static_cast<int>(stats.handovers));
  RecordProperty("moved_blocks", static_cast<int>(stats.moved_blocks));
  // And everything that is left can be deleted down to the last byte.
  auto session = shared.cache.open_session(options(kSmallBytes));
  auto large = shared.cache.open_session(options(kLargeBytes));
  ASSERT_TRUE(session && large);
  for (const char* tenant : {"even", "odd"}) {
    EXPECT_TRUE(session->drop(session->space(tenant)));
    EXPECT_TRUE(large->drop(large->space(tenant)));
  }
  EXPECT_EQ(shared.cache.stats().tiers[0].used_bytes, 0U);
  EXPECT_EQ(shared.cache.stats().index_stubs, 0U);
  EXPECT_EQ(shared.cache.stats().tiers[1].used_bytes, 0U);
}

INSTANTIATE_TEST_SUITE_P(Modes, CacheStress,
                         testing::Values(Kind{.name = "normal"},
                                         Kind{.name = "paranoid", .mode = IntegrityMode::kParanoid},
                                         Kind{.name = "with_disk", .disk = true}),
                         [](const auto& kind) { return kind.param.name; });

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view key = argv[i];
    if (key == "--operations") tiercel::arguments.operations = std::strtoull(argv[i + 1], nullptr, 10);
    if (key == "--seed") tiercel::arguments.seed = std::strtoull(argv[i + 1], nullptr, 10);
  }
  return RUN_ALL_TESTS();
}
