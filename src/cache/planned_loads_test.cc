// Goal: a load that says what is ahead of its engine brings no more blocks than pay, waits no longer than it saves, and
// is right whatever it leaves. Method: a small cache turned by hand over files whose reads take as long as a test says.
#include "cache/testing/disk_world.h"
#include "io/delayed_backend.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <limits>
#include <memory>

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using testing::DiskWorld;
using testing::kDiskBlockBytes;

constexpr std::size_t kBlocks = 16;
constexpr std::size_t kPromptTokens = 4 * kBlocks + 2;
constexpr std::size_t kHostSlots = 4_MiB / kDiskBlockBytes;

class PlannedLoads : public ::testing::Test {
 protected:
  PlannedLoads() {
    world_.stop();
    gate_ = std::make_shared<DelayGate>(world_.clock());
    world_.wrap([this](const std::string& path, std::unique_ptr<IoBackend> file) -> std::unique_ptr<IoBackend> {
      if (path.ends_with(".log")) return file;
      return std::make_unique<DelayedBackend>(std::move(file), gate_);
    });
    world_.start();
    world_.settle();
  }

  ~PlannedLoads() override {  // what is still being read comes to its end
    gate_->release_all();
    for (int i = 0; i < 200; ++i) {
      world_.advance(50ms);
      world_.settle(2);
    }
  }

  /// On disk alone.
  BlockChain on_disk(TokenId seed) {
    const BlockChain chain = world_.chain(kBlocks, seed);
    EXPECT_EQ(world_.store(chain, seed), kBlocks);
    world_.settle();
    push_out();
    EXPECT_EQ(world_.session().match(chain).blocks(), kBlocks);
    EXPECT_EQ(world_.session().match(chain).blocks_in(TierId::kHost), 0U);
    return chain;
  }
  void push_out() {
    for (int i = 0; i < 2; ++i) {
      const TokenId seed = 1000 + next_++;
      EXPECT_EQ(world_.store(world_.chain(kHostSlots / 2, seed), seed), kHostSlots / 2);
      world_.settle();
    }
  }
  /// The engine computes a token in so long.
  void computes(std::chrono::nanoseconds a_token) {
    for (const std::uint64_t tokens : {40U, 80U, 200U}) {
      world_.session().report_prefill(PrefillTime{.context_tokens = 0, .tokens = tokens, .time = tokens * a_token});
    }
  }
  /// One read begins so late; the device does one after the other.
  void reads_take(std::chrono::milliseconds time) {
    const auto ms = static_cast<std::uint64_t>(time.count());
    gate_->limit(IoKind::kRead, ms == 0 ? 0 : kDiskBlockBytes * 1000 / ms);
  }
  Load begin(const BlockChain& chain, std::chrono::nanoseconds deadline = 10s) {
    return world_.session().load(chain, chain.size(), deadline, {.prompt_tokens = kPromptTokens});
  }
  std::size_t load(const BlockChain& chain, TokenId seed, std::chrono::nanoseconds deadline = 10s) {
    Load load = begin(chain, deadline);
    const auto blocks = load.wait();
    outcome_ = load.outcome();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_TRUE(
          std::ranges::all_of(blocks[i].bytes(), [&](std::byte b) { return b == DiskWorld::pattern(i, seed); }));
    }
    return blocks.size();
  }
  /// The disk's speed becomes known.
  void learn(std::chrono::milliseconds a_block) {
    reads_take(a_block);
    for (TokenId seed = 100; seed < 103; ++seed) EXPECT_EQ(world_.load(on_disk(seed), seed), kBlocks);
  }
  std::uint64_t plans(LoadPlanned why) { return world_.stats().load_plans.at(static_cast<std::size_t>(why)); }

  DiskWorld world_;
  std::shared_ptr<DelayGate> gate_;
  LoadOutcome outcome_ = LoadOutcome::kComplete;

 private:
  TokenId next_ = 0;
};

TEST_F(PlannedLoads, all_is_loaded_while_the_engine_is_not_known) {
  learn(50ms);
  EXPECT_EQ(load(on_disk(1), 1), kBlocks);
  EXPECT_EQ(outcome_, LoadOutcome::kComplete);
  EXPECT_EQ(plans(LoadPlanned::kEngineNotKnown), 1U);
}

TEST_F(PlannedLoads, a_disk_that_was_never_read_is_tried) {
  computes(1ms);
  EXPECT_EQ(load(on_disk(1), 1), kBlocks);
  EXPECT_EQ(plans(LoadPlanned::kTierNotKnown), 1U);
}

