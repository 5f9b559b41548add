// What File does with what a backend answers, by a backend that answers what the test says.
#include "io/file.h"
#include "base/clock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <deque>
#include <map>
#include <memory>
#include <vector>

namespace tiercel {
namespace {

/// Notes what was started; reaps what the test puts there.
class ScriptedBackend final : public IoBackend {
 public:
  bool start(const IoOperation& operation) override {
    if (room == 0) return false;
    --room;
    started.push_back(operation);
    return true;
  }
  std::size_t reap(std::span<IoReaped> reaped, std::uint64_t wait_ns) override {
    waits.push_back(wait_ns);
    std::size_t count = 0;
    for (; count < reaped.size() && !answers.empty(); ++count) {
      reaped[count] = answers.front();
      answers.pop_front();
      ++room;
    }
    return count;
  }
  void wake() noexcept override { ++wakes; }
  [[nodiscard]] std::uint32_t depth() const noexcept override { return 4; }
  [[nodiscard]] std::uint32_t alignment() const noexcept override { return 4096; }
  [[nodiscard]] const char* name() const noexcept override { return "scripted"; }
  Status register_memory(std::span<const struct iovec> /*memory*/) override { return {}; }
  Result<std::uint64_t> size() override { return std::uint64_t{0}; }
  Status allocate(std::uint64_t /*bytes*/) override { return {}; }
  Status truncate(std::uint64_t /*bytes*/) override { return {}; }

  void answer_last(std::int64_t result) { answers.push_back({.id = started.back().id, .result = result}); }

  std::uint32_t room = 4;
  std::uint32_t wakes = 0;
  std::vector<IoOperation> started;
  std::deque<IoReaped> answers;
  std::vector<std::uint64_t> waits;
};

struct FileTest : testing::Test {
  /// One page a segment, one page apart in memory.
  IoJob job(std::size_t segments, IoKind kind = IoKind::kRead, std::uint64_t deadline_ns = UINT64_MAX) {
    IoJob made{.kind = kind, .offset = 8192, .deadline_ns = deadline_ns};
    for (std::size_t i = 0; i < segments; ++i) made.segments[i] = {page(2 * i), 4096};
    made.segment_count = segments;
    made.done = [this](const Status& status) { outcomes.push_back(status); };
    return made;
  }
  std::byte* page(std::size_t index) { return &memory->at(index * 4096); }
  std::size_t poll() { return file.poll(0); }

