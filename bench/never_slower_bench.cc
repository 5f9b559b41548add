// never_slower_bench: planned loads beside "always compute" and "always load", on a real llama.cpp engine, with disks
// of twelve pairs of speed and latency around the machine's break-even.
//
//   never_slower_bench MODEL.gguf [--requests N] [--tokens N] [--json FILE]
//
// Three engines with one model: one without a cache, two with a cache of their own whose disk is held back to the
// pair's speed: one plans its loads, one always loads. Each request goes to all three, in turns, with its blocks on
// disk alone; so each engine meets the same moments of a noisy machine. Prints, a pair: the median time to first token
// of each, and that of the planned one over the better other with an interval of 95 % (bootstrap over the requests); at
// the end the planner's errors. The break-even is measured first: bytes of KV that the engine computes a second.
#include "bench/never_slower/world.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::bench {
namespace {

struct Options {
  std::string model;
  std::size_t requests = 40;
  std::size_t tokens = 160;
  std::string json;
};

struct Interval {
  double ratio = 0;
  double low = 0;
  double high = 0;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

double over_better(const Times& times, const std::vector<std::size_t>& picks) {
  const auto of = [&](const std::vector<double>& all) {
    std::vector<double> picked;
    picked.reserve(picks.size());
    for (const std::size_t i : picks) picked.push_back(all[i]);
    return median(std::move(picked));
  };
  return of(times.planned) / std::min(of(times.loaded), of(times.computed));
}

/// Requests drawn again and again, with all three times of each together.
Interval bootstrap(const Times& times) {
  std::mt19937_64 random(1);
  std::vector<std::size_t> picks(times.planned.size());
  for (std::size_t i = 0; i < picks.size(); ++i) picks[i] = i;
  Interval interval{.ratio = over_better(times, picks)};
  std::vector<double> ratios;
  for (int draw = 0; draw < 2000; ++draw) {
    for (std::size_t& pick : picks) pick = random() % times.planned.size();
    ratios.push_back(over_better(times, picks));
  }
  std::ranges::sort(ratios);
  interval.low = ratios[50];
  interval.high = ratios[1949];
  return interval;
}

int run(const Options& options) {
  auto world = World::open(options.model, options.tokens);
  if (!world) {
    fmt::print(stderr, "error: {}\n", world.error().message);
    return 1;
  }
  const double break_even = (*world)->kv_bytes_per_second();
  fmt::print("the engine computes {:.2f} MB of KV a second; prompts of {} tokens, {} requests a pair\n\n",
             break_even / 1e6, options.tokens, options.requests);
  fmt::print("{:>12} {:>10} | {:>9} {:>9} {:>9} | {:>7} {:>15} | {:>5}\n", "disk MB/s", "latency ms", "compute", "load",
             "planned", "ratio", "95 %", "left");
  nlohmann::json pairs = nlohmann::json::array();
  int missed = 0;
  for (const double share : {0.4, 0.7, 0.9, 1.1, 1.5, 3.0}) {
    for (const std::uint64_t latency_ms : {1U, 100U}) {
      const Disk disk{.bytes_per_second = static_cast<std::uint64_t>(share * break_even), .latency_ms = latency_ms};
      const Times times = (*world)->measure(disk, options.requests);
      const Interval interval = bootstrap(times);
      if (interval.low > 1.03) ++missed;
      fmt::print("{:12.2f} {:10} | {:7.0f} ms {:6.0f} ms {:6.0f} ms | {:7.3f} {:6.3f} - {:6.3f} | {:4.0f}%\n",
                 static_cast<double>(disk.bytes_per_second) / 1e6, latency_ms, median(times.computed),
                 median(times.loaded), median(times.planned), interval.ratio, interval.low, interval.high,
                 100 * times.left_share);
      std::fflush(stdout);
      pairs.push_back({{"disk_bytes_per_second", disk.bytes_per_second},
                       {"latency_ms", latency_ms},
                       {"computed_ms", times.computed},
                       {"loaded_ms", times.loaded},
                       {"planned_ms", times.planned},
                       {"ratio", interval.ratio},
                       {"low", interval.low},
                       {"high", interval.high}});
    }
  }
  const Stats stats = (*world)->planned_stats();
  const auto percent = [](std::uint64_t permille) { return static_cast<double>(permille) / 10; };
  fmt::print("\nplanned loads off their prediction: median {:.1f} %, p90 {:.1f} %; prefills {:.1f} %, {:.1f} %\n",
             percent(stats.load_errors_permille[0]), percent(stats.load_errors_permille[1]),
             percent(stats.prefill_errors_permille[0]), percent(stats.prefill_errors_permille[1]));
  fmt::print("late loads looked at {} times, given up {}; {} blocks probed\n", stats.plans_asked_again,
             stats.plans_given_up, stats.plan_probe_blocks);
  fmt::print("pairs whose whole interval is above 1.03: {} of 12\n", missed);
  if (!options.json.empty()) {
    std::ofstream(options.json) << nlohmann::json{{"kv_bytes_per_second", break_even}, {"pairs", pairs}}.dump(1)
                                << '\n';
  }
  return 0;
}

bool read_number(std::string_view text, std::size_t& to) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to);
  return error == std::errc() && end == text.data() + text.size() && to > 0;
}

int usage(const std::string& what) {
  fmt::print(stderr, "error: {}\nnever_slower_bench MODEL.gguf [--requests N] [--tokens N] [--json FILE]\n", what);
  return 64;
}

int main_with(const std::vector<std::string>& words) {
  Options options;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!word.starts_with("--")) {
      options.model = word;
      continue;
    }
    if (i + 1 == words.size()) return usage(word + ": a value is missing");
    const std::string& value = words[++i];
    if (word == "--json") {
      options.json = value;
    } else if (word == "--requests" || word == "--tokens") {
      if (!read_number(value, word == "--tokens" ? options.tokens : options.requests)) {
        return usage(fmt::format("{}: \"{}\" is no number above 0", word, value));
      }
    } else {
      return usage(word + ": no such option");
    }
  }
  if (options.model.empty()) return usage("MODEL.gguf is missing");
  if (options.tokens < 64 || options.tokens > 2048) return usage("--tokens: 64 to 2048");
  return run(options);
}

}  // namespace
}  // namespace tiercel::bench

int main(int count, char** words) { return tiercel::bench::main_with({words + 1, words + count}); }
