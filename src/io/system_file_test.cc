// What only the system's own files show: the engine that is chosen, locks between processes, a disk that is full.
#include "io/system_file.h"
#include "base/log.h"
#include "io/file.h"
#include "io/testing/io_kinds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace tiercel {
namespace {

using testing_io::IoPlace;
using testing_io::IoVariant;
using testing_io::PageMemory;
using testing_io::Storage;

class SystemFileTest : public testing::Test {
 protected:
  void SetUp() override {
    set_log_sink([this](LogLevel, std::string_view text) { lines_.emplace_back(text); });
  }
  void TearDown() override { set_log_sink({}); }

  std::vector<std::string> lines_;
  IoPlace place_{IoVariant{.storage = Storage::kThreads}};
};

TEST_F(SystemFileTest, TheLogSaysWhichEngineServesAndWhy) {
  // Log lines of one cause are limited in time; the sentence itself comes from the same two members.
  const SystemFileSystem threads(IoEngine::kThreads);
  EXPECT_STREQ(threads.engine(), "threads");
  EXPECT_EQ(threads.reason(), "configured");
  const SystemFileSystem chosen;
  EXPECT_EQ(chosen.reason().empty(), std::string(chosen.engine()) == "io_uring");
}

TEST_F(SystemFileTest, WhereARingIsRefusedThreadsServe) {
  SystemFileSystem files;
  constexpr std::uint32_t kMoreThanARingHas = 40000;
  auto opened = files.open(place_.path("file"), {.create = true, .depth = kMoreThanARingHas});
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_STREQ((*opened)->name(), "threads");
  EXPECT_EQ((*opened)->depth(), kMoreThanARingHas);
}

TEST_F(SystemFileTest, AnotherProcessIsNamedByItsId) {
  std::array<int, 2> ready{};
  std::array<int, 2> leave{};
  ASSERT_EQ(pipe(ready.data()) + pipe(leave.data()), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto held = place_.files().lock(place_.path("lock"));
    char word = held ? '1' : '0';
    (void)!write(ready[1], &word, 1);
    (void)!read(leave[0], &word, 1);  // until the parent says so, or is gone
    _exit(0);                         // without giving the lock back: the system does
  }
  close(leave[0]);
  char word = '0';
  ASSERT_EQ(read(ready[0], &word, 1), 1);
  ASSERT_EQ(word, '1');
  auto refused = place_.files().lock(place_.path("lock"));
  (void)!write(leave[1], &word, 1);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kLimit);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("process " + std::to_string(child)));
  EXPECT_TRUE(place_.files().lock(place_.path("lock"))) << "a process that ended holds nothing";
  for (const int fd : {ready[0], ready[1], leave[1]}) close(fd);
}

TEST_F(SystemFileTest, TheLockFileHoldsTheProcessIdAndIsEmptyAfterwards) {
  auto held = place_.files().lock(place_.path("lock"));
  ASSERT_TRUE(held);
  std::ifstream file(place_.path("lock"));
  int pid = 0;
  file >> pid;
  EXPECT_EQ(pid, getpid());
  held->reset();
  EXPECT_EQ(std::filesystem::file_size(place_.path("lock")), 0U);
}

