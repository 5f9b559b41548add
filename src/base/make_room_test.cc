// Goal: there is room for what was asked, and a list that grows by slices is copied a few times, not once a slice.
#include "base/make_room.h"

#include <gtest/gtest.h>

#include <vector>

namespace tiercel {
namespace {

TEST(MakeRoom, a_list_that_grows_by_slices_moves_a_few_times) {
  constexpr std::size_t kSlice = 32;
  constexpr std::size_t kElements = 1 << 20;
  std::vector<int> list;
  int moves = 0;
  while (list.size() < kElements) {
    const std::size_t before = list.capacity();
    make_room(list, kSlice);
    ASSERT_GE(list.capacity(), list.size() + kSlice);
    moves += list.capacity() != before ? 1 : 0;
    list.insert(list.end(), kSlice, 1);
  }
  EXPECT_LE(moves, 20);
}

TEST(MakeRoom, room_that_is_there_is_left_as_it_is) {
  std::vector<int> list;
  list.reserve(100);
  const int* const at = list.data();
  make_room(list, 100);
  EXPECT_EQ(list.data(), at);
  EXPECT_EQ(list.capacity(), 100U);
}

}  // namespace
}  // namespace tiercel
