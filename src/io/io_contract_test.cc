// What every IoBackend, every FileSystem and every decorator must do, through File and without it.
#include "base/random.h"
#include "io/file.h"
#include "io/testing/io_kinds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <thread>

namespace tiercel {
namespace {

using testing_io::all_variants;
using testing_io::IoPlace;
using testing_io::IoVariant;
using testing_io::PageMemory;
using testing_io::variant_name;

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kSecond = 1'000'000'000;

class IoContractTest : public testing::TestWithParam<IoVariant> {
 protected:
  void SetUp() override {
    if (!place_.has_engine()) GTEST_SKIP() << "this machine has no io_uring";
    open("file", {.create = true});
  }
  void TearDown() override {
    gate_->release_all();
    if (file_) finish();
  }

  Result<std::unique_ptr<IoBackend>> open_backend(const std::string& name, OpenOptions options) {
    options.direct = GetParam().direct;
    options.depth = 8;
    auto opened = place_.files().open(place_.path(name), options);
    if (!opened) return opened;
    if (const auto regions = memory_.regions(GetParam().registered); !regions.empty()) {
      EXPECT_TRUE((*opened)->register_memory(regions));
    }
    return place_.decorate(std::move(*opened), clock_);
  }
  /// The file under test: what the variant says, below a decorator that can fail it and one that can hold it.
  void open(const std::string& name, const OpenOptions& options) {
    auto opened = open_backend(name, options);
    ASSERT_TRUE(opened) << opened.error().message;
    auto faulty = std::make_unique<FaultyBackend>(std::move(*opened), plan_);
    file_ = std::make_unique<File>(std::make_unique<DelayedBackend>(std::move(faulty), gate_), clock_);
  }

  IoJob job(IoKind kind, std::uint64_t offset, const std::vector<std::span<std::byte>>& parts) {
    IoJob made{.kind = kind, .offset = offset, .segment_count = parts.size()};
    for (std::size_t i = 0; i < parts.size(); ++i) made.segments[i] = {parts[i].data(), parts[i].size()};
    return made;
  }
  Status run(IoKind kind, std::uint64_t offset, const std::vector<std::span<std::byte>>& parts) {
    return file_->run(job(kind, offset, parts));
  }
  void submit(IoJob made) {
    made.done = [this](const Status& status) { outcomes_.push_back(status); };
    while (!file_->submit(std::move(made))) (void)file_->poll(kSecond);  // NOLINT(bugprone-use-after-move): untouched
  }
  void finish() {
    while (file_->in_flight() > 0) (void)file_->poll(kSecond);
  }
  std::span<std::byte> pages(std::size_t first, std::size_t count = 1) {
    return memory_.range(first * kPage, count * kPage);
  }
  void fill(std::span<std::byte> bytes, std::uint64_t seed) {
    Random random(seed);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
  }
  static bool equal(std::span<const std::byte> a, std::span<const std::byte> b) { return std::ranges::equal(a, b); }

  ManualClock clock_;
  PageMemory memory_{256};
  IoPlace place_{GetParam()};
  std::shared_ptr<FaultPlan> plan_ = std::make_shared<FaultPlan>();
  std::shared_ptr<DelayGate> gate_ = std::make_shared<DelayGate>(clock_);
  std::vector<Status> outcomes_;
  std::unique_ptr<File> file_;
};

INSTANTIATE_TEST_SUITE_P(All, IoContractTest, testing::ValuesIn(all_variants()), variant_name);

TEST_P(IoContractTest, ScatteredWritesComeBackInReadsCutInAnotherWay) {
  fill(pages(0, 8), 1);
  ASSERT_TRUE(run(IoKind::kWrite, 2 * kPage, {pages(0, 3), pages(5), pages(3, 2), pages(4)}));
  ASSERT_TRUE(run(IoKind::kRead, 2 * kPage, {pages(20), pages(30, 6)}));
  EXPECT_TRUE(equal(pages(20), pages(0)));
  EXPECT_TRUE(equal(pages(30, 2), pages(1, 2)));
  EXPECT_TRUE(equal(pages(32), pages(5)));
  EXPECT_TRUE(equal(pages(33, 2), pages(3, 2)));
  EXPECT_TRUE(equal(pages(35), pages(4)));
  ASSERT_TRUE(run(IoKind::kRead, 0, {pages(40, 2)}));
  EXPECT_THAT(pages(40, 2), testing::Each(std::byte{0})) << "what was never written reads as zeros";
}

TEST_P(IoContractTest, AsManySegmentsAsAJobHas) {
  fill(pages(0, 2 * IoJob::kMaxSegments), 2);
  std::vector<std::span<std::byte>> parts;
  for (std::size_t i = 0; i < IoJob::kMaxSegments; ++i) parts.push_back(pages(2 * i));
  ASSERT_TRUE(run(IoKind::kWrite, 0, parts));
  ASSERT_TRUE(run(IoKind::kRead, 0, {pages(100, IoJob::kMaxSegments)}));
  for (std::size_t i = 0; i < IoJob::kMaxSegments; ++i) EXPECT_TRUE(equal(pages(100 + i), parts[i])) << i;
}

TEST_P(IoContractTest, ShortTransfersAreContinued) {
  fill(pages(0, 6), 3);
  plan_->add(0, {.kind = IoFault::Kind::kShort, .bytes = kPage});
  plan_->add(1, {.kind = IoFault::Kind::kShort, .bytes = 2 * kPage});
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0, 2), pages(2, 4)}));
  EXPECT_EQ(plan_->started(), 3U);
  plan_->add(3, {.kind = IoFault::Kind::kShort, .bytes = 3 * kPage});
  ASSERT_TRUE(run(IoKind::kRead, 0, {pages(20, 6)}));
  EXPECT_EQ(plan_->started(), 5U);
  EXPECT_TRUE(equal(pages(20, 6), pages(0, 6)));
}

