// Goal: calls become frames when there is enough of them or a second is over; what finds no room is shed and counted; a
// failed write costs what was in it and nothing later; the recording ends at its largest size.
#include "recording/recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <cstring>
#include <string>
#include <thread>

namespace tiercel {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// Frames in memory; the writes of which `fails` says so fail.
class MemoryOutput final : public RecordingOutput {
 public:
  struct Written {
    std::vector<std::string> frames;
    std::function<bool(std::size_t)> fails = [](std::size_t) { return false; };
    std::size_t writes = 0;
    std::uint64_t size = 0;
  };
  explicit MemoryOutput(Written& written) : written_(written) {}
  [[nodiscard]] Status append(std::span<const std::byte> frame) override {
    if (written_.fails(written_.writes++)) return fail(ErrorCode::kIo, "no space left");
    std::string text(ZSTD_getFrameContentSize(frame.data(), frame.size()), '\0');
    EXPECT_EQ(ZSTD_decompress(text.data(), text.size(), frame.data(), frame.size()), text.size());
    written_.frames.push_back(std::move(text));
    written_.size += frame.size();
    return {};
  }
  [[nodiscard]] std::uint64_t size() const override { return written_.size; }

 private:
  Written& written_;
};

std::vector<BlockHash> chain_of(std::uint64_t first, std::size_t count) {
  std::vector<BlockHash> chain(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t id = (first + i) * 0x9E37'79B9'7F4A'7C15U;
    std::memcpy(chain[i].bytes.data(), &id, sizeof(id));
  }
  return chain;
}

class RecorderTest : public testing::Test {
 protected:
  void begin(std::uint64_t max_bytes = UINT64_MAX, std::size_t ring_words = 1024) {
    auto recorder = Recorder::begin({.output = std::make_unique<MemoryOutput>(written_),
                                     .executor = executor_,
                                     .clock = clock_,
                                     .unix_ms = [] { return std::uint64_t{5'000}; },
                                     .max_bytes = max_bytes,
                                     .ring_words = ring_words});
    ASSERT_TRUE(recorder) << recorder.error().message;
    recorder_ = std::move(*recorder);
  }
  void match(std::uint64_t first, std::size_t count) {
    recorder_->called({.kind = RequestSink::Kind::kMatch, .session = 0, .now_ns = clock_.now_ns()}, space_,
                      chain_of(first, count));
  }

  ManualClock clock_;
  ManualExecutor executor_{clock_};
  MemoryOutput::Written written_;
  Space space_{chain_of(77, 1).front(), 16, "somebody"};
  std::unique_ptr<Recorder> recorder_;
};

TEST_F(RecorderTest, a_part_begins_at_once_and_calls_follow_in_frames) {
  begin();
  ASSERT_EQ(written_.frames.size(), 1U);
  EXPECT_THAT(written_.frames[0], StartsWith("{\"tiercel_recording\":1,\"unix_seconds\":5.000}"));
  EXPECT_EQ(recorder_->open_session("engine", "model"), 0U);
  recorder_->name_space(space_);
  recorder_->name_space(space_);
  match(1, 3);
  match(1, 4);
  EXPECT_EQ(written_.frames.size(), 1U) << "nothing is written on the caller's thread";
  executor_.run_all();
  ASSERT_EQ(written_.frames.size(), 2U);
  EXPECT_THAT(written_.frames[1], HasSubstr("\"engine\":\"engine\",\"model\":\"model\",\"tenant\":\"somebody\""));
  EXPECT_THAT(written_.frames[1], HasSubstr("\"known\":3,\"after\":2,"));
  EXPECT_EQ(recorder_->figures().requests, 2U);
  EXPECT_EQ(recorder_->figures().bytes, written_.size);
  EXPECT_EQ(executor_.queued(), 0U);
}

TEST_F(RecorderTest, a_full_queue_sheds_calls_and_counts_them) {
  begin(UINT64_MAX, 64);
  for (std::uint64_t i = 0; i < 10; ++i) match(10 * i, 10);
  executor_.run_all();
  EXPECT_EQ(recorder_->figures().requests, 4U) << "14 words each";
  EXPECT_EQ(recorder_->figures().shed, 6U);
  match(1'000, 10);
  executor_.run_all();
  EXPECT_EQ(recorder_->figures().requests, 5U);
}

TEST_F(RecorderTest, a_failed_write_costs_what_was_in_it_and_nothing_later) {
  begin();
  written_.fails = [](std::size_t write) { return write == 1; };
  match(1, 3);
  executor_.run_all();
  EXPECT_EQ(recorder_->figures().errors, 1U);
  EXPECT_EQ(recorder_->figures().requests, 0U);
  match(1, 4);
  executor_.run_all();
  ASSERT_EQ(written_.frames.size(), 2U);
  EXPECT_THAT(written_.frames[1], StartsWith("{\"tiercel_recording\":1")) << "a new part, with all its blocks";
  EXPECT_THAT(written_.frames[1], Not(HasSubstr("known")));
  EXPECT_EQ(recorder_->figures().requests, 1U);
  EXPECT_EQ(executor_.queued(), 0U) << "nobody tries again while nothing comes";
}

TEST_F(RecorderTest, what_cannot_be_written_at_all_is_an_error_at_once) {
  written_.fails = [](std::size_t) { return true; };
  const auto recorder = Recorder::begin(
      {.output = std::make_unique<MemoryOutput>(written_), .executor = executor_, .clock = clock_, .unix_ms = [] {
         return std::uint64_t{0};
       }});
  ASSERT_FALSE(recorder);
  EXPECT_EQ(recorder.error().message, "no space left");
}

TEST_F(RecorderTest, it_ends_at_its_largest_size) {
  begin(2'000, 1024);
  for (std::uint64_t i = 0; i < 20; ++i) {
    match(100 * i, 100);
    executor_.run_all();
  }
  const RequestSinkFigures figures = recorder_->figures();
  EXPECT_TRUE(figures.full);
  EXPECT_LE(figures.bytes, 2'000U);
  EXPECT_EQ(figures.requests, 2U);
  EXPECT_EQ(figures.shed, 17U) << "and one was in the frame that did not fit";
  EXPECT_EQ(figures.errors, 0U);
}

TEST_F(RecorderTest, closing_writes_what_has_come) {
  begin();
  match(1, 3);
  recorder_->close();
  EXPECT_EQ(recorder_->figures().requests, 1U);
  match(1, 3);
  recorder_->close();
  EXPECT_EQ(recorder_->figures().requests, 1U);
}

TEST(RecorderThreads, callers_of_several_threads_beside_a_writer) {
  MemoryOutput::Written written;
  const SteadyClock clock;
  ThreadedExecutor executor({.name = "record", .threads = 1, .queue_capacity = 4}, clock);
  auto recorder = Recorder::begin({.output = std::make_unique<MemoryOutput>(written),
                                   .executor = executor,
                                   .clock = clock,
                                   .unix_ms = [] { return std::uint64_t{0}; },
                                   .ring_words = 4096});
  ASSERT_TRUE(recorder);
  std::vector<std::thread> callers;
  for (std::uint64_t who = 0; who < 3; ++who) {
    callers.emplace_back([&, who] {
      const Space space(chain_of(who, 1).front(), 16, "tenant");
      const std::uint32_t session = (*recorder)->open_session("engine", "model");
      (*recorder)->name_space(space);
      for (std::uint64_t i = 0; i < 5'000; ++i) {
        (*recorder)->called({.session = session, .now_ns = clock.now_ns()}, space, chain_of(1'000'000 * who + i, 40));
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  (*recorder)->close();
  const RequestSinkFigures figures = (*recorder)->figures();
  EXPECT_GE(figures.requests, 1U);
  EXPECT_GE(figures.requests + figures.shed, 15'000U);
  EXPECT_LE(figures.requests + figures.shed, 15'006U) << "names may be shed too";
}

}  // namespace
}  // namespace tiercel
