// The core's counters that move outside its lock. Relaxed atomics: each is a number of its own, a snapshot is not a
// consistent cut (stats.h says so).
#pragma once

#include <tiercel/stats.h>

#include <array>
#include <atomic>
#include <cstdint>

namespace tiercel::detail {

class Counter {
 public:
  void add(std::uint64_t n = 1) noexcept { value_.fetch_add(n, std::memory_order_relaxed); }
  void subtract(std::uint64_t n = 1) noexcept { value_.fetch_sub(n, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class LatencyCounter {
 public:
  void add(std::uint64_t ns) noexcept {
    std::size_t bucket = 0;
    while (bucket + 1 < LatencyHistogram::kBuckets && ns > LatencyHistogram::bound_ns(bucket)) ++bucket;
    counts_[bucket].add();
    sum_ns_.add(ns);
  }
  [[nodiscard]] LatencyHistogram get() const noexcept {
    LatencyHistogram histogram;
    for (std::size_t i = 0; i < counts_.size(); ++i) histogram.counts[i] = counts_[i].get();
    histogram.sum_ns = sum_ns_.get();
    return histogram;
  }

 private:
  std::array<Counter, LatencyHistogram::kBuckets> counts_;
  Counter sum_ns_;
};

struct Counters {
  Counter hit_blocks;
  Counter hit_bytes;
  Counter matches;
  Counter matched_blocks;
  Counter missed_blocks;
  Counter loads;
  std::array<Counter, kLoadOutcomes> load_outcomes;
  std::array<Counter, 6> reserve_outcomes;
  Counter commit_failures;
  Counter checksum_failures;
  Counter touches_shed;
  Counter mode_refused_matches;
  Counter mode_refused_loads;
  Counter mode_refused_reserves;
  Counter disk_hit_blocks;
  Counter disk_hit_bytes;
  Counter disk_unreadable;
  Counter disk_checksum_failures;
  Counter demotions_not_admitted;
  Counter demotions_refused;
  Counter demotions_failed;
  Counter burials_late;
  Counter expired_pins;
  LatencyCounter match_latency;
  LatencyCounter reserve_latency;
  LatencyCounter load_latency;
  LatencyCounter fill_latency;
  LatencyCounter demotion_latency;
};

}  // namespace tiercel::detail