TEST_P(IoContractTest, ReadsBeyondTheEndFailAndSaySo) {
  fill(pages(0, 3), 4);
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0, 3)}));
  for (const std::uint64_t offset : {2 * kPage, 3 * kPage, 100 * kPage}) {
    const Status status = run(IoKind::kRead, offset, {pages(20, 2)});
    ASSERT_FALSE(status) << offset;
    EXPECT_EQ(status.error().code, ErrorCode::kIo);
    EXPECT_EQ(status.error().os_error, 0);
    EXPECT_THAT(status.error().message, testing::HasSubstr("the file ends"));
  }
  EXPECT_TRUE(equal(pages(20), pages(2))) << "what was there has been read";
  ASSERT_TRUE(file_->backend().truncate(kPage + 100));
  const Status inside_a_page = run(IoKind::kRead, 0, {pages(20, 2)});
  ASSERT_FALSE(inside_a_page);
  EXPECT_THAT(inside_a_page.error().message, testing::HasSubstr("the file ends"));
}

TEST_P(IoContractTest, MemoryMayBeRegisteredBesideWhatIsInFlight) {
  fill(pages(0, 8), 13);
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0, 8)}));
  gate_->hold(IoKind::kRead);
  submit(job(IoKind::kRead, 0, {pages(20, 4)}));
  (void)file_->poll(0);
  PageMemory more(8);
  const struct iovec region{.iov_base = more.at(0), .iov_len = more.bytes()};
  // Where it is refused (threads, memory) nothing changes.
  const Status registered = file_->backend().register_memory({&region, 1});
  const bool possible = GetParam().registered != testing_io::Registered::kNone;
  EXPECT_TRUE(registered || !possible) << registered.error().message;
  submit(job(IoKind::kRead, 4 * kPage, {more.range(0, 4 * kPage)}));
  submit(job(IoKind::kRead, 4 * kPage, {more.range(4 * kPage, 3 * kPage), pages(40)}));
  gate_->release_all();
  finish();
  ASSERT_EQ(outcomes_.size(), 3U);
  for (const Status& outcome : outcomes_) EXPECT_TRUE(outcome);
  EXPECT_TRUE(equal(pages(20, 4), pages(0, 4)));
  EXPECT_TRUE(equal(more.range(0, 4 * kPage), pages(4, 4)));
  EXPECT_TRUE(equal(more.range(4 * kPage, 3 * kPage), pages(4, 3)));
  EXPECT_TRUE(equal(pages(40), pages(7)));
  file_.reset();  // before the memory
}

TEST_P(IoContractTest, ManyMoreThanTheDepth) {
  constexpr std::size_t kJobs = 120;
  fill(pages(0, kJobs), 5);
  for (std::size_t i = 0; i < kJobs; ++i) submit(job(IoKind::kWrite, (kJobs - 1 - i) * kPage, {pages(i)}));
  finish();
  for (std::size_t i = 0; i < kJobs; ++i) submit(job(IoKind::kRead, (kJobs - 1 - i) * kPage, {pages(kJobs + i)}));
  finish();
  ASSERT_EQ(outcomes_.size(), 2 * kJobs);
  for (const Status& outcome : outcomes_) EXPECT_TRUE(outcome);
  EXPECT_TRUE(equal(pages(0, kJobs), pages(kJobs, kJobs)));
}

