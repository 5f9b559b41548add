// match of 8,192 blocks in an index of 10 million, beside a writer at full rate, next to as many prefetched random
// cache-line reads of a region of the same size on the same pages, in the same run.
//
// Prints medians and 99th percentiles over rounds that alternate the two, the ratio, bytes a block, page size, and the
// lines a lookup touches. Usage: index_bench [--blocks N] [--rounds N]. Exit 1 if the index does not fit 128 bytes a
// block; speeds are printed, not judged.
#include "base/clock.h"
#include "base/random.h"
#include "index/block_table.h"
#include "model/testing/numbered_hash.h"
#include "policy/lru.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

namespace tiercel {
namespace {

using testing_support::numbered_hash;

constexpr std::size_t kMatch = 8'192;
constexpr std::size_t kChainBlocks = 8'192;
constexpr std::uint64_t kChurn = 65'536;  // entries that the writer keeps replacing

struct Arguments {
  std::uint64_t blocks = 10'000'000;
  std::size_t rounds = 400;
};

double at_share(std::vector<double> values, double share) {
  std::ranges::sort(values);
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

void add_ready(BlockTable& table, const BlockHash& hash, BlockId parent) {
  const BlockId id = table.insert(hash, 0, parent);
  table.set_state(id, TierId::kHost, CopyState::kFilling);
  table.set_state(id, TierId::kHost, CopyState::kReady);
}

/// Chains of kChainBlocks blocks, stored interleaved, so that no chain's entries lie next to each other.
void fill(BlockTable& table, std::uint64_t blocks, BlockId root) {
  std::vector<BlockId> tails(std::max<std::uint64_t>(1, blocks / kChainBlocks), root);
  for (std::uint64_t n = 0; n < blocks; ++n) {
    const std::uint64_t chain = n % tails.size();
    add_ready(table, numbered_hash(n), tails[chain]);
    tails[chain] = table.find(numbered_hash(n), 0);
  }
}

/// The writer at full rate: replaces one of kChurn entries after another. One operation = one erase or one store.
void churn(BlockTable& table, BlockId root, std::uint64_t first, const std::atomic<bool>& stop,
           std::atomic<std::uint64_t>& operations) {
  std::vector<std::uint64_t> names(kChurn);
  for (std::uint64_t i = 0; i < kChurn; ++i) add_ready(table, numbered_hash(names[i] = first + i), root);
  for (std::uint64_t next = first + kChurn; !stop.load(std::memory_order_acquire); ++next) {
    std::uint64_t& slot = names[next % kChurn];
    const BlockId id = table.find(numbered_hash(slot), 0);
    table.set_state(id, TierId::kHost, CopyState::kAbsent);
    table.erase_if_unused(id);
    add_ready(table, numbered_hash(slot = next), root);
    operations.fetch_add(2, std::memory_order_relaxed);
  }
}

/// As many random reads of whole lines as a match makes, 32 ahead, in a region of the directory's size.
std::uint64_t read_lines(const Mapping& region, std::span<const std::uint32_t> lines) {
  constexpr std::size_t kAhead = 32;
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i + kAhead < lines.size()) __builtin_prefetch(region.data() + std::uint64_t{lines[i + kAhead]} * 64);
    std::uint64_t word = 0;
    std::memcpy(&word, region.data() + std::uint64_t{lines[i]} * 64, sizeof word);
    sum += word;
  }
  return sum;
}

int run(const Arguments& arguments) {
  const std::uint64_t capacity = arguments.blocks + kChurn + 1;
  auto table = BlockTable::create({.capacity = capacity, .seed = 1});
  if (!table) return fmt::print(stderr, "{}\n", table.error().message), 2;
  const BlockId root = table->insert_root(numbered_hash(UINT64_MAX));
  const SteadyClock clock;
  const std::uint64_t fill_start = clock.now_ns();
  fill(*table, arguments.blocks, root);
  const double fill_ns = static_cast<double>(clock.now_ns() - fill_start) / static_cast<double>(arguments.blocks);

  const std::uint64_t chains = std::max<std::uint64_t>(1, arguments.blocks / kChainBlocks);
  std::uint64_t lines_touched = 0;
  constexpr std::uint64_t kSample = 100'000;
  for (std::uint64_t n = 0; n < std::min(kSample, arguments.blocks); ++n) {
    const BlockHash hash = numbered_hash(n * 97 % arguments.blocks);
    lines_touched += table->directory().lines_touched(table->directory().place(hash, 0), table->find(hash, 0));
  }

  auto region = Mapping::create({.bytes = table->directory().bytes()});
  if (!region || !region->populate(0, region->bytes())) return fmt::print(stderr, "no memory for the bound\n"), 2;

  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> operations{0};
  std::thread writer([&] { churn(*table, root, arguments.blocks, stop, operations); });
  while (operations.load() == 0) std::this_thread::yield();

  const std::vector<GroupRule> rules{{.kind = GroupKind::kFullAttention}};
  std::vector<double> match_us;
  std::vector<double> lines_us;
  std::vector<TierSet> tiers;
  tiers.reserve(kMatch);
  Random random(2);
  std::uint64_t sum = 0;
  std::uint64_t short_matches = 0;
  const std::uint64_t writer_start = clock.now_ns();
  const std::uint64_t operations_start = operations.load();
  for (std::size_t round = 0; round < arguments.rounds; ++round) {
    const std::uint64_t chain = random.below(chains);
    const std::size_t length = std::min<std::size_t>(kMatch, arguments.blocks / chains);
    std::vector<BlockHash> hashes;
    hashes.reserve(length);
    for (std::size_t i = 0; i < length; ++i) hashes.push_back(numbered_hash(chain + i * chains));
    std::vector<std::uint32_t> lines(length);
    for (auto& line : lines) line = static_cast<std::uint32_t>(random.below(region->bytes() / 64));

    const std::uint64_t t0 = clock.now_ns();
    const std::size_t matched = table->match(hashes, rules, tiers);
    const std::uint64_t t1 = clock.now_ns();
    sum += read_lines(*region, lines);
    const std::uint64_t t2 = clock.now_ns();
    short_matches += matched != length;
    match_us.push_back(static_cast<double>(t1 - t0) / 1e3);
    lines_us.push_back(static_cast<double>(t2 - t1) / 1e3);
  }
  const double writer_s = static_cast<double>(clock.now_ns() - writer_start) / 1e9;
  const double rate = static_cast<double>(operations.load() - operations_start) / writer_s;
  stop.store(true, std::memory_order_release);
  writer.join();

  const double bytes_a_block = static_cast<double>(table->bytes()) / static_cast<double>(capacity) +
                               static_cast<double>(LruPolicy(1).bytes_per_block());
  const Mapping& pages = table->directory().mapping();
  fmt::print(
      "index of {} blocks: {:.1f} bytes a block with policy state (budget 128), {:.0f} ns a store while filling\n",
      arguments.blocks, bytes_a_block, fill_ns);
  fmt::print("pages: directory {} MiB, {:.0f} % on huge pages; {:.3f} lines touched a lookup\n", pages.bytes() >> 20U,
             100.0 * static_cast<double>(pages.huge_bytes()) / static_cast<double>(pages.bytes()),
             static_cast<double>(lines_touched) / static_cast<double>(std::min(kSample, arguments.blocks)));
  fmt::print("writer beside it: {:.2f} million operations a second\n", rate / 1e6);
  fmt::print("match of {} blocks:      p50 {:7.1f} us  p99 {:7.1f} us   ({} of {} matches were short)\n", kMatch,
             at_share(match_us, 0.5), at_share(match_us, 0.99), short_matches, arguments.rounds);
  fmt::print("{} prefetched lines:     p50 {:7.1f} us  p99 {:7.1f} us\n", kMatch, at_share(lines_us, 0.5),
             at_share(lines_us, 0.99));
  fmt::print("ratio match / bound:       p50 {:7.2f}      (checksum of the reads: {})\n",
             at_share(match_us, 0.5) / at_share(lines_us, 0.5), sum % 10);
  return bytes_a_block <= 128.0 ? 0 : 1;
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  tiercel::Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view key = argv[i];
    const std::uint64_t value = std::strtoull(argv[i + 1], nullptr, 10);
    if (value == 0 || (key != "--blocks" && key != "--rounds")) {
      fmt::print(stderr, "usage: {} [--blocks N] [--rounds N]\n", argv[0]);
      return 2;
    }
    (key == "--blocks" ? arguments.blocks : arguments.rounds) = value;
  }
  return tiercel::run(arguments);
}
