// Goal: the arena is the size asked for, is touched piece by piece beside other work to its end, and stops when told.
#include "memory/arena.h"
#include "base/log.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

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
  }  // runs what is queued; a task that finds the executor stopping goes on in its own place
  if ((*arena)->prefaulted_bytes() == 0) GTEST_SKIP() << "this kernel has no MADV_POPULATE_WRITE";
  EXPECT_EQ((*arena)->prefaulted_bytes(), 64_MiB);
}

/// A queue that can be made full.
class CrowdedExecutor final : public Executor {
 public:
  explicit CrowdedExecutor(const Clock& clock) : tasks_(clock) {}
  [[nodiscard]] bool submit(Task task) override { return !full && tasks_.submit(std::move(task)); }
  bool wait_until(const std::function<bool()>& ready, std::uint64_t deadline_ns) override {
    return tasks_.wait_until(ready, deadline_ns);
  }
  void wake() noexcept override {}
  [[nodiscard]] std::size_t concurrency() const noexcept override { return 1; }
  void run_all() { tasks_.run_all(); }
  bool full = false;

 private:
  ManualExecutor tasks_;
};

TEST(Arena, a_full_queue_does_not_end_the_prefault) {
  ManualClock clock;
  CrowdedExecutor executor(clock);
  auto arena = Arena::create({.capacity = 16_MiB});
  ASSERT_TRUE(arena);
  (*arena)->start_prefault(executor, 4_MiB);
  executor.full = true;
  executor.run_all();
  if ((*arena)->prefaulted_bytes() == 0) GTEST_SKIP() << "this kernel has no MADV_POPULATE_WRITE";
  EXPECT_EQ((*arena)->prefaulted_bytes(), 16_MiB);
}

TEST(Arena, a_prefault_that_cannot_begin_says_so) {
  ManualClock clock;
  CrowdedExecutor executor(clock);
  auto arena = Arena::create({.capacity = 16_MiB});
  ASSERT_TRUE(arena);
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, std::string_view text) { lines.emplace_back(text); });
  executor.full = true;
  (*arena)->start_prefault(executor, 4_MiB);
  set_log_sink({});
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_NE(lines[0].find("not provided ahead of use"), std::string::npos) << lines[0];
}

}  // namespace
}  // namespace tiercel