TEST_P(IoContractTest, WakeEndsAWaitAndTheNextOneToo) {
  constexpr std::uint64_t kForEver = UINT64_MAX;  // a wake that is lost shows as a test that does not end
  file_->wake();
  EXPECT_EQ(file_->poll(kForEver), 0U);
  for (int round = 0; round < 50; ++round) {
    std::thread other([this] { file_->wake(); });
    EXPECT_EQ(file_->poll(kForEver), 0U);
    other.join();
    (void)file_->poll(0);  // an echo of the wake may end one more wait
  }
}

TEST_P(IoContractTest, ADeadlineLeavesTheBuffersWithTheirOwnerUntilTheEnd) {
  fill(pages(0, 2), 6);
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0, 2)}));
  gate_->hold(IoKind::kRead);
  auto owner = std::make_shared<int>(0);
  const std::weak_ptr<int> alive = owner;
  IoJob late = job(IoKind::kRead, 0, {pages(10, 2)});
  late.deadline_ns = clock_.now_ns() + 5;
  late.owner = std::move(owner);
  submit(std::move(late));
  clock_.advance(5);
  EXPECT_EQ(file_->poll(kSecond), 1U);
  ASSERT_EQ(outcomes_.size(), 1U);
  EXPECT_EQ(outcomes_[0].error().code, ErrorCode::kTimeout);
  EXPECT_EQ(file_->expired(), 1U);
  EXPECT_EQ(file_->expired_bytes(), 2 * kPage);
  EXPECT_FALSE(alive.expired());
  ASSERT_TRUE(run(IoKind::kWrite, 2 * kPage, {pages(0)})) << "others go on meanwhile";
  EXPECT_FALSE(alive.expired());
  gate_->release_all();
  finish();
  EXPECT_TRUE(alive.expired());
  EXPECT_EQ(outcomes_.size(), 1U) << "done is called once";
  EXPECT_TRUE(equal(pages(10, 2), pages(0, 2))) << "the bytes came late, into buffers that were still owned";
}

TEST_P(IoContractTest, ReleasingAHeldOperationEndsAWait) {
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0)}));
  gate_->hold_all();
  submit(job(IoKind::kRead, 0, {pages(1)}));
  (void)file_->poll(0);
  EXPECT_EQ(gate_->held(), 1U);
  std::thread other([this] { gate_->release(1); });
  while (outcomes_.empty()) (void)file_->poll(UINT64_MAX);
  other.join();
  EXPECT_TRUE(outcomes_[0]);
}

TEST_P(IoContractTest, SyncEndsAndMayFail) {
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0)}));
  EXPECT_TRUE(run(IoKind::kSync, 0, {}));
  plan_->set_for_all(IoKind::kSync, IoFault{.error = EIO});
  const Status failed = run(IoKind::kSync, 0, {});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().os_error, EIO);
}

TEST_P(IoContractTest, ChangedBytesAreChangedAndLostWritesAreLost) {
  fill(pages(0), 7);
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0)}));
  plan_->add(1, {.kind = IoFault::Kind::kCorrupt, .bytes = 17});
  ASSERT_TRUE(run(IoKind::kRead, 0, {pages(1)}));
  EXPECT_FALSE(equal(pages(1), pages(0)));
  EXPECT_EQ(*memory_.at(kPage + 17), *memory_.at(17) ^ std::byte{1});
  fill(pages(2), 8);
  plan_->add(2, {.kind = IoFault::Kind::kLose});
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(2)}));
  ASSERT_TRUE(run(IoKind::kRead, 0, {pages(1)}));
  EXPECT_TRUE(equal(pages(1), pages(0)));
  plan_->add(4, {.kind = IoFault::Kind::kCorrupt, .bytes = 100});
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(2)}));
  ASSERT_TRUE(run(IoKind::kRead, 0, {pages(1)}));
  *memory_.at(kPage + 100) ^= std::byte{1};
  EXPECT_TRUE(equal(pages(1), pages(2)));
  plan_->add(6, {.kind = IoFault::Kind::kFailAfter, .error = EIO});
  EXPECT_EQ(run(IoKind::kWrite, 0, {pages(0)}).error().os_error, EIO);
  ASSERT_TRUE(run(IoKind::kRead, 0, {pages(1)}));
  EXPECT_TRUE(equal(pages(1), pages(0))) << "it reached the file all the same";
}