TEST_F(PlannedLoads, what_the_engine_computes_sooner_is_left) {
  learn(50ms);  // a block, which is computed in 4 ms
  computes(1ms);
  const BlockChain chain = on_disk(1);
  const std::uint64_t reads = world_.stats().disk_read_operations;
  const std::uint64_t missed = world_.stats().missed_blocks;
  EXPECT_EQ(load(chain, 1), 0U);
  EXPECT_EQ(outcome_, LoadOutcome::kSlower);
  const Stats stats = world_.stats();
  EXPECT_EQ(stats.planned_left_blocks, kBlocks);
  EXPECT_EQ(stats.missed_blocks, missed) << "nothing was missing";
  EXPECT_EQ(stats.load_outcomes[static_cast<std::size_t>(LoadOutcome::kSlower)], 1U);
  EXPECT_EQ(plans(LoadPlanned::kSlower), 1U);
  EXPECT_LE(stats.disk_read_operations - reads, stats.plan_probe_blocks) << "but for a probe, nothing was read";
}

TEST_F(PlannedLoads, what_is_loaded_sooner_is_loaded) {
  learn(1ms);
  computes(1ms);
  EXPECT_EQ(load(on_disk(1), 1), kBlocks);
  EXPECT_EQ(outcome_, LoadOutcome::kComplete);
  EXPECT_EQ(plans(LoadPlanned::kAll), 1U);
  EXPECT_EQ(world_.stats().planned_left_blocks, 0U);
}

TEST_F(PlannedLoads, what_is_in_ram_is_loaded_whatever_the_disk_is_like) {
  learn(50ms);
  computes(1ms);
  const BlockChain chain = world_.chain(kBlocks, 1);
  EXPECT_EQ(world_.store(chain, 1), kBlocks);
  EXPECT_EQ(load(chain, 1), kBlocks);
  EXPECT_EQ(outcome_, LoadOutcome::kComplete);
}

TEST_F(PlannedLoads, blocks_that_are_not_there_are_a_miss_as_ever) {
  learn(1ms);
  computes(1ms);
  (void)on_disk(1);
  const BlockChain longer = world_.chain(kBlocks + 3, 1);
  EXPECT_EQ(load(longer, 1), kBlocks);
  EXPECT_EQ(outcome_, LoadOutcome::kMiss);
  EXPECT_EQ(load(world_.chain(kBlocks, 77), 77), 0U);
  EXPECT_EQ(outcome_, LoadOutcome::kMiss);
}

TEST_F(PlannedLoads, what_would_come_after_the_deadline_is_not_begun) {
  learn(2ms);
  computes(10ms);
  const BlockChain chain = on_disk(1);
  EXPECT_NEAR(static_cast<double>(load(chain, 1, 25ms)), 9, 2);
  EXPECT_EQ(outcome_, LoadOutcome::kSlower);
  EXPECT_EQ(plans(LoadPlanned::kDeadline), 1U);
}

TEST_F(PlannedLoads, a_load_that_stands_still_is_waited_for_no_longer_than_it_saves) {
  learn(1ms);
  computes(1ms);
  const BlockChain chain = on_disk(1);
  gate_->hold(IoKind::kRead);
  const std::uint64_t before = world_.clock().now_ns();
  EXPECT_EQ(load(chain, 1), 0U);
  EXPECT_EQ(outcome_, LoadOutcome::kSlower);
  EXPECT_LE(world_.clock().now_ns() - before, 2 * kPromptTokens * 1'000'000);
  const Stats stats = world_.stats();
  EXPECT_GT(stats.plans_asked_again, 0U);
  EXPECT_EQ(stats.plans_given_up, 1U);
  EXPECT_EQ(stats.planned_left_blocks, kBlocks);
  gate_->release_all();
  world_.settle();
  EXPECT_EQ(world_.session().match(chain).blocks_in(TierId::kHost), kBlocks) << "what came late serves the next load";
  EXPECT_EQ(world_.stats().copy_pins, 0U);
}

TEST_F(PlannedLoads, a_load_that_falls_behind_gives_what_has_come) {
  learn(1ms);
  computes(1ms);
  const BlockChain chain = on_disk(1);
  reads_take(40ms);
  const std::size_t got = load(chain, 1);
  EXPECT_EQ(outcome_, LoadOutcome::kSlower);
  EXPECT_LT(got, kBlocks / 2);
  EXPECT_EQ(world_.stats().planned_left_blocks, kBlocks - got);
}

