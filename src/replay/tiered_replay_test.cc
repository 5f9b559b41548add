#include "replay/tiered_replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>

namespace tiercel {
namespace {

constexpr std::uint64_t kTokenBytes = 147'456;
constexpr std::uint32_t kBlockTokens = 64;

/// Conversations that come back: each request repeats its session's blocks and adds two.
Workload conversations(std::size_t sessions, std::size_t requests, double gap_s, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Workload workload;
  std::vector<std::vector<WorkloadBlock>> held(sessions);
  double now_s = 0;
  for (std::size_t i = 0; i < requests; ++i) {
    auto& blocks = held[random() % sessions];
    const std::size_t more = blocks.empty() ? 20 + random() % 40 : 2;
    for (std::size_t n = 0; n < more; ++n) blocks.push_back(workload.unique_blocks++);
    now_s += std::exponential_distribution<double>(1 / gap_s)(random);
    workload.requests.push_back({.arrival_ns = static_cast<std::uint64_t>(now_s * 1e9),
                                 .first_use = workload.block_uses.size(),
                                 .block_count = static_cast<std::uint32_t>(blocks.size()),
                                 .input_tokens = static_cast<std::uint32_t>(blocks.size() * kBlockTokens - 5),
                                 .output_tokens = 20});
    workload.block_uses.insert(workload.block_uses.end(), blocks.begin(), blocks.end());
  }
  return workload;
}

TieredOptions options(double ssd_gb_per_second = 5) {
  return {.token_bytes = kTokenBytes,
          .ram_bytes = 100 * kBlockTokens * kTokenBytes,
          .ssd_bytes = 10'000 * kBlockTokens * kTokenBytes,
          .ssd_read_bytes_per_second = ssd_gb_per_second * 1e9,
          .ssd_write_bytes_per_second = 4e9,
          .ssd_latency_seconds = 1e-4,
          .bus_bytes_per_second = 55e9,
          .engine = {{4096, 0.0986}, {8192, 0.2107}, {16384, 0.4797}, {32768, 1.2335}}};
}

TieredReport replayed(const Workload& workload, const TieredOptions& how) {
  auto report = tiered_replay(workload, how);
  EXPECT_TRUE(report) << report.error().message;
  return *std::move(report);
}

TEST(TieredReplay, blocks_have_the_tokens_that_the_prompts_say) {
  EXPECT_EQ(block_tokens_of(conversations(5, 50, 1, 1)), kBlockTokens);
  EXPECT_EQ(block_tokens_of({}), 1U);
}

TEST(TieredReplay, an_engine_takes_at_its_points_what_they_say) {
  const auto points = options().engine;
  const PrefillModel model = prefill_of(points);
  for (const PrefillPoint& point : points) {
    EXPECT_NEAR(model.predict_ns({.tokens = static_cast<std::uint64_t>(point.tokens)}), point.seconds * 1e9,
                0.06 * point.seconds * 1e9)
        << point.tokens;
  }
}

TEST(TieredReplay, every_token_is_loaded_or_computed) {
  const Workload workload = conversations(20, 400, 0.5, 2);
  const TieredReport report = replayed(workload, options());
  ASSERT_EQ(report.runs.size(), 5U) << "LRU in three ways, the optimum in two";
  for (const TieredRun& run : report.runs) {
    const std::uint64_t loaded = (run.ram_blocks + run.ssd_blocks) * kBlockTokens;
    // A prompt that is held whole computes its last token, and what its last block has less than a full one.
    EXPECT_LE(run.computed_tokens, report.prompt_tokens);
    EXPECT_LE(report.prompt_tokens, run.computed_tokens + loaded);
    EXPECT_LE(run.computed_tokens + loaded, report.prompt_tokens + report.requests * kBlockTokens);
    EXPECT_LE(run.first_tokens.p50, run.first_tokens.p95);
    EXPECT_LE(run.first_tokens.p95, run.first_tokens.p99);
  }
  EXPECT_EQ(report.run_of("lru", TieredMode::kAlwaysCompute)->computed_tokens, report.prompt_tokens);
  EXPECT_EQ(report.run_of("lru", TieredMode::kAlwaysLoad)->left_blocks, 0U);
}

TEST(TieredReplay, is_the_same_each_time) {
  const Workload workload = conversations(20, 300, 0.5, 3);
  const TieredReport a = replayed(workload, options());
  const TieredReport b = replayed(workload, options());
  for (std::size_t i = 0; i < a.runs.size(); ++i) {
    EXPECT_EQ(a.runs[i].first_tokens.mean, b.runs[i].first_tokens.mean);
    EXPECT_EQ(a.runs[i].left_blocks, b.runs[i].left_blocks);
  }
}

TEST(TieredReplay, an_ssd_that_is_slower_than_computing_is_not_read) {
  const TieredReport report = replayed(conversations(20, 400, 2, 4), options(0.5));
  const TieredRun& run = *report.run_of("lru", TieredMode::kPlanned);
  EXPECT_LT(run.ssd_blocks, run.left_blocks / 20) << "but for the first read";
  EXPECT_GT(report.run_of("lru", TieredMode::kAlwaysLoad)->first_tokens.mean, run.first_tokens.mean);
}

TEST(TieredReplay, planned_is_never_much_slower_than_the_better_way) {
  std::vector<double> ratios;
  for (const double speed : {0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0}) {
    for (const double gap_s : {0.1, 0.5, 3.0}) {
      const TieredReport report = replayed(conversations(30, 500, gap_s, 5), options(speed));
      const double better = std::min(report.run_of("lru", TieredMode::kAlwaysLoad)->first_tokens.mean,
                                     report.run_of("lru", TieredMode::kAlwaysCompute)->first_tokens.mean);
      ratios.push_back(report.run_of("lru", TieredMode::kPlanned)->first_tokens.mean / better);
    }
  }
  std::ranges::sort(ratios);
  EXPECT_LE(ratios[ratios.size() / 2], 1.01);
  EXPECT_LE(ratios.back(), 1.05);
}

TEST(TieredReplay, the_optimum_finds_no_fewer_hits_than_lru) {
  const TieredReport report = replayed(conversations(40, 600, 1, 6), options());
  const TieredRun& lru = *report.run_of("lru", TieredMode::kAlwaysLoad);
  const TieredRun& best = *report.run_of("optimum", TieredMode::kAlwaysLoad);
  EXPECT_GE(best.ram_blocks + best.ssd_blocks, lru.ram_blocks + lru.ssd_blocks);
}

TEST(TieredReplay, without_an_ssd_nothing_is_written) {
  TieredOptions how = options();
  how.ssd_bytes = 0;
  const TieredReport report = replayed(conversations(20, 100, 1, 7), how);
  for (const TieredRun& run : report.runs) {
    EXPECT_EQ(run.ssd_blocks, 0U);
    EXPECT_EQ(run.ssd_written_bytes, 0U);
  }
}

TEST(TieredReplay, says_what_is_wrong) {
  const Workload workload = conversations(2, 4, 1, 8);
  const auto refused = [&](auto change, std::string_view words) {
    TieredOptions how = options();
    change(how);
    const auto report = tiered_replay(workload, how);
    ASSERT_FALSE(report);
    EXPECT_NE(report.error().message.find(words), std::string::npos) << report.error().message;
  };
  refused([](TieredOptions& how) { how.ram_bytes = 0; }, "ram_bytes: 0 is not above 0");
  refused([](TieredOptions& how) { how.engine.clear(); }, "engine");
  refused([](TieredOptions& how) { how.ssd_read_bytes_per_second = -1; }, "ssd_read_bytes_per_second: -1");
  refused([](TieredOptions& how) { how.policies = {"mru"}; }, "mru is no policy; there are lru");
  EXPECT_FALSE(tiered_replay({}, options()));
}

}  // namespace
}  // namespace tiercel