  struct alignas(4096) Memory : std::array<std::byte, std::size_t{4096} * 64> {};
  std::unique_ptr<Memory> memory = std::make_unique<Memory>();
  ManualClock clock;
  ScriptedBackend* backend = new ScriptedBackend;
  File file{std::unique_ptr<IoBackend>(backend), clock};
  std::vector<Status> outcomes;
};

TEST_F(FileTest, ShortTransfersGoOnWhereTheyStoppedInTheMiddleOfASegment) {
  ASSERT_TRUE(file.submit(job(3)));
  backend->answer_last(4096);
  EXPECT_EQ(poll(), 0U);
  ASSERT_EQ(backend->started.size(), 2U);
  EXPECT_EQ(backend->started[1].offset, 8192U + 4096U);
  ASSERT_EQ(backend->started[1].buffers.size(), 2U);
  EXPECT_EQ(backend->started[1].buffers[0].iov_base, page(2));
  backend->answer_last(4096 + 100);  // inside a page: goes on from the start of that page
  EXPECT_EQ(poll(), 0U);
  ASSERT_EQ(backend->started.size(), 3U);
  EXPECT_EQ(backend->started[2].offset, 8192U + 8192U);
  EXPECT_EQ(backend->started[2].buffers[0].iov_base, page(4));
  EXPECT_EQ(backend->started[2].buffers[0].iov_len, 4096U);
  backend->answer_last(4096);
  EXPECT_EQ(poll(), 1U);
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_TRUE(outcomes[0]);
  EXPECT_EQ(file.in_flight(), 0U);
}

TEST_F(FileTest, AReadAtTheEndOfTheFileFailsAndSaysSo) {
  for (const std::int64_t last : {0, 100}) {
    outcomes.clear();
    ASSERT_TRUE(file.submit(job(2)));
    backend->answer_last(4096);
    EXPECT_EQ(poll(), 0U);
    backend->answer_last(last);
    EXPECT_EQ(poll(), 1U);
    ASSERT_FALSE(outcomes.at(0));
    EXPECT_EQ(outcomes[0].error().code, ErrorCode::kIo);
    EXPECT_EQ(outcomes[0].error().os_error, 0);
    EXPECT_THAT(outcomes[0].error().message, testing::HasSubstr("the file ends"));
  }
}

TEST_F(FileTest, AWriteThatMovesNothingFailsInsteadOfGoingOnForEver) {
  ASSERT_TRUE(file.submit(job(1, IoKind::kWrite)));
  backend->answer_last(0);
  EXPECT_EQ(poll(), 1U);
  ASSERT_FALSE(outcomes.at(0));
  EXPECT_EQ(outcomes[0].error().code, ErrorCode::kIo);
}

TEST_F(FileTest, InterruptedOperationsAreStartedAgain) {
  ASSERT_TRUE(file.submit(job(1)));
  for (const int error : {EINTR, EAGAIN}) {
    backend->answer_last(-error);
    EXPECT_EQ(poll(), 0U);
  }
  EXPECT_EQ(backend->started.size(), 3U);
  backend->answer_last(4096);
  EXPECT_EQ(poll(), 1U);
  EXPECT_TRUE(outcomes.at(0));
}

TEST_F(FileTest, ErrorsCarryTheSystemsNumber) {
  ASSERT_TRUE(file.submit(job(1, IoKind::kWrite)));
  backend->answer_last(-ENOSPC);
  EXPECT_EQ(poll(), 1U);
  EXPECT_EQ(outcomes.at(0).error().code, ErrorCode::kIo);
  EXPECT_EQ(outcomes.at(0).error().os_error, ENOSPC);
  EXPECT_THAT(outcomes.at(0).error().message, testing::HasSubstr("write of 4096 bytes at 8192"));
}

TEST_F(FileTest, ADeadlineEndsTheWaitAndNotTheOperation) {
  auto owner = std::make_shared<int>(1);
  const std::weak_ptr<int> alive = owner;
  IoJob late = job(2, IoKind::kRead, clock.now_ns() + 10);
  late.owner = std::move(owner);
  ASSERT_TRUE(file.submit(std::move(late)));
  EXPECT_EQ(file.poll(1000), 0U);
  EXPECT_EQ(backend->waits.back(), 10U) << "a poll does not wait beyond the next deadline";
  clock.advance(10);
  EXPECT_EQ(poll(), 1U);
  EXPECT_EQ(outcomes.at(0).error().code, ErrorCode::kTimeout);
  EXPECT_EQ(file.in_flight(), 1U);
  EXPECT_EQ(file.expired(), 1U);
  EXPECT_EQ(file.expired_bytes(), 8192U);
  EXPECT_FALSE(alive.expired());
  backend->answer_last(4096);  // short: nobody waits for the rest
  EXPECT_EQ(poll(), 0U);
  EXPECT_EQ(backend->started.size(), 1U);
  EXPECT_EQ(outcomes.size(), 1U) << "done is called once";
  EXPECT_TRUE(alive.expired());
  EXPECT_EQ(file.in_flight() + file.expired() + file.expired_bytes(), 0U);
}

TEST_F(FileTest, ADeadlineIsOfTheDeviceAndNotOfAThreadThatWasElsewhere) {
  ASSERT_TRUE(file.submit(job(1, IoKind::kRead, clock.now_ns() + 100)));
  ASSERT_TRUE(file.submit(job(1)));
  clock.advance(1000);
  file.excuse(1000);
  EXPECT_EQ(file.poll(1'000'000), 0U);
  EXPECT_EQ(backend->waits.back(), 100U) << "and it is not waited for longer than that";
  clock.advance(99);
  EXPECT_EQ(poll(), 0U);
  clock.advance(1);
  EXPECT_EQ(poll(), 1U);
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_EQ(outcomes[0].error().code, ErrorCode::kTimeout);
  for (const IoOperation& operation : backend->started)
    backend->answers.push_back({.id = operation.id, .result = 4096});
  EXPECT_EQ(poll(), 1U);
  EXPECT_TRUE(outcomes.at(1));
}

TEST_F(FileTest, AShortTransferIsNotContinuedBeyondItsDeadline) {
  auto owner = std::make_shared<int>(1);
  const std::weak_ptr<int> alive = owner;
  IoJob late = job(2, IoKind::kRead, clock.now_ns() + 10);
  late.owner = std::move(owner);
  ASSERT_TRUE(file.submit(std::move(late)));
  clock.advance(10);
  backend->answer_last(4096);
  EXPECT_EQ(poll(), 1U);
  EXPECT_EQ(outcomes.at(0).error().code, ErrorCode::kTimeout);
  EXPECT_TRUE(alive.expired()) << "the backend has it no more";
  EXPECT_EQ(file.in_flight(), 0U);
}

TEST_F(FileTest, ABackendWithoutRoomDelaysAndADeadlineEndsThatWaitToo) {
  backend->room = 1;
  ASSERT_TRUE(file.submit(job(1)));
  ASSERT_TRUE(file.submit(job(1, IoKind::kWrite)));
  ASSERT_TRUE(file.submit(job(1, IoKind::kRead, clock.now_ns() + 10)));
  EXPECT_EQ(backend->started.size(), 1U);
  clock.advance(10);
  EXPECT_EQ(poll(), 1U);
  EXPECT_EQ(file.expired(), 0U) << "it was never started";
  EXPECT_EQ(file.in_flight(), 2U);
  backend->answer_last(4096);
  EXPECT_EQ(poll(), 1U);
  ASSERT_EQ(backend->started.size(), 2U);
  EXPECT_EQ(backend->started[1].kind, IoKind::kWrite);
  backend->answer_last(4096);
  EXPECT_EQ(poll(), 1U);
}

TEST_F(FileTest, SubmitRefusesBeyondTheDepthAndLeavesTheJob) {
  std::map<std::uint32_t, int> ids;
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(file.submit(job(1)));
  for (const IoOperation& operation : backend->started) ++ids[operation.id];
  EXPECT_EQ(ids.size(), 4U) << "each operation has an id of its own";
  IoJob fifth = job(1);
  EXPECT_FALSE(file.submit(std::move(fifth)));
  EXPECT_TRUE(fifth.done);  // NOLINT(bugprone-use-after-move): a refused job is untouched
  for (const auto& [id, count] : ids) backend->answers.push_back({.id = id, .result = 4096});
  EXPECT_EQ(poll(), 4U);
}

TEST_F(FileTest, DoneMaySubmitIntoThePlaceThatHasBecomeFree) {
  int left = 3;
  std::function<void(const Status&)> again = [&](const Status& status) {
    EXPECT_TRUE(status);
    if (--left == 0) return;
    IoJob next = job(1);
    next.done = again;
    EXPECT_TRUE(file.submit(std::move(next)));
  };
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(file.submit(job(1)));
  IoJob first = job(1);
  first.done = again;
  ASSERT_TRUE(file.submit(std::move(first)));
  const std::uint32_t id = backend->started.back().id;
  while (left > 0) {
    backend->answers.push_back({.id = id, .result = 4096});
    EXPECT_EQ(poll(), 1U);
    EXPECT_EQ(backend->started.back().id, id);
  }
  EXPECT_EQ(file.in_flight(), 3U);
  for (int i = 0; i < 3; ++i) {
    backend->answers.push_back({.id = backend->started[static_cast<std::size_t>(i)].id, .result = 4096});
  }
  EXPECT_EQ(poll(), 3U);
}

TEST_F(FileTest, TheOwnerGoesAfterDone) {
  std::vector<int> order;
  auto owner = std::shared_ptr<void>(nullptr, [&](void*) { order.push_back(2); });
  IoJob one = job(1);
  one.owner = std::move(owner);
  one.done = [&](const Status&) { order.push_back(1); };
  ASSERT_TRUE(file.submit(std::move(one)));
  backend->answer_last(4096);
  EXPECT_EQ(poll(), 1U);
  EXPECT_THAT(order, testing::ElementsAre(1, 2));
}

TEST_F(FileTest, MalformedJobsAreAnsweredWithASentence) {
  IoJob odd_offset = job(1);
  odd_offset.offset = 100;
  IoJob odd_length = job(1);
  odd_length.segments[0].bytes = 100;
  IoJob odd_buffer = job(1);
  odd_buffer.segments[0].data += 8;
  IoJob many = job(1);
  many.segment_count = IoJob::kMaxSegments + 1;
  for (IoJob* bad : {&odd_offset, &odd_length, &odd_buffer, &many}) ASSERT_TRUE(file.submit(std::move(*bad)));
  EXPECT_TRUE(outcomes.empty()) << "done runs in poll only";
  EXPECT_EQ(poll(), 4U);
  ASSERT_TRUE(file.submit(job(0)));
  EXPECT_EQ(poll(), 1U);
  EXPECT_TRUE(backend->started.empty());
  for (const Status& outcome : outcomes) EXPECT_EQ(outcome.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(FileTest, RunReturnsTheOutcomeAndPassesWakesOn) {
  IoJob late = job(1, IoKind::kRead, clock.now_ns());
  late.done = nullptr;
  const Status outcome = file.run(std::move(late));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kTimeout);
  EXPECT_EQ(backend->wakes, 1U);
  EXPECT_EQ(file.expired(), 1U);
  backend->answer_last(4096);
  EXPECT_EQ(poll(), 0U);
}

TEST_F(FileTest, RunGivesUpAtItsDeadlineWhereEveryPlaceIsTaken) {
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(file.submit(job(1)));
  IoJob late = job(1, IoKind::kRead, clock.now_ns());
  late.done = nullptr;
  EXPECT_EQ(file.run(std::move(late)).error().code, ErrorCode::kTimeout);
  for (const IoOperation& operation : backend->started) {
    backend->answers.push_back({.id = operation.id, .result = 4096});
  }
  EXPECT_EQ(poll(), 4U);
}

TEST_F(FileTest, AFileThatIsDestroyedWithOperationsInFlightAborts) {
  EXPECT_DEATH(
      {
        auto doomed = std::make_unique<File>(std::make_unique<ScriptedBackend>(), clock);
        (void)doomed->submit(job(1));
        doomed.reset();
      },
      "in flight");
}

}  // namespace
}  // namespace tiercel