TEST_F(PlannedLoads, done_sees_that_a_load_is_late_too) {
  learn(1ms);
  computes(1ms);
  const BlockChain chain = on_disk(1);
  gate_->hold(IoKind::kRead);
  Load load = begin(chain);
  int milliseconds = 0;
  for (; !load.done() && milliseconds < 1000; ++milliseconds) world_.advance(1ms);
  EXPECT_LE(milliseconds, 2 * static_cast<int>(kPromptTokens));
  EXPECT_EQ(load.outcome(), LoadOutcome::kSlower);
  gate_->release_all();
}

TEST_F(PlannedLoads, a_disk_that_is_fast_again_is_found_by_probes) {
  learn(50ms);
  computes(1ms);
  EXPECT_EQ(load(on_disk(1), 1), 0U);
  reads_take(0ms);
  int requests = 0;
  for (; requests < 12; ++requests) {
    world_.settle();
    world_.advance(5s);
    if (load(on_disk(10 + requests), 10 + requests) == kBlocks) break;
  }
  EXPECT_LT(requests, 8);
  EXPECT_GT(world_.stats().plan_probe_blocks, 0U);
}

TEST_F(PlannedLoads, a_probe_brings_blocks_for_the_next_load) {
  learn(50ms);
  computes(1ms);
  const BlockChain chain = on_disk(1);
  world_.advance(60s);
  EXPECT_EQ(load(chain, 1), 0U);
  const std::uint64_t probed = world_.stats().plan_probe_blocks;
  ASSERT_GT(probed, 0U);
  for (int i = 0; i < 100; ++i) {
    world_.advance(50ms);
    world_.settle(2);
  }
  EXPECT_EQ(world_.session().match(chain).blocks_in(TierId::kHost), std::min<std::uint64_t>(probed, kBlocks));
}

TEST_F(PlannedLoads, predictions_are_measured) {
  learn(2ms);
  computes(3ms);
  for (TokenId seed = 1; seed < 6; ++seed) EXPECT_EQ(load(on_disk(seed), seed), kBlocks);
  world_.session().report_prefill(PrefillTime{.tokens = 100, .time = 600ms});
  const Stats stats = world_.stats();
  EXPECT_LE(stats.load_errors_permille[0], 150U);
  EXPECT_LE(stats.load_errors_permille[1], 400U);
  EXPECT_NEAR(static_cast<double>(stats.prefill_errors_permille[1]), 0, 50);
  world_.session().report_prefill(PrefillTime{.tokens = 100, .time = 600ms});
  EXPECT_GT(world_.stats().prefill_errors_permille[1], 0U);
}

TEST_F(PlannedLoads, nonsense_is_no_harm) {
  learn(1ms);
  world_.session().report_prefill(PrefillTime{.tokens = 0, .time = 1s});
  world_.session().report_prefill(PrefillTime{.tokens = 10, .time = -1s});
  computes(1ms);
  const BlockChain chain = on_disk(1);
  for (const double copy : {-1.0, 0.0, std::numeric_limits<double>::quiet_NaN(), 1e300}) {
    Load load = world_.session().load(chain, chain.size(), 10s,
                                      {.prompt_tokens = kPromptTokens, .copy_bytes_per_second = copy});
    EXPECT_EQ(load.wait().size(), kBlocks);
  }
  for (const std::uint64_t prompt : {std::uint64_t{0}, std::uint64_t{1}, UINT64_MAX}) {
    (void)world_.session()
        .load(chain, chain.size(), 10s, {.prompt_tokens = prompt, .context_tokens = UINT64_MAX})
        .wait();
  }
  EXPECT_EQ(load(chain, 1), kBlocks);
}

TEST_F(PlannedLoads, a_mode_without_loads_plans_nothing) {
  learn(1ms);
  computes(1ms);
  const BlockChain chain = on_disk(1);
  world_.cache().set_mode(Mode::kStoreOnly);
  EXPECT_EQ(load(chain, 1), 0U);
  EXPECT_EQ(outcome_, LoadOutcome::kMiss);
  EXPECT_EQ(world_.stats().load_plans, (std::array<std::uint64_t, kLoadPlans>{}));
}

TEST_F(PlannedLoads, engines_of_different_speeds_are_planned_apart) {
  learn(2ms);
  computes(100us);
  auto other = world_.cache().open_session(
      {.model = {.name = "test", .kv_dtype = "f16"}, .block_tokens = 4, .layout = Layout::blob(kDiskBlockBytes)});
  ASSERT_TRUE(other);
  other->report_prefill(PrefillTime{.tokens = 100, .time = 1s});
  const BlockChain chain = on_disk(1);
  EXPECT_EQ(load(chain, 1), 0U) << "the fast one computes";
  EXPECT_EQ(other->load(chain, kBlocks, 10s, {.prompt_tokens = kPromptTokens}).wait().size(), kBlocks);
}

}  // namespace
}  // namespace tiercel
