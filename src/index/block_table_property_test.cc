// Goal: random stores, aborts, evictions and deletes over several tiers and groups keep the table equal to a small
// model: which keys exist, their states, stubs, child counts per tier, and the length of every match.
#include "base/random.h"
#include "index/block_table.h"
#include "model/testing/numbered_hash.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <optional>

namespace tiercel {
namespace {

constexpr unsigned kNames = 24;

/// Names 1..kNames form a fixed tree: the parent of n is n / 2 (0 is the root).
BlockHash hash_of(unsigned n) { return testing_support::numbered_hash(n); }

struct Model {
  std::map<unsigned, std::array<CopyState, kTierCount>> entries;  // exactly those that should exist

  [[nodiscard]] bool has_copy(unsigned n) const {
    const auto found = entries.find(n);
    return found != entries.end() && std::ranges::any_of(found->second, is_present);
  }
  [[nodiscard]] bool has_child(unsigned n) const { return entries.contains(2 * n) || entries.contains(2 * n + 1); }
  void collect(unsigned n) {
    while (n != 0 && entries.contains(n) && !has_copy(n) && !has_child(n)) {
      entries.erase(n);
      n /= 2;
    }
  }
};

class World {
 public:
  explicit World(std::uint64_t seed)
      : random_(seed),
        table_(*BlockTable::create({.capacity = kNames + 1, .seed = seed})),
        root_(table_.insert_root(hash_of(0))) {}

  void step() {
    const auto n = static_cast<unsigned>(1 + random_.below(kNames));
    const auto tier = static_cast<TierId>(random_.below(kTierCount));
    const auto to = static_cast<CopyState>(random_.below(kCopyStates));
    BlockId id = table_.find(hash_of(n), 0);
    RC_ASSERT((id != kNoBlock) == model_.entries.contains(n));
    const CopyState from = id == kNoBlock ? CopyState::kAbsent : table_.state(id, tier);
    if (!is_allowed(from, to)) return;
    if (id == kNoBlock) {
      const BlockId parent = n / 2 == 0 ? root_ : table_.find(hash_of(n / 2), 0);
      if (parent == kNoBlock) return;  // parents first
      id = table_.insert(hash_of(n), 0, parent);
      model_.entries[n] = {};
    }
    table_.set_state(id, tier, to);
    model_.entries[n][static_cast<std::size_t>(tier)] = to;
    table_.erase_if_unused(id);
    model_.collect(n);
    check();
  }

 private:
  void check() {
    table_.check_consistency();
    std::uint64_t stubs = 0;
    for (unsigned n = 1; n <= kNames; ++n) {
      const BlockId id = table_.find(hash_of(n), 0);
      const auto found = model_.entries.find(n);
      RC_ASSERT((id != kNoBlock) == (found != model_.entries.end()));
      if (id == kNoBlock) continue;
      stubs += model_.has_copy(n) ? 0U : 1U;
      for (std::size_t t = 0; t < kTierCount; ++t) {
        std::uint32_t children = 0;
        for (unsigned child : {2 * n, 2 * n + 1}) {
          const auto c = model_.entries.find(child);
          children += c != model_.entries.end() && is_present(c->second[t]) ? 1U : 0U;
        }
        RC_ASSERT(table_.children_in(id, static_cast<TierId>(t)) == children);
        RC_ASSERT(table_.state(id, static_cast<TierId>(t)) == found->second[t]);
      }
    }
    RC_ASSERT(table_.stubs() == stubs);
    check_match(static_cast<unsigned>(1 + random_.below(kNames)));
  }

  void check_match(unsigned leaf) {
    std::vector<BlockHash> path;
    std::vector<unsigned> names;
    for (unsigned n = leaf; n != 0; n /= 2) names.insert(names.begin(), n);
    for (unsigned n : names) path.push_back(hash_of(n));
    std::size_t expected = 0;
    for (unsigned n : names) {
      const auto found = model_.entries.find(n);
      if (found == model_.entries.end() || std::ranges::none_of(found->second, is_readable)) break;
      ++expected;
    }
    std::vector<TierSet> tiers;
    const std::vector<GroupRule> rules{{.kind = GroupKind::kFullAttention}};
    RC_ASSERT(table_.match(path, rules, tiers) == expected);
    for (std::size_t i = 0; i < expected; ++i) {
      for (std::size_t t = 0; t < kTierCount; ++t) {
        RC_ASSERT(tiers[i].has(static_cast<TierId>(t)) == is_readable(model_.entries[names[i]][t]));
      }
    }
  }

  Random random_;
  BlockTable table_;
  BlockId root_;
  Model model_;
};

RC_GTEST_PROP(BlockTableProperty, equals_the_model, ()) {
  World world(*rc::gen::arbitrary<std::uint64_t>());
  for (int i = 0; i < 400; ++i) world.step();
}

}  // namespace
}  // namespace tiercel
