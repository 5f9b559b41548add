// Goal: both executors keep one contract: bounded submit, waiting with a deadline, everything taken is run.
#include "base/executor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>

namespace tiercel {
namespace {

struct Threaded {
  SteadyClock clock;
  ThreadedExecutor executor{{.threads = 3, .queue_capacity = 64}, clock};
};
struct Manual {
  ManualClock clock;
  ManualExecutor executor{clock, 64};
};

template <class T>
class ExecutorContract : public testing::Test {
 protected:
  std::unique_ptr<T> env_ = std::make_unique<T>();
};
using Kinds = testing::Types<Threaded, Manual>;
TYPED_TEST_SUITE(ExecutorContract, Kinds);

TYPED_TEST(ExecutorContract, runs_everything_that_it_took) {
  std::atomic<int> ran{0};
  auto& executor = this->env_->executor;  // by reference: a task may still run while env_ is being reset
  int taken = 0;
  for (int i = 0; i < 50; ++i) {
    taken += executor.submit([&] {
      ran.fetch_add(1);
      executor.wake();
    });
  }
  EXPECT_TRUE(executor.wait_until([&] { return ran.load() == taken; }, UINT64_MAX));
  EXPECT_EQ(taken, 50);
  this->env_.reset();
  EXPECT_EQ(ran.load(), taken);
}

TYPED_TEST(ExecutorContract, a_passed_deadline_ends_the_wait) {
  EXPECT_FALSE(this->env_->executor.wait_until([] { return false; }, 0));
  EXPECT_FALSE(this->env_->executor.wait_until([] { return false; }, this->env_->clock.now_ns()));
}

TYPED_TEST(ExecutorContract, tasks_may_submit_tasks) {
  std::atomic<bool> inner{false};
  auto& executor = this->env_->executor;
  ASSERT_TRUE(executor.submit([&] {
    (void)executor.submit([&] {
      inner.store(true);
      executor.wake();
    });
  }));
  EXPECT_TRUE(executor.wait_until([&] { return inner.load(); }, UINT64_MAX));
  this->env_.reset();
}

TEST(ThreadedExecutor, refuses_when_its_queue_is_full) {
  SteadyClock clock;
  std::atomic<bool> started{false};
  std::atomic<bool> go{false};
  ThreadedExecutor executor({.threads = 1, .queue_capacity = 2}, clock);  // last: its task reads the two until it joins
  ASSERT_TRUE(executor.submit([&] {
    started.store(true);
    executor.wake();
    (void)executor.wait_until([&] { return go.load(); }, UINT64_MAX);
  }));
  ASSERT_TRUE(executor.wait_until([&] { return started.load(); }, UINT64_MAX));
  EXPECT_TRUE(executor.submit([] {}));
  EXPECT_TRUE(executor.submit([] {}));
  EXPECT_FALSE(executor.submit([] {}));
  go.store(true);
  executor.wake();
}

TEST(ManualExecutor, runs_in_the_order_that_the_caller_picks) {
  ManualClock clock;
  ManualExecutor executor(clock, 2);
  std::vector<int> order;
  ASSERT_TRUE(executor.submit([&] { order.push_back(1); }));
  ASSERT_TRUE(executor.submit([&] { order.push_back(2); }));
  EXPECT_FALSE(executor.submit([&] { order.push_back(3); }));
  EXPECT_TRUE(executor.run(1));
  EXPECT_TRUE(executor.run());
  EXPECT_FALSE(executor.run());
  EXPECT_EQ(order, (std::vector<int>{2, 1}));
}

}  // namespace
}  // namespace tiercel
