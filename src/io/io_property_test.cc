// Goal: random reads, writes, syncs, growth and truncation, several in flight at once, with random short transfers and
// interruptions, leave a file that equals an array of bytes, whatever reads and writes it.
#include "base/random.h"
#include "io/file.h"
#include "io/testing/io_kinds.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace tiercel {
namespace {

using testing_io::all_variants;
using testing_io::IoPlace;
using testing_io::IoVariant;
using testing_io::PageMemory;
using testing_io::variant_name;

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kLanes = 6;  // operations that are in flight together touch different lanes of the file
constexpr std::uint64_t kLaneBytes = 8 * kPage;

struct RandomRun {
  RandomRun(const IoVariant& variant, IoPlace& place, std::uint64_t seed) : random(seed) {
    auto opened = place.files().open(place.path("file"), {.create = true, .direct = variant.direct, .depth = 4});
    RC_ASSERT(opened.has_value());
    if (const auto regions = memory.regions(variant.registered); !regions.empty()) {
      RC_ASSERT((*opened)->register_memory(regions).has_value());
    }
    RC_ASSERT((*opened)->truncate(0).has_value());
    unit = (*opened)->alignment();
    file =
        std::make_unique<File>(std::make_unique<FaultyBackend>(place.decorate(std::move(*opened), clock), plan), clock);
  }

  /// Now and then an operation is cut short or interrupted: nobody may notice.
  void plan_hiccups() {
    for (std::uint64_t number = plan->started(); number < plan->started() + 3 * kLanes; ++number) {
      if (random.below(4) == 0) {
        plan->add(number, {.kind = IoFault::Kind::kShort, .bytes = kPage * (1 + random.below(3))});
      } else if (random.below(8) == 0) {
        plan->add(number, {.kind = IoFault::Kind::kFail, .error = random.below(2) == 0 ? EINTR : EAGAIN});
      }
    }
  }

  void start_lane(std::uint64_t lane) {
    IoJob job{.kind = random.below(2) == 0 ? IoKind::kRead : IoKind::kWrite};
    const std::uint64_t offset = random.below(kLaneBytes / unit) * unit;
    std::uint64_t left = (1 + random.below((kLaneBytes - offset) / unit)) * unit;
    job.offset = lane * kLaneBytes + offset;
    std::uint64_t at = lane * 2 * kLaneBytes;  // in memory, with gaps between the segments
    while (left > 0) {
      const bool last = job.segment_count + 1 == IoJob::kMaxSegments;
      const std::uint64_t bytes = last ? left : std::min(left, (1 + random.below(kLaneBytes / 4 / unit)) * unit);
      at += std::min<std::uint64_t>(unit, 2 * kLaneBytes * (lane + 1) - at - left);
      job.segments[job.segment_count++] = {memory.at(at), bytes};
      at += bytes;
      left -= bytes;
    }
    const IoJob asked = job;  // without done
    if (job.kind == IoKind::kWrite) {
      write_model(asked);
      job.done = [this](const Status& status) { right &= status.has_value(); };
    } else {
      std::vector<std::byte> expected = expected_of(asked);
      job.done = [this, asked, expected = std::move(expected)](const Status& status) {
        check(asked, expected, status);
      };
    }
    while (!file->submit(std::move(job))) (void)file->poll(UINT64_MAX);  // NOLINT(bugprone-use-after-move): untouched
  }

  void write_model(const IoJob& job) {
    std::uint64_t at = job.offset;
    if (model.size() < job.offset + job.bytes()) model.resize(job.offset + job.bytes());
    for (std::size_t i = 0; i < job.segment_count; ++i) {
      const IoSegment& segment = job.segments[i];
      for (std::uint64_t b = 0; b < segment.bytes; ++b) segment.data[b] = static_cast<std::byte>(random.next());
      std::memcpy(model.data() + at, segment.data, segment.bytes);
      at += segment.bytes;
    }
  }

  /// Of what lies below the end that the file had before this round; other lanes may move the end while this one reads.
  [[nodiscard]] std::vector<std::byte> expected_of(const IoJob& job) const {
    if (job.offset >= stable_bytes) return {};
    const std::uint64_t bytes = std::min(job.bytes(), stable_bytes - job.offset);
    return {model.begin() + static_cast<std::ptrdiff_t>(job.offset),
            model.begin() + static_cast<std::ptrdiff_t>(job.offset + bytes)};
  }

  /// Notes what is wrong; a failed assertion would leave through File::poll.
  void check(const IoJob& job, const std::vector<std::byte>& expected, const Status& status) {
    if (expected.size() < job.bytes()) {
      right &= status || status.error().message.find("the file ends") != std::string::npos;
      return;
    }
    right &= status.has_value();
    std::size_t at = 0;
    for (std::size_t i = 0; i < job.segment_count; ++i) {
      right &= std::memcmp(job.segments[i].data, expected.data() + at, job.segments[i].bytes) == 0;
      at += job.segments[i].bytes;
    }
  }

  void round() {
    plan_hiccups();
    stable_bytes = model.size();
    for (std::uint64_t lane = 0; lane < kLanes; ++lane) start_lane(lane);
    while (file->in_flight() > 0) (void)file->poll(UINT64_MAX);
    RC_ASSERT(right);
    RC_ASSERT(*file->backend().size() == model.size());
    if (random.below(4) == 0) {
      model.resize(random.below(model.size() / unit + 1) * unit);
      RC_ASSERT(file->backend().truncate(model.size()).has_value());
    }
    if (random.below(4) == 0) {
      const std::uint64_t bytes = (1 + random.below(kLanes * kLaneBytes / unit)) * unit;
      RC_ASSERT(file->backend().allocate(bytes).has_value());
      if (bytes > model.size()) model.resize(bytes);
    }
  }

  Random random;
  ManualClock clock;
  PageMemory memory{2 * kLanes * kLaneBytes / kPage};
  std::shared_ptr<FaultPlan> plan = std::make_shared<FaultPlan>();
  std::unique_ptr<File> file;
  std::uint64_t unit = 1;
  std::vector<std::byte> model;
  std::uint64_t stable_bytes = 0;
  bool right = true;
};

class IoPropertyTest : public testing::TestWithParam<IoVariant> {};
INSTANTIATE_TEST_SUITE_P(All, IoPropertyTest, testing::ValuesIn(all_variants()), variant_name);

TEST_P(IoPropertyTest, AFileEqualsAnArrayOfBytes) {
  IoPlace place(GetParam());
  if (!place.has_engine()) GTEST_SKIP() << "this machine has no io_uring";
  const int rounds = place.memory() != nullptr ? 12 : 3;  // a disk takes its time
  rc::check("a file equals an array of bytes", [&] {
    const auto seed = *rc::gen::arbitrary<std::uint64_t>();
    RandomRun run(GetParam(), place, seed);
    for (int i = 0; i < rounds; ++i) run.round();
  });
}

}  // namespace
}  // namespace tiercel
