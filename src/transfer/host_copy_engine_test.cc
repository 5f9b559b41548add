// Goal: what is special to the host engine: loads before stores with a floor, chunks over workers, giving way to the
// executor's other tasks, refusal when the executor has no room; and what the holding decorator promises to tests.
#include "transfer/host_copy_engine.h"

#include "base/executor.h"
#include "transfer/held_copy_engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace tiercel {
namespace {

class HostCopy : public testing::Test {
 protected:
  CopyJob copy(char mark, CopyDirection direction, std::size_t bytes = 8) {
    return {.work = ByteCopy{to_.data(), from_.data(), bytes},
            .direction = direction,
            .done = [this, mark](const Status&) { order_ += mark; }};
  }
  ManualClock clock_;
  ManualExecutor executor_{clock_};
  std::vector<std::byte> from_ = std::vector<std::byte>(1U << 20U, std::byte{3});
  std::vector<std::byte> to_ = std::vector<std::byte>(1U << 20U);
  std::string order_;
};

TEST_F(HostCopy, loads_go_before_stores_that_came_earlier_and_one_chunk_in_ten_is_a_stores) {
  HostCopyEngine engine(executor_);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(engine.submit(copy('s', CopyDirection::kStore)));
  for (int i = 0; i < 27; ++i) ASSERT_TRUE(engine.submit(copy('l', CopyDirection::kLoad)));
  executor_.run_all();
  EXPECT_EQ(order_, std::string(9, 'l') + 's' + std::string(9, 'l') + 's' + std::string(9, 'l') + "ss");
}

TEST_F(HostCopy, gives_way_to_other_tasks_after_a_slice) {
  HostCopyEngine engine(executor_, {.chunk_bytes = 64U << 10U, .slice_bytes = 128U << 10U});
  ASSERT_TRUE(engine.submit(copy('c', CopyDirection::kLoad, 1U << 20U)));
  ASSERT_TRUE(executor_.submit([this] { order_ += 'o'; }));
  executor_.run_all();
  EXPECT_EQ(order_, "oc");
  EXPECT_EQ(to_, from_);
}

TEST_F(HostCopy, goes_on_in_place_when_the_executor_has_no_room_to_give_way) {
  ManualExecutor small(clock_, 1);
  HostCopyEngine engine(small, {.chunk_bytes = 64U << 10U, .slice_bytes = 64U << 10U});
  CopyJob first = copy('a', CopyDirection::kLoad);
  first.done = [&](const Status&) { ASSERT_TRUE(small.submit([this] { order_ += 'o'; })); };  // fills the queue
  ASSERT_TRUE(engine.submit(std::move(first)));
  ASSERT_TRUE(engine.submit(copy('c', CopyDirection::kLoad, 1U << 20U)));
  ASSERT_TRUE(small.run());
  EXPECT_EQ(order_, "c") << "the task should not have ended before its copy";
  small.run_all();
  EXPECT_EQ(order_, "co");
  EXPECT_EQ(to_, from_);
}

TEST_F(HostCopy, refuses_when_no_task_can_be_queued) {
  ManualExecutor full(clock_, 1);
  ASSERT_TRUE(full.submit([] {}));
  HostCopyEngine engine(full);
  CopyJob job = copy('c', CopyDirection::kLoad);
  EXPECT_FALSE(engine.submit(std::move(job)));
  EXPECT_EQ(engine.in_flight(), 0U);
  full.run_all();
  EXPECT_EQ(order_, "");
  EXPECT_TRUE(engine.submit(std::move(job)));  // NOLINT(bugprone-use-after-move): a refused job stays whole
  full.run_all();
  EXPECT_EQ(order_, "c");
}

TEST_F(HostCopy, jobs_from_many_threads_complete_once_each_and_whole) {
  SteadyClock clock;
  std::atomic<int> completions{0};
  constexpr int kThreads = 4;
  constexpr int kJobs = 40;
  constexpr std::size_t kBytes = 150'000;
  std::vector<std::byte> targets(kThreads * kJobs * kBytes);
  {
    ThreadedExecutor executor({.threads = 3, .queue_capacity = 8}, clock);
    HostCopyEngine engine(executor, {.max_jobs = 16, .slice_bytes = 100'000, .stream_min_bytes = 100'000});
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int j = 0; j < kJobs; ++j) {
          std::byte* to = targets.data() + static_cast<std::size_t>(t * kJobs + j) * kBytes;
          CopyJob job{.work = ByteCopy{to, from_.data(), kBytes},
                      .direction = j % 2 == 0 ? CopyDirection::kLoad : CopyDirection::kStore,
                      .done = [&, to](const Status&) {
                        // Visible here, and to whoever synchronises with this counter.
                        if (std::equal(to, to + kBytes, from_.data())) completions.fetch_add(1);
                      }};
          (void)executor.wait_until([&] { return engine.submit(std::move(job)); }, UINT64_MAX);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(completions.load(), kThreads * kJobs);
}

TEST_F(HostCopy, held_jobs_move_no_byte_until_released_in_the_order_that_the_test_picks) {
  HostCopyEngine inner(executor_);
  HeldCopyEngine engine(inner, executor_, 3);
  ASSERT_TRUE(engine.submit(copy('a', CopyDirection::kLoad)));
  ASSERT_TRUE(engine.submit(copy('b', CopyDirection::kLoad)));
  ASSERT_TRUE(engine.submit(copy('c', CopyDirection::kLoad)));
  EXPECT_FALSE(engine.submit(copy('d', CopyDirection::kLoad))) << "holds at most three";
  executor_.run_all();
  EXPECT_EQ(to_[0], std::byte{0});
  EXPECT_EQ(engine.in_flight(), 3U);
  EXPECT_TRUE(engine.release(1));
  executor_.run_all();
  EXPECT_EQ(to_[0], std::byte{3});
  EXPECT_FALSE(engine.release(2));
  EXPECT_TRUE(engine.release(1));
  EXPECT_TRUE(engine.release());
  executor_.run_all();
  EXPECT_EQ(order_, "bca");
  EXPECT_EQ(engine.in_flight(), 0U);
}

TEST_F(HostCopy, destroying_the_holder_releases_what_it_holds_even_past_a_busy_engine) {
  HostCopyEngine inner(executor_, {.max_jobs = 1});
  {
    HeldCopyEngine engine(inner, executor_);
    for (const char mark : {'a', 'b', 'c'}) ASSERT_TRUE(engine.submit(copy(mark, CopyDirection::kLoad)));
  }
  executor_.run_all();
  EXPECT_EQ(order_, "abc");
}

}  // namespace
}  // namespace tiercel
