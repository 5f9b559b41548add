// Goal: the arena is the size asked for, of the kind asked for, and keeps what is written.
#include "memory/arena.h"

#include <gtest/gtest.h>

namespace tiercel {
namespace {

TEST(Arena, is_as_large_as_asked_for_and_keeps_content) {
  for (const ArenaKind kind : {ArenaKind::kAnonymous, ArenaKind::kMemfd}) {
    auto arena = Arena::create({.capacity = 16_MiB, .arena = kind});
    ASSERT_TRUE(arena) << arena.error().message;
    EXPECT_EQ((*arena)->bytes(), 16_MiB);
    EXPECT_EQ((*arena)->shared_mapping()->bytes(), 16_MiB);
    (*arena)->data()[16_MiB - 1] = std::byte{42};
    EXPECT_EQ((*arena)->shared_mapping()->data()[16_MiB - 1], std::byte{42});
  }
}

}  // namespace
}  // namespace tiercel