TEST_P(IoContractTest, MisalignedRequestsAreAnsweredAndNeverCrash) {
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0, 4)}));
  const Status status = run(IoKind::kRead, 100, {memory_.range(8 * kPage + 8, 50)});
  if (file_->backend().alignment() == 1) {
    EXPECT_TRUE(status);
  } else {
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  }
  // Without File in between: the system's own answer, whatever it is, and the next operation works.
  const struct iovec odd{.iov_base = memory_.at(8 * kPage + 8), .iov_len = 50};
  auto opened = open_backend("file", {});
  ASSERT_TRUE(opened);
  IoReaped reaped;
  ASSERT_TRUE((*opened)->start({.id = 3, .kind = IoKind::kRead, .offset = 100, .buffers = {&odd, 1}}));
  while ((*opened)->reap({&reaped, 1}, kSecond) == 0) {
  }
  EXPECT_EQ(reaped.id, 3U);
  EXPECT_TRUE(reaped.result == -EINVAL || reaped.result == 50) << reaped.result;
  const struct iovec even{.iov_base = memory_.at(8 * kPage), .iov_len = kPage};
  ASSERT_TRUE((*opened)->start({.id = 3, .kind = IoKind::kRead, .offset = 0, .buffers = {&even, 1}}));
  while ((*opened)->reap({&reaped, 1}, kSecond) == 0) {
  }
  EXPECT_EQ(reaped.result, std::int64_t{kPage});
}

TEST_P(IoContractTest, AnUnlinkedFileStaysUsableAndItsPathIsFree) {
  fill(pages(0), 9);
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0)}));
  ASSERT_TRUE(place_.files().remove(place_.path("file")));
  EXPECT_FALSE(*place_.files().exists(place_.path("file")));
  ASSERT_TRUE(run(IoKind::kWrite, kPage, {pages(0)}));
  ASSERT_TRUE(run(IoKind::kRead, 0, {pages(1, 2)}));
  EXPECT_TRUE(equal(pages(1), pages(0)));
  EXPECT_TRUE(equal(pages(2), pages(0)));
  EXPECT_EQ(open_backend("file", {}).error().code, ErrorCode::kNotFound);
}

TEST_P(IoContractTest, WritesToAFileThatIsOpenForReadingFail) {
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0)}));
  file_.reset();
  open("file", {.read_only = true});
  EXPECT_TRUE(run(IoKind::kRead, 0, {pages(1)}));
  const Status status = run(IoKind::kWrite, 0, {pages(0)});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_EQ(status.error().os_error, EBADF);
}

TEST_P(IoContractTest, AllocatedSpaceReadsAsZerosAndTruncationCutsIt) {
  IoBackend& backend = file_->backend();
  fill(pages(0, 2), 10);
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0, 2)}));
  ASSERT_TRUE(backend.allocate(64 * kPage));
  EXPECT_EQ(*backend.size(), 64 * kPage);
  ASSERT_TRUE(backend.allocate(kPage));
  EXPECT_EQ(*backend.size(), 64 * kPage) << "allocate never shrinks";
  ASSERT_TRUE(run(IoKind::kRead, 0, {pages(10, 64)}));
  EXPECT_TRUE(equal(pages(10, 2), pages(0, 2)));
  EXPECT_THAT(pages(12, 62), testing::Each(std::byte{0}));
  ASSERT_TRUE(backend.truncate(kPage));
  EXPECT_EQ(*backend.size(), kPage);
  ASSERT_TRUE(backend.allocate(3 * kPage));
  ASSERT_TRUE(run(IoKind::kRead, 0, {pages(20, 3)}));
  EXPECT_TRUE(equal(pages(20), pages(0)));
  EXPECT_THAT(pages(21, 2), testing::Each(std::byte{0})) << "what was cut off does not come back";
}

