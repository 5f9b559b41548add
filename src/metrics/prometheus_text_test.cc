// Goal: the text is well-formed, and every number in Stats moves one metric of its own by its own amount.
#include <tiercel/stats.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <regex>
#include <set>
#include <sstream>

namespace tiercel {
namespace {

using Samples = std::map<std::string, double>;  // "name{labels}" -> value

Samples parse(const std::string& text) {
  static const std::regex kSampleLine(R"(([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[a-z]+="[^"\\]*"\})?) ([0-9.e+-]+))");
  static const std::regex kCommentLine(R"(# (?:HELP|TYPE) tiercel_[a-z_]+ .+)");
  EXPECT_TRUE(text.ends_with('\n'));
  Samples samples;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, kSampleLine)) {
      EXPECT_TRUE(samples.emplace(match[1], std::strtod(match[2].str().c_str(), nullptr)).second) << "twice: " << line;
    } else {
      EXPECT_TRUE(std::regex_match(line, kCommentLine)) << line;
    }
  }
  return samples;
}

// All of Stats is 64-bit numbers, so that a field that is added cannot be forgotten here.
constexpr std::size_t kWords = sizeof(Stats) / sizeof(std::uint64_t);
using Words = std::array<std::uint64_t, kWords>;
static_assert(std::is_trivially_copyable_v<Stats> && sizeof(Words) == sizeof(Stats));

Samples samples_of(const Words& words) { return parse(prometheus_text(std::bit_cast<Stats>(words))); }

/// The samples that word `i` moves when it alone is `value`.
Samples moved_by(std::size_t i, std::uint64_t value) {
  static const Samples kNothing = samples_of({});
  Words words{};
  words[i] = value;
  Samples moved;
  for (const auto& [name, number] : samples_of(words)) {
    if (number != kNothing.at(name)) moved.emplace(name, number);
  }
  return moved;
}

bool in_histogram(std::size_t word) { return word >= offsetof(Stats, match_latency) / sizeof(std::uint64_t); }

TEST(PrometheusText, every_number_moves_a_metric_of_its_own) {
  std::set<std::string> taken;
  for (std::size_t i = 0; i < kWords; ++i) {
    if (in_histogram(i)) continue;
    const Samples moved = moved_by(i, 1'000'000 + i);
    ASSERT_EQ(moved.size(), 1U) << "word " << i << " of Stats";
    const bool in_thousandths = moved.begin()->first.find("_ratio") != std::string::npos;
    EXPECT_DOUBLE_EQ(moved.begin()->second * (in_thousandths ? 1000 : 1), static_cast<double>(1'000'000 + i))
        << moved.begin()->first;
    EXPECT_TRUE(taken.insert(moved.begin()->first).second) << moved.begin()->first;
  }
  // And the other way round: what no number moves is not there.
  const Samples all = samples_of({});
  const auto of_histogram = std::ranges::count_if(
      all, [](const auto& sample) { return sample.first.find("_latency_seconds_") != std::string::npos; });
  EXPECT_EQ(all.size(), taken.size() + static_cast<std::size_t>(of_histogram));
}

TEST(PrometheusText, every_number_of_a_histogram_moves_its_metric) {
  const std::size_t first = offsetof(Stats, match_latency) / sizeof(std::uint64_t);
  constexpr std::size_t kWordsEach = LatencyHistogram::kBuckets + 1;
  ASSERT_EQ((kWords - first) % kWordsEach, 0U);
  const char* const names[] = {"tiercel_match_latency_seconds", "tiercel_reserve_latency_seconds",
                               "tiercel_load_latency_seconds", "tiercel_fill_latency_seconds",
                               "tiercel_demotion_latency_seconds"};
  for (std::size_t i = first; i < kWords; ++i) {
    const std::string name = names[(i - first) / kWordsEach];
    const std::size_t bucket = (i - first) % kWordsEach;
    const Samples moved = moved_by(i, 2'000'000'000);
    if (bucket == LatencyHistogram::kBuckets) {
      EXPECT_EQ(moved, (Samples{{name + "_sum", 2.0}}));
      continue;
    }
    // Its own bucket and all above (they are cumulative), the rest's among them, and the count.
    EXPECT_EQ(moved.size(), LatencyHistogram::kBuckets - bucket + 1) << name << " bucket " << bucket;
    for (const auto& [sample, value] : moved) {
      EXPECT_TRUE(sample == name + "_count" || sample.starts_with(name + "_bucket{le=")) << sample;
      EXPECT_EQ(value, 2e9);
    }
    EXPECT_TRUE(moved.contains(name + "_bucket{le=\"+Inf\"}"));
  }
}

TEST(PrometheusText, bounds_are_seconds) {
  const Samples all = samples_of({});
  EXPECT_TRUE(all.contains("tiercel_load_latency_seconds_bucket{le=\"1e-06\"}"));
  EXPECT_TRUE(all.contains("tiercel_load_latency_seconds_bucket{le=\"4.194304\"}"));
  EXPECT_TRUE(all.contains("tiercel_load_blocks_total{tier=\"host\"}"));
  EXPECT_TRUE(all.contains("tiercel_load_outcomes_total{outcome=\"deadline\"}"));
}

TEST(PrometheusText, counters_alone_end_in_total) {
  std::istringstream lines(prometheus_text({}));
  std::size_t types = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("# TYPE ")) continue;
    ++types;
    EXPECT_EQ(line.find("_total ") != std::string::npos, line.ends_with(" counter")) << line;
  }
  EXPECT_GT(types, 30U);
}

TEST(PrometheusText, large_numbers_are_exact) {
  Stats stats;
  stats.tiers[0].hit_bytes = (std::uint64_t{1} << 53U) - 1;  // 9 PB: as far as Prometheus' own doubles are exact
  EXPECT_NE(prometheus_text(stats).find("tiercel_load_bytes_total{tier=\"host\"} 9007199254740991\n"),
            std::string::npos);
}

}  // namespace
}  // namespace tiercel
