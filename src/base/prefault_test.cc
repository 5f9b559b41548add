// Goal: pages are provided piece by piece beside other work, to the end of all mappings, and not after a stop.
#include "base/prefault.h"
#include "base/log.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

std::shared_ptr<Prefault> started(std::vector<std::shared_ptr<const Mapping>> mappings, Executor& executor,
                                  std::uint64_t piece_bytes = 4_MiB) {
  auto prefault =
      std::make_shared<Prefault>(Prefault::Options{.mappings = std::move(mappings), .piece_bytes = piece_bytes});
  prefault->start(executor);
  return prefault;
}

std::shared_ptr<const Mapping> mapping(std::uint64_t bytes, ArenaKind kind = ArenaKind::kAnonymous) {
  auto made = Mapping::share({.bytes = bytes, .kind = kind});
  return made ? *made : nullptr;
}

TEST(Prefault, goes_in_pieces_over_all_mappings_and_keeps_content) {
  ManualClock clock;
  ManualExecutor executor(clock);
  const auto first = mapping(6_MiB);  // ends within a piece
  const auto second = mapping(16_MiB);
  ASSERT_TRUE(first && second);
  second->data()[5_MiB] = std::byte{42};
  const auto prefault = started({first, second}, executor);
  EXPECT_EQ(prefault->bytes(), 0U);
  ASSERT_TRUE(executor.run());
  if (prefault->bytes() == 0) GTEST_SKIP() << "this kernel has no MADV_POPULATE_WRITE";
  EXPECT_EQ(prefault->bytes(), 4_MiB);
  ASSERT_TRUE(executor.run());
  EXPECT_EQ(prefault->bytes(), 6_MiB);
  ASSERT_TRUE(executor.run());
  EXPECT_EQ(prefault->bytes(), 10_MiB);
  EXPECT_FALSE(prefault->done());
  executor.run_all();
  EXPECT_TRUE(prefault->done());
  EXPECT_EQ(prefault->bytes(), 22_MiB);
  EXPECT_EQ(second->data()[5_MiB], std::byte{42});
}

TEST(Prefault, outlives_who_asked_for_it) {
  ManualClock clock;
  ManualExecutor executor(clock);
  auto pages = mapping(8_MiB);
  ASSERT_TRUE(pages);
  const std::weak_ptr<const Mapping> seen = pages;
  (void)started({std::move(pages)}, executor);
  EXPECT_FALSE(seen.expired());  // the queued task has it
  executor.run_all();
  EXPECT_TRUE(seen.expired());
}

TEST(Prefault, stops_when_told) {
  ManualClock clock;
  ManualExecutor executor(clock);
  const auto prefault = started({mapping(16_MiB)}, executor);
  prefault->stop();
  executor.run_all();
  EXPECT_EQ(prefault->bytes(), 0U);
}

TEST(Prefault, several_threads_touch_all_of_it_once) {
  SteadyClock clock;
  std::shared_ptr<Prefault> prefault;
  {
    ThreadedExecutor executor({.threads = 3}, clock);
    prefault = started({mapping(64_MiB, ArenaKind::kMemfd)}, executor, 2_MiB);
  }  // runs what is queued; a task that finds the executor stopping goes on in its own place
  if (prefault->bytes() == 0) GTEST_SKIP() << "this kernel has no MADV_POPULATE_WRITE";
  EXPECT_EQ(prefault->bytes(), 64_MiB);
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

TEST(Prefault, a_full_queue_does_not_end_it) {
  ManualClock clock;
  CrowdedExecutor executor(clock);
  const auto prefault = started({mapping(16_MiB)}, executor);
  executor.full = true;
  executor.run_all();
  if (prefault->bytes() == 0) GTEST_SKIP() << "this kernel has no MADV_POPULATE_WRITE";
  EXPECT_EQ(prefault->bytes(), 16_MiB);
}

TEST(Prefault, what_cannot_begin_says_so) {
  ManualClock clock;
  CrowdedExecutor executor(clock);
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, std::string_view text) { lines.emplace_back(text); });
  executor.full = true;
  (void)started({mapping(16_MiB)}, executor);
  set_log_sink({});
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_NE(lines[0].find("not provided ahead of use"), std::string::npos) << lines[0];
}

}  // namespace
}  // namespace tiercel