TEST_F(SystemFileTest, ARingKeepsALockUntilNothingOfItIsLeft) {
  const std::string name = place_.path("held");
  const auto is_locked = [&] {
    const FileDescriptor other(::open(name.c_str(), O_RDWR | O_CLOEXEC));
    return ::flock(other.get(), LOCK_EX | LOCK_NB) != 0;
  };
  FileDescriptor lock(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(::flock(lock.get(), LOCK_EX | LOCK_NB), 0);
  std::unique_ptr<IoBackend> file;
  {
    SystemFileSystem files(IoEngine::kAuto, std::move(lock));
    if (!files.reason().empty()) GTEST_SKIP() << "this machine has no io_uring";
    auto opened = files.open(place_.path("data"), {.create = true, .depth = 4});
    ASSERT_TRUE(opened) << opened.error().message;
    file = std::move(*opened);
  }
  EXPECT_TRUE(is_locked()) << "as after the process was killed: the ring alone has it";
  file.reset();
  for (int look = 0; look < 1000 && is_locked(); ++look) (void)::poll(nullptr, 0, 10);
  EXPECT_FALSE(is_locked());
}

TEST_F(SystemFileTest, WhatIsNoRegularFileIsRefusedWithoutWaitingForIt) {
  ASSERT_EQ(mkfifo(place_.path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(place_.files().open(place_.path("pipe"), {}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(place_.files().open(place_.directory(), {}).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(SystemFileTest, OthersMayNotReadTheFile) {
  ASSERT_TRUE(place_.files().open(place_.path("file"), {.create = true}));
  const auto mode = std::filesystem::status(place_.path("file")).permissions();
  EXPECT_EQ(mode, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

/// A filesystem of 1 MiB, where this process may mount one.
class SmallDisk {
 public:
  explicit SmallDisk(std::string directory) : directory_(std::move(directory)) {
    std::filesystem::create_directory(directory_);
    mounted_ = mount("tiercel-test", directory_.c_str(), "tmpfs", 0, "size=1m") == 0;
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (mounted_) umount2(directory_.c_str(), MNT_DETACH);
  }
  [[nodiscard]] bool mounted() const { return mounted_; }

 private:
  std::string directory_;
  bool mounted_ = false;
};

TEST_F(SystemFileTest, AFullDiskFailsWritesAndAllocationAndNothingElse) {
  const SmallDisk disk(place_.path("small"));
  if (!disk.mounted()) GTEST_SKIP() << "this process may not mount a small filesystem";
  constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;
  const SteadyClock clock;
  PageMemory memory(512);
  for (const IoEngine engine : {IoEngine::kAuto, IoEngine::kThreads}) {
    SystemFileSystem files(engine);
    auto opened = files.open(place_.path("small/file"), {.create = true, .depth = 4});
    ASSERT_TRUE(opened) << opened.error().message;
    File file(std::move(*opened), clock);
    const Status allocation = file.backend().allocate(2 * kMiB);
    ASSERT_FALSE(allocation);
    EXPECT_EQ(allocation.error().os_error, ENOSPC);
    EXPECT_EQ(*file.backend().size(), 0U);
    IoJob job{.kind = IoKind::kWrite, .segment_count = 1};
    job.segments[0] = {memory.at(0), 2 * kMiB};
    const Status status = file.run(job);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kIo);
    EXPECT_EQ(status.error().os_error, ENOSPC);
    job.kind = IoKind::kRead;
    job.segments[0].bytes = kMiB / 2;
    EXPECT_TRUE(file.run(job)) << "reads go on";
    ASSERT_TRUE(file.backend().truncate(0));
    job.kind = IoKind::kWrite;
    EXPECT_TRUE(file.run(job)) << "writes go on where there is space again";
    ASSERT_TRUE(files.remove(place_.path("small/file")));
  }
}

TEST_F(SystemFileTest, MemoryBeyondTheLimitIsNotRegisteredAndTransfersGoOn) {
  SystemFileSystem files;
  if (!files.reason().empty()) GTEST_SKIP() << "this machine has no io_uring";
  auto opened = files.open(place_.path("file"), {.create = true, .depth = 4});
  ASSERT_TRUE(opened);
  PageMemory memory(4);
  const struct iovec nowhere{.iov_base = nullptr, .iov_len = 4096};
  const Status refused = (*opened)->register_memory({&nowhere, 1});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  const SteadyClock clock;
  File file(std::move(*opened), clock);
  IoJob job{.kind = IoKind::kWrite, .segment_count = 1};
  job.segments[0] = {memory.at(0), memory.bytes()};
  EXPECT_TRUE(file.run(job));
}

TEST_F(SystemFileTest, BuffersThatAreRegisteredInPartOrNotAtAllAreMovedTheSame) {
  SystemFileSystem files;
  if (!files.reason().empty()) GTEST_SKIP() << "this machine has no io_uring";
  auto opened = files.open(place_.path("file"), {.create = true, .depth = 4});
  ASSERT_TRUE(opened);
  constexpr std::uint64_t kPage = 4096;
  PageMemory memory(16);
  const std::array<struct iovec, 2> regions{
      {{.iov_base = memory.at(0), .iov_len = 4 * kPage}, {.iov_base = memory.at(4 * kPage), .iov_len = 4 * kPage}}};
  ASSERT_TRUE((*opened)->register_memory(regions));
  const SteadyClock clock;
  File file(std::move(*opened), clock);
  for (const std::uint64_t first : {0U, 2U, 6U, 12U}) {  // inside, over two regions, over the end, outside
    IoJob job{.kind = IoKind::kWrite, .segment_count = 1};
    job.segments[0] = {memory.at(first * kPage), 4 * kPage};
    std::ranges::fill(memory.range(first * kPage, 4 * kPage), std::byte{7});
    EXPECT_TRUE(file.run(job)) << first;
    std::ranges::fill(memory.range(first * kPage, 4 * kPage), std::byte{0});
    job.kind = IoKind::kRead;
    EXPECT_TRUE(file.run(job)) << first;
    EXPECT_THAT(memory.range(first * kPage, 4 * kPage), testing::Each(std::byte{7})) << first;
  }
}

TEST_F(SystemFileTest, LongReadsThatTheKernelCopiesApartBringTheSameBytes) {
  SystemFileSystem files;
  if (!files.reason().empty()) GTEST_SKIP() << "this machine has no io_uring";
  const std::string in_memory = "/dev/shm/tiercel-system-file-test-" + std::to_string(getpid());
  for (const std::string& path : {place_.path("file"), in_memory}) {
    const OpenOptions options{.create = true, .direct = path == in_memory, .depth = 4};
    if (auto plain = SystemFile::open(path, options)) {
      EXPECT_TRUE(plain->is_copied()) << path;
    } else {
      ASSERT_EQ(path, in_memory) << plain.error().message;
      continue;  // a machine without such a place
    }
    auto opened = files.open(path, options);
    ASSERT_TRUE(opened) << opened.error().message;
    constexpr std::uint64_t kBytes = 1U << 20U;
    PageMemory memory(2 * kBytes / 4096);
    const SteadyClock clock;
    File file(std::move(*opened), clock);
    for (std::uint64_t i = 0; i < kBytes; ++i) *memory.at(i) = static_cast<std::byte>(i * 7 + i / 4096);
    IoJob job{.kind = IoKind::kWrite, .offset = 4096, .segment_count = 1};
    job.segments[0] = {memory.at(0), kBytes};
    ASSERT_TRUE(file.run(job));
    job.kind = IoKind::kRead;
    job.segments[0] = {memory.at(kBytes), kBytes};
    ASSERT_TRUE(file.run(job));
    EXPECT_EQ(std::memcmp(memory.at(0), memory.at(kBytes), kBytes), 0) << path;
  }
  std::filesystem::remove(in_memory);
}

}  // namespace
}  // namespace tiercel
