// Goal: any sequence of calls gives the victims that a plain list gives; and with blocks that may not go, a search
// finds one that may exactly if there is one, in bounded slices.
#include "base/random.h"
#include "policy/lru.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <list>
#include <set>
#include <vector>

namespace tiercel {
namespace {

/// As an owner searches: slice by slice, until the policy's own count says that no block may go.
struct Search {
  std::optional<PolicyBlock> victim;
  std::uint64_t asked = 0;
  std::uint64_t most_in_a_slice = 0;
};
Search search(LruPolicy& lru, PolicyList list, const std::set<PolicyBlock>& held) {
  Search result;
  while (!result.victim && result.asked < lru.asks_for_all(list)) {
    const std::uint64_t before = result.asked;
    result.victim = lru.victim(list, [&](PolicyBlock b) {
      ++result.asked;
      return !held.contains(b);
    });
    result.most_in_a_slice = std::max(result.most_in_a_slice, result.asked - before);
  }
  return result;
}

class World {
 public:
  World(std::uint64_t seed, std::uint64_t blocks) : random_(seed), blocks_(blocks), lru_(blocks) { lru_.add_list(1); }

  /// `holding`: some blocks may not go, and which of them changes.
  void step(bool holding) {
    const auto block = static_cast<PolicyBlock>(random_.below(blocks_));
    std::list<PolicyBlock>& list = model_[block % 2];
    const bool known = std::ranges::find(list, block) != list.end();
    RC_ASSERT(lru_.knows(block) == known);
    switch (random_.below(holding ? 6 : 4)) {
      case 0:
        if (known) break;
        lru_.insert(block, list_of(block), 0);
        list.push_back(block);
        break;
      case 1:
        lru_.touch(std::vector<PolicyBlock>{block}, 0);
        if (known) list.splice(list.end(), list, std::ranges::find(list, block));
        break;
      case 2:
        lru_.erase(block);
        list.remove(block);
        break;
      case 3:
        evict(block);
        break;
      case 4:
        held_.insert(block);
        held_any_ = true;
        break;
      default:
        held_.erase(block);
        break;
    }
  }

 private:
  static PolicyList list_of(PolicyBlock block) { return static_cast<PolicyList>(block % 2); }
  void evict(PolicyBlock any_of_list) {
    std::list<PolicyBlock>& list = model_[any_of_list % 2];
    const Search found = search(lru_, list_of(any_of_list), held_);
    const bool any = std::ranges::any_of(list, [&](PolicyBlock b) { return !held_.contains(b); });
    RC_ASSERT(found.victim.has_value() == any);
    RC_ASSERT(found.most_in_a_slice <= EvictionPolicy::kSearch);
    if (!any) return;
    RC_ASSERT(!held_.contains(*found.victim));
    RC_ASSERT(std::ranges::find(list, *found.victim) != list.end());
    if (!held_any_) RC_ASSERT(*found.victim == list.front());
    if (random_.below(2) == 0) return;  // it may stay, too
    lru_.erase(*found.victim);
    list.remove(*found.victim);
  }

  Random random_;
  std::uint64_t blocks_;
  LruPolicy lru_;
  std::list<PolicyBlock> model_[2];  // cold to hot
  std::set<PolicyBlock> held_;
  bool held_any_ = false;  // ever
};

RC_GTEST_PROP(LruProperty, equals_a_plain_list, ()) {
  World world(*rc::gen::arbitrary<std::uint64_t>(), 12);
  for (int i = 0; i < 300; ++i) world.step(false);
}

RC_GTEST_PROP(LruProperty, a_search_finds_a_block_exactly_if_one_may_go, ()) {
  World world(*rc::gen::arbitrary<std::uint64_t>(), *rc::gen::inRange<std::uint64_t>(2, 200));
  for (int i = 0; i < 600; ++i) world.step(true);
}

RC_GTEST_PROP(LruProperty, thousands_of_cold_blocks_that_may_not_go_cost_once, ()) {
  const auto held_blocks = *rc::gen::inRange<PolicyBlock>(0, 5'000);
  const auto warm = *rc::gen::inRange<PolicyBlock>(1, 100);
  LruPolicy lru(held_blocks + warm + 1'000);
  lru.add_list(0);
  std::set<PolicyBlock> held;
  PolicyBlock next = 0;
  for (; next < held_blocks; ++next) {
    lru.insert(next, 0, 0);
    held.insert(held.end(), next);
  }
  for (; next < held_blocks + warm; ++next) lru.insert(next, 0, 0);
  std::uint64_t asked = 0;
  for (PolicyBlock i = 0; i < 1'000; ++i, ++next) {  // a full tier: one goes, one comes
    const Search found = search(lru, 0, held);
    asked += found.asked;
    RC_ASSERT(found.victim == held_blocks + i);  // those that may go are in order
    lru.erase(*found.victim);
    lru.insert(next, 0, 0);
  }
  RC_ASSERT(asked <= held_blocks + held_blocks / 10 + 3'100U);
}

}  // namespace
}  // namespace tiercel
