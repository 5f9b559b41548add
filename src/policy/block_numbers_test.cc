// Goal: the table finds what a plain map finds, through growth and removal, also where all names meet in one cell.
#include "policy/block_numbers.h"

#include "base/random.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace tiercel {
namespace {

void compare_with_a_map(std::uint64_t names) {
  Random random(7);
  std::vector<std::uint64_t> pool;  // names by number
  const auto name_of = [&pool](std::uint32_t number) { return pool[number]; };
  BlockNumbers numbers(4);
  std::map<std::uint64_t, std::uint32_t> plain;
  for (int step = 0; step < 20'000; ++step) {
    const std::uint64_t name = random.below(names) << 50U;  // the low bits are all the same
    const auto found = plain.find(name);
    ASSERT_EQ(numbers.find(name, name_of), found == plain.end() ? BlockNumbers::kNone : found->second);
    if (found == plain.end()) {
      pool.push_back(name);
      plain[name] = static_cast<std::uint32_t>(pool.size() - 1);
      numbers.insert(plain[name], name_of);
    } else if (random.below(2) == 0) {
      numbers.erase(name, name_of);
      plain.erase(found);
    }
  }
}

TEST(BlockNumbers, find_what_a_map_finds) {
  compare_with_a_map(12);
  compare_with_a_map(2000);
}

}  // namespace
}  // namespace tiercel
