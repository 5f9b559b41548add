#include "service/http/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tiercel::service {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kNsPerSecond = 1e9;
constexpr std::size_t kHost = static_cast<std::size_t>(TierId::kHost);
constexpr std::size_t kDisk = static_cast<std::size_t>(TierId::kDisk);
constexpr std::size_t kRemote = static_cast<std::size_t>(TierId::kRemote);

/// Counters never fall; a snapshot that is not atomic may still show one a little behind.
double risen(std::uint64_t before, std::uint64_t after) {
  return after > before ? static_cast<double>(after - before) : 0.0;
}

double hits(const Stats& before, const Stats& after, std::size_t tier) {
  return risen(before.tiers[tier].hit_blocks, after.tiers[tier].hit_blocks);
}

double all_hits(const Stats& before, const Stats& after) {
  double sum = 0;
  for (std::size_t tier = 0; tier < kTierCount; ++tier) sum += hits(before, after, tier);
  return sum;
}

double share(const Stats& before, const Stats& after, double part) {
  const double asked = all_hits(before, after) + risen(before.missed_blocks, after.missed_blocks);
  return asked > 0 ? part / asked : kNaN;
}

template <std::size_t tier>
double hit_ratio(const Stats& before, const Stats& after, double) {
  return share(before, after, hits(before, after, tier));
}

template <std::size_t tier, auto field>
double tier_rate(const Stats& before, const Stats& after, double seconds) {
  return risen(before.tiers[tier].*field, after.tiers[tier].*field) / seconds;
}

template <auto field>
double rate(const Stats& before, const Stats& after, double seconds) {
  return risen(before.*field, after.*field) / seconds;
}

template <std::size_t tier, auto field>
double tier_level(const Stats&, const Stats& after, double) {
  return static_cast<double>(after.tiers[tier].*field);
}

template <auto histogram, int percent>
double percentile(const Stats& before, const Stats& after, double) {
  return quantile_of(before.*histogram, after.*histogram, percent / 100.0);
}

double loaded_rate(const Stats& before, const Stats& after, double seconds) {
  double bytes = 0;
  for (std::size_t tier = 0; tier < kTierCount; ++tier) {
    bytes += risen(before.tiers[tier].hit_bytes, after.tiers[tier].hit_bytes);
  }
  return bytes / seconds;
}

constexpr std::array<Column, kColumns> kTable = {{
    {"hit_ratio", [](const Stats& b, const Stats& a, double) { return share(b, a, all_hits(b, a)); }},
    {"hit_ratio_host", hit_ratio<kHost>},
    {"hit_ratio_disk", hit_ratio<kDisk>},
    {"hit_ratio_remote", hit_ratio<kRemote>},
    {"store_bytes_per_second", tier_rate<kHost, &TierStats::stored_bytes>},
    {"load_bytes_per_second", loaded_rate},
    {"promote_bytes_per_second", rate<&Stats::promoted_bytes>},
    {"demote_bytes_per_second", tier_rate<kDisk, &TierStats::stored_bytes>},
    {"used_bytes_host", tier_level<kHost, &TierStats::used_bytes>},
    {"used_bytes_disk", tier_level<kDisk, &TierStats::used_bytes>},
    {"used_bytes_remote", tier_level<kRemote, &TierStats::used_bytes>},
    {"evicted_blocks_per_second_host", tier_rate<kHost, &TierStats::evicted_blocks>},
    {"evicted_blocks_per_second_disk", tier_rate<kDisk, &TierStats::evicted_blocks>},
    {"loads_per_second", rate<&Stats::loads>},
    {"load_p50_seconds", percentile<&Stats::load_latency, 50>},
    {"load_p95_seconds", percentile<&Stats::load_latency, 95>},
    {"load_p99_seconds", percentile<&Stats::load_latency, 99>},
    {"match_p50_seconds", percentile<&Stats::match_latency, 50>},
    {"match_p99_seconds", percentile<&Stats::match_latency, 99>},
    {"fill_p50_seconds", percentile<&Stats::fill_latency, 50>},
    {"fill_p99_seconds", percentile<&Stats::fill_latency, 99>},
    {"demotion_p50_seconds", percentile<&Stats::demotion_latency, 50>},
    {"demotion_p99_seconds", percentile<&Stats::demotion_latency, 99>},
    {"errors_per_second",
     [](const Stats& b, const Stats& a, double seconds) { return risen(errors_of(b), errors_of(a)) / seconds; }},
}};

}  // namespace

std::span<const Column, kColumns> columns() noexcept { return kTable; }

Sample sample_of(const Stats& before, const Stats& after, double seconds) {
  Sample sample{};
  for (std::size_t i = 0; i < kColumns; ++i) sample[i] = kTable[i].value(before, after, seconds);
  return sample;
}

double quantile_of(const LatencyHistogram& before, const LatencyHistogram& after, double quantile) {
  std::array<double, LatencyHistogram::kBuckets> counts{};
  double total = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) total += counts[i] = risen(before.counts[i], after.counts[i]);
  if (total == 0) return kNaN;
  const double rank = quantile * total;
  double below = 0;
  for (std::size_t i = 0; i + 1 < counts.size(); ++i) {
    if (below + counts[i] >= rank && counts[i] > 0) {
      const double low = i == 0 ? 0 : static_cast<double>(LatencyHistogram::bound_ns(i - 1));
      const double high = static_cast<double>(LatencyHistogram::bound_ns(i));
      return (low + (high - low) * (rank - below) / counts[i]) / kNsPerSecond;
    }
    below += counts[i];
  }
  return static_cast<double>(LatencyHistogram::bound_ns(LatencyHistogram::kBuckets - 2)) /
         kNsPerSecond;  // at least that
}

std::uint64_t errors_of(const Stats& stats) {
  return stats.commit_failures + stats.checksum_failures + stats.demotions_failed + stats.disk_lost_blocks +
         stats.disk_checksum_failures + stats.disk_unreadable_blocks + stats.disk_read_errors + stats.disk_short_reads +
         stats.disk_write_errors + stats.disk_deadlines + stats.disk_breaker_trips;
}

}  // namespace tiercel::service
