// Goal: chunks are few, stores keep their pace, give way to loads and keep their floor beside them.
#include "cuda/transfer_scheduler.h"

#include <gtest/gtest.h>

namespace tiercel::gpu {
namespace {

constexpr std::uint64_t kChunk = 2'000'000;
constexpr auto kStore = CopyDirection::kStore;
constexpr auto kLoad = CopyDirection::kLoad;

/// Bytes of stores in `ns`, looked for every `step_ns`, where a chunk ends at once.
std::uint64_t stored_in(TransferScheduler& scheduler, std::uint64_t from_ns, std::uint64_t ns, std::uint64_t step_ns) {
  std::uint64_t bytes = 0;
  for (std::uint64_t now = from_ns; now < from_ns + ns; now += step_ns) {
    for (int chunks = 0; chunks < 1000 && scheduler.may_start(kStore, now);
         ++chunks) {  // an end where there is no pace
      scheduler.started(kStore, kChunk, now);
      scheduler.ended(kStore);
      bytes += kChunk;
    }
  }
  return bytes;
}

TEST(TransferScheduler, queues_at_most_depth_chunks_a_direction) {
  TransferScheduler scheduler({.depth = 2});
  for (const auto direction : {kStore, kLoad}) {
    EXPECT_TRUE(scheduler.may_start(direction, 5));
    scheduler.started(direction, kChunk, 5);
    EXPECT_TRUE(scheduler.may_start(direction, 5));
    scheduler.started(direction, kChunk, 5);
    EXPECT_FALSE(scheduler.may_start(direction, 5));
  }
  scheduler.ended(kLoad);
  EXPECT_TRUE(scheduler.may_start(kLoad, 5));
  EXPECT_FALSE(scheduler.may_start(kStore, 5));
}

TEST(TransferScheduler, stores_keep_their_pace_however_seldom_it_is_looked) {
  for (const std::uint64_t step_ns : {1'000ULL, 37'000ULL, 150'000ULL}) {
    TransferScheduler scheduler({.depth = 2, .store_bytes_per_second = 12'000'000'000});
    const auto rate = static_cast<double>(stored_in(scheduler, 1'000'000'000, 100'000'000, step_ns)) / 0.1;
    EXPECT_NEAR(rate, 12e9, 12e9 * 0.01) << "every " << step_ns << " ns";
  }
}

TEST(TransferScheduler, a_pause_saves_up_one_chunk_at_most) {
  TransferScheduler scheduler({.depth = 8, .store_bytes_per_second = 12'000'000'000});
  EXPECT_EQ(stored_in(scheduler, 1'000'000'000, 1, 1), 2 * kChunk);
  EXPECT_EQ(stored_in(scheduler, 9'000'000'000, 1, 1), 2 * kChunk);
}

TEST(TransferScheduler, beside_loads_stores_have_their_floor_and_no_more) {
  TransferScheduler scheduler({.depth = 2, .link_bytes_per_second = 50'000'000'000, .store_floor_percent = 10});
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(scheduler.may_start(kStore, 1)) << "unpaced alone";
    scheduler.started(kStore, kChunk, 1);
    scheduler.ended(kStore);
  }
  scheduler.set_loads_active(true);
  const auto rate = static_cast<double>(stored_in(scheduler, 2'000'000, 100'000'000, 1000)) / 0.1;
  EXPECT_NEAR(rate, 5e9, 5e9 * 0.03);
}

TEST(TransferScheduler, a_floor_of_all_lets_both_directions_run) {
  TransferScheduler scheduler({.depth = 2, .store_floor_percent = 100});
  scheduler.set_loads_active(true);
  EXPECT_TRUE(scheduler.may_start(kStore, 1));
  scheduler.started(kStore, kChunk, 1);
  EXPECT_TRUE(scheduler.may_start(kStore, 1));
}

}  // namespace
}  // namespace tiercel::gpu
