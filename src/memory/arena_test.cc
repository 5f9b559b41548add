// Goal: the arena is the size asked for, is touched piece by piece beside other work, and stops when told.
#include "memory/arena.h"

#include <gtest/gtest.h>

namespace tiercel {
namespace {

TEST(Arena, prefaults_in_pieces_and_keeps_content) {
  ManualClock clock;
  ManualExecutor executor(clock);
  auto arena = Arena::create({.capacity = 16_MiB});
  ASSERT_TRUE(arena) << arena.error().message;
  EXPECT_EQ((*arena)->bytes(), 16_MiB);
  (*arena)->data()[5_MiB] = std::byte{42};
  (*arena)->start_prefault(executor, 4_MiB);
  EXPECT_EQ((*arena)->prefaulted_bytes(), 0U);
  ASSERT_TRUE(executor.run());
  if ((*arena)->prefaulted_bytes() == 0) GTEST_SKIP() << "this kernel has no MADV_POPULATE_WRITE";
  EXPECT_EQ((*arena)->prefaulted_bytes(), 4_MiB);
  executor.run_all();
  EXPECT_EQ((*arena)->prefaulted_bytes(), 16_MiB);
  EXPECT_EQ((*arena)->data()[5_MiB], std::byte{42});
}

TEST(Arena, stops_when_told) {
  ManualClock clock;
  ManualExecutor executor(clock);
  auto arena = Arena::create({.capacity = 16_MiB});
  ASSERT_TRUE(arena);
  (*arena)->start_prefault(executor, 4_MiB);
  (*arena)->stop_prefault();
  executor.run_all();
  EXPECT_EQ((*arena)->prefaulted_bytes(), 0U);
}

TEST(Arena, several_threads_touch_all_of_it_once) {
  SteadyClock clock;
  auto arena = Arena::create({.capacity = 64_MiB, .arena = ArenaKind::kMemfd});
  ASSERT_TRUE(arena);
  {
    ThreadedExecutor executor({.threads = 3}, clock);
    (*arena)->start_prefault(executor, 2_MiB);
  }  // runs what is queued; a task that finds the executor stopping cannot queue its successor
  EXPECT_LE((*arena)->prefaulted_bytes(), 64_MiB);
}

}  // namespace
}  // namespace tiercel
