// Goal: any sequence of calls gives the victims that a plain list gives.
#include "base/random.h"
#include "policy/lru.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <list>
#include <vector>

namespace tiercel {
namespace {

RC_GTEST_PROP(LruProperty, equals_a_plain_list, ()) {
  constexpr PolicyBlock kBlocks = 12;
  Random random(*rc::gen::arbitrary<std::uint64_t>());
  LruPolicy lru(kBlocks);
  lru.add_list(1);
  std::list<PolicyBlock> model[2];  // cold to hot
  const auto list_of = [](PolicyBlock b) { return static_cast<PolicyList>(b % 2); };
  for (int step = 0; step < 300; ++step) {
    const auto block = static_cast<PolicyBlock>(random.below(kBlocks));
    auto& list = model[list_of(block)];
    const bool known = std::ranges::find(list, block) != list.end();
    RC_ASSERT(lru.knows(block) == known);
    switch (random.below(4)) {
      case 0:
        if (known) break;
        lru.insert(block, list_of(block), 0);
        list.push_back(block);
        break;
      case 1:
        lru.touch(std::vector<PolicyBlock>{block}, 0);
        if (known) list.splice(list.end(), list, std::ranges::find(list, block));
        break;
      case 2:
        lru.erase(block);
        list.remove(block);
        break;
      default: {
        const auto held = static_cast<PolicyBlock>(random.below(kBlocks));
        const auto victim = lru.victim(list_of(block), [&](PolicyBlock b) { return b != held; });
        if (!list.empty() && list.front() == held) list.splice(list.end(), list, list.begin());
        if (list.empty() || list.front() == held) {
          RC_ASSERT(!victim);
        } else {
          RC_ASSERT(victim == list.front());
        }
      }
    }
  }
}

}  // namespace
}  // namespace tiercel