/// Lets files grow to `bytes` and no further, as a full disk would.
class SpaceLimit {
 public:
  SpaceLimit(IoPlace& place, std::uint64_t bytes) : place_(place) {
    if (place_.memory() != nullptr) {
      place_.memory()->set_capacity(bytes);
      return;
    }
    before_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const struct rlimit now{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
  }
  SpaceLimit(const SpaceLimit&) = delete;
  SpaceLimit& operator=(const SpaceLimit&) = delete;
  ~SpaceLimit() {
    if (place_.memory() != nullptr) {
      place_.memory()->set_capacity(UINT64_MAX);
      return;
    }
    setrlimit(RLIMIT_FSIZE, &before_);
    (void)std::signal(SIGXFSZ, before_handler_);
  }

 private:
  IoPlace& place_;
  struct rlimit before_{};
  void (*before_handler_)(int) = nullptr;
};

TEST_P(IoContractTest, WhereTheSpaceEndsWritesFailAndTheRestGoesOn) {
  fill(pages(0, 4), 11);
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0, 4)}));
  const int expected = place_.memory() != nullptr ? ENOSPC : EFBIG;
  {
    const SpaceLimit limit(place_, 8 * kPage);
    const Status allocation = file_->backend().allocate(100 * kPage);
    ASSERT_FALSE(allocation);
    EXPECT_EQ(allocation.error().code, ErrorCode::kIo);
    EXPECT_EQ(allocation.error().os_error, expected);
    EXPECT_EQ(*file_->backend().size(), 4 * kPage) << "as long as before";
    const Status status = run(IoKind::kWrite, 4 * kPage, {pages(0, 2), pages(4, 10)});  // four pages fit
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kIo);
    EXPECT_EQ(status.error().os_error, expected);
    ASSERT_TRUE(run(IoKind::kRead, 0, {pages(20, 4)}));
    EXPECT_TRUE(equal(pages(20, 4), pages(0, 4)));
    EXPECT_TRUE(run(IoKind::kWrite, 0, {pages(0)})) << "what is allocated can be written";
  }
  EXPECT_TRUE(run(IoKind::kWrite, 4 * kPage, {pages(0, 12)})) << "back without opening it again";
}

TEST_P(IoContractTest, TheGateAndThePlanMayOutliveTheFile) {
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0)}));
  std::vector<int> order;
  IoJob last = job(IoKind::kRead, 0, {pages(1)});
  last.owner = std::shared_ptr<void>(nullptr, [&](void*) { order.push_back(2); });
  last.done = [&](const Status& status) {
    EXPECT_TRUE(status);
    order.push_back(1);
  };
  ASSERT_TRUE(file_->submit(std::move(last)));
  finish();
  file_.reset();
  EXPECT_THAT(order, testing::ElementsAre(1, 2));
  gate_->release_all();
  plan_->set_for_all(IoKind::kRead, IoFault{.error = EIO});
}

TEST_P(IoContractTest, OpenSaysWhyItRefuses) {
  EXPECT_EQ(open_backend("other", {}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(open_backend("no/such/directory", {.create = true}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(open_backend("file", {.create = true, .exclusive = true}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(open_backend("other", {.create = true, .exclusive = true}));
  EXPECT_TRUE(open_backend("other", {.create = true}));
}

TEST_P(IoContractTest, RenameReplacesAndRemoveRemoves) {
  FileSystem& files = place_.files();
  fill(pages(0), 12);
  ASSERT_TRUE(run(IoKind::kWrite, 0, {pages(0)}));
  ASSERT_TRUE(open_backend("old", {.create = true}));
  ASSERT_TRUE(files.rename(place_.path("file"), place_.path("old")));
  EXPECT_FALSE(*files.exists(place_.path("file")));
  EXPECT_TRUE(*files.exists(place_.path("old")));
  open("old", {});
  ASSERT_TRUE(run(IoKind::kRead, 0, {pages(1)}));
  EXPECT_TRUE(equal(pages(1), pages(0)));
  EXPECT_EQ(files.rename(place_.path("file"), place_.path("x")).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(files.remove(place_.path("old")));
  EXPECT_EQ(files.remove(place_.path("old")).error().code, ErrorCode::kNotFound);
}

TEST_P(IoContractTest, SpaceIsOfTheDirectory) {
  const auto space = place_.files().space(place_.directory());
  ASSERT_TRUE(space);
  EXPECT_GT(space->free_bytes, 0U);
  EXPECT_GE(space->total_bytes, space->free_bytes);
  EXPECT_EQ(place_.files().space(place_.path("none")).error().code, ErrorCode::kNotFound);
}

TEST_P(IoContractTest, ALockIsHeldOnce) {
  FileSystem& files = place_.files();
  auto first = files.lock(place_.path("file.lock"));
  ASSERT_TRUE(first) << first.error().message;
  auto second = files.lock(place_.path("file.lock"));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kLimit);
  EXPECT_THAT(second.error().message, testing::HasSubstr("process " + std::to_string(getpid())));
  EXPECT_TRUE(files.lock(place_.path("another.lock")));
  first->reset();
  EXPECT_TRUE(files.lock(place_.path("file.lock")));
  EXPECT_EQ(files.lock(place_.path("none/file.lock")).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace tiercel
