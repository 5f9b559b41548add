// Goal: a file opens as it was left or is refused with a sentence, whatever happened to it; what is not ours is never
// written; each boot has a number of its own; a device that hangs ends in an error at its deadline.
#include "tier/disk/opening.h"

#include "tier/disk/testing/disk_file.h"

#include <gtest/gtest.h>

namespace tiercel::disk {
namespace {

using namespace testing_support;

class OpeningTest : public ::testing::Test {
 protected:
  static constexpr const char* kPath = "/kv/tiercel.kv";

  [[nodiscard]] ErrorCode refusal(const OpenRequest& request = test_request(4)) {
    const Status status = disk_.open(request);
    if (status) return ErrorCode{0};
    message_ = status.error().message;
    return status.error().code;
  }
  void create() {
    ASSERT_TRUE(disk_.open(test_request(4)));
    disk_.close();
  }
  void expect_untouched_refusal(ErrorCode code, const std::string& words) {
    const Bytes before = files_.bytes(kPath);
    EXPECT_EQ(refusal(), code);
    EXPECT_NE(message_.find(words), std::string::npos) << message_;
    EXPECT_NE(message_.find("disk.reset"), std::string::npos) << message_;
    EXPECT_EQ(files_.bytes(kPath), before);
    OpenRequest reset = test_request(4);
    reset.reset = true;
    EXPECT_TRUE(disk_.open(reset));
    EXPECT_TRUE(disk_.opened().created);
  }

  JournalFileSystem files_;
  DiskFile disk_{files_};
  std::string message_;
};

TEST_F(OpeningTest, ANewFileIsWholeAndEmpty) {
  ASSERT_TRUE(disk_.open(test_request(4)));
  EXPECT_TRUE(disk_.opened().created);
  EXPECT_EQ(disk_.metadata().epoch(), 1U);
  EXPECT_EQ(files_.bytes(kPath).size(), disk_.metadata().layout().file_bytes());
  EXPECT_FALSE(files_.world().files.contains("/kv/tiercel.kv.new"));
  Found found;
  ASSERT_TRUE(disk_.recover(found));
  EXPECT_TRUE(found.blocks.empty());
  EXPECT_TRUE(disk_.metadata().repaired_pages().empty());
}

TEST_F(OpeningTest, EachBootHasANumber) {
  for (std::uint64_t boot = 1; boot < 5; ++boot) {
    ASSERT_TRUE(disk_.open(test_request(4)));
    EXPECT_EQ(disk_.metadata().epoch(), boot);
    disk_.close();
  }
}

TEST_F(OpeningTest, ALostCopyOfTheSuperblockLosesNoBootNumber) {
  for (std::uint64_t copy = 0; copy < 2; ++copy) {
    SCOPED_TRACE(copy);
    JournalFileSystem files;
    DiskFile disk(files);
    for (int boot = 0; boot < 3; ++boot) {
      ASSERT_TRUE(disk.open(test_request(4)));
      disk.close();
    }
    files.bytes(kPath)[copy * 4096 + 700] ^= std::byte{4};
    ASSERT_TRUE(disk.open(test_request(4)));
    EXPECT_EQ(disk.metadata().epoch(), 4U);
    // Both are good again.
    const auto chosen = choose_superblock(
        std::span<const std::byte, 2 * kPageBytes>(files.bytes(kPath).data(), 2 * kPageBytes), "file");
    ASSERT_TRUE(chosen);
    EXPECT_TRUE(chosen->other_is_good);
  }
}

TEST_F(OpeningTest, TwoProcesses) {
  ASSERT_TRUE(disk_.open(test_request(4)));
  DiskFile second(files_);
  const Status status = second.open(test_request(4));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kLimit);
  EXPECT_NE(status.error().message.find("4711"), std::string::npos);
  disk_.close();
  EXPECT_TRUE(second.open(test_request(4)));
}

TEST_F(OpeningTest, ForeignFilesAreLeftAlone) {
  files_.world().files[kPath] = std::make_shared<Bytes>(1U << 20U, std::byte{'x'});
  expect_untouched_refusal(ErrorCode::kCorrupt, "not a disk file of Tiercel");
}

TEST_F(OpeningTest, AFileOfZerosIsLeftAlone) {
  files_.world().files[kPath] = std::make_shared<Bytes>(1U << 20U);
  expect_untouched_refusal(ErrorCode::kCorrupt, "not a disk file of Tiercel");
}

TEST_F(OpeningTest, AShortFileIsLeftAlone) {
  files_.world().files[kPath] = std::make_shared<Bytes>(100, std::byte{'x'});
  expect_untouched_refusal(ErrorCode::kCorrupt, "too short");
}

TEST_F(OpeningTest, BothCopiesDamaged) {
  create();
  files_.bytes(kPath)[50] ^= std::byte{1};
  files_.bytes(kPath)[4096 + 4000] ^= std::byte{1};
  expect_untouched_refusal(ErrorCode::kCorrupt, "damaged");
}

TEST_F(OpeningTest, AnotherVersionInOneCopyIsEnough) {
  create();
  Bytes& bytes = files_.bytes(kPath);
  const std::uint32_t version = 3;
  std::memcpy(bytes.data() + 4096 + 8, &version, 4);
  const std::uint32_t crc = crc32c(std::span(bytes).subspan(4096, 4092));
  std::memcpy(bytes.data() + 8188, &crc, 4);
  expect_untouched_refusal(ErrorCode::kUnsupported, "version");
}

TEST_F(OpeningTest, BootsAreCountedOut) {
  create();
  Bytes& bytes = files_.bytes(kPath);
  for (std::uint64_t copy = 0; copy < 2; ++copy) {
    Superblock superblock;
    const PageSpan page(bytes.data() + copy * kPageBytes, kPageBytes);
    ASSERT_EQ(decode(ConstPageSpan(page), superblock), Fault::kNone);
    superblock.boot_epoch = kEpochEnd - 1;
    encode(superblock, page);
  }
  expect_untouched_refusal(ErrorCode::kLimit, "count");
}

TEST_F(OpeningTest, AnEmptyFileAndALeftoverMakeRoomForANewOne) {
  files_.world().files[kPath] = std::make_shared<Bytes>();
  files_.world().files["/kv/tiercel.kv.new"] = std::make_shared<Bytes>(77);
  ASSERT_TRUE(disk_.open(test_request(4)));
  EXPECT_TRUE(disk_.opened().created);
}

TEST_F(OpeningTest, AFileThatWasCutOffIsMadeWholeAndServesWhatIsLeft) {
  ASSERT_TRUE(disk_.open(test_request(4)));
  disk_.store(5, 1, kTestSlotBytes);
  disk_.store(6, 3 * 8 + 2, kTestSlotBytes);  // the table's last page
  disk_.close();
  const std::size_t whole = files_.bytes(kPath).size();
  files_.bytes(kPath).resize(whole - 4096);
  ASSERT_TRUE(disk_.open(test_request(4)));
  EXPECT_EQ(files_.bytes(kPath).size(), whole);
  Found found;
  ASSERT_TRUE(disk_.recover(found));
  ASSERT_EQ(found.blocks.size(), 1U);
  EXPECT_TRUE(disk_.holds_content_of(5, found.blocks[0]));
}

TEST_F(OpeningTest, TooLittleSpaceIsSaidBeforeAnythingIsMade) {
  files_.world().capacity = 100'000;
  EXPECT_EQ(refusal(), ErrorCode::kIo);
  EXPECT_NE(message_.find("100000 are free"), std::string::npos) << message_;
  EXPECT_TRUE(files_.world().files.empty());
}

TEST_F(OpeningTest, ImpossibleSizesAndNoDirectory) {
  OpenRequest request = test_request(4);
  request.capacity = kTestExtentBytes - 1;
  EXPECT_EQ(refusal(request), ErrorCode::kInvalidArgument);
  request = test_request(4);
  request.extent_bytes = 0;
  EXPECT_EQ(refusal(request), ErrorCode::kInvalidArgument);
  request = test_request(4);
  request.directory = "/nowhere";
  EXPECT_EQ(refusal(request), ErrorCode::kNotFound);
}

TEST_F(OpeningTest, PermissionsAreNamed) {
  create();
  files_.world().errors["open"] = EACCES;
  EXPECT_EQ(refusal(), ErrorCode::kIo);
  EXPECT_NE(message_.find("own the directory"), std::string::npos) << message_;
  files_.world().errors["open"] = EROFS;
  EXPECT_EQ(refusal(), ErrorCode::kIo);
  EXPECT_NE(message_.find("mount it writable"), std::string::npos) << message_;
  files_.world().errors = {{"lock", EACCES}};
  EXPECT_EQ(refusal(), ErrorCode::kIo);
  EXPECT_NE(message_.find("own the directory"), std::string::npos) << message_;
}

TEST_F(OpeningTest, ADeviceThatHangsEndsAtTheDeadline) {
  create();
  // Every operation in turn hangs for ever.
  for (int hanging = 0; hanging < 5; ++hanging) {
    SCOPED_TRACE(hanging);
    JournalFileSystem files({{kPath, files_.bytes(kPath)}});
    int seen = 0;
    files.world().stall = [&](const IoOperation&) { return seen++ == hanging; };
    ManualClock clock;
    OpenRequest request = test_request(4);
    request.io_deadline_ns = 1000;
    auto opening = std::make_unique<Opening>(request, files, clock);
    for (int i = 0; i < 100; ++i) opening->step(0);
    ASSERT_FALSE(opening->ended());
    clock.advance(1001);
    for (int i = 0; i < 3 && !opening->ended(); ++i) opening->step(0);
    ASSERT_TRUE(opening->ended());
    EXPECT_EQ(opening->status().error().code, ErrorCode::kTimeout);
    EXPECT_EQ(opening->in_flight(), 1U);
    files.world().answer_stalled = true;  // the File can go only when its device has answered
    opening->step(0);
    EXPECT_EQ(opening->in_flight(), 0U);
  }
}

TEST_F(OpeningTest, ACrashAtEachEventOfCreationLeavesNothingOrAFile) {
  create();
  const std::size_t events = files_.events();
  ASSERT_GT(events, 4U);
  Random random(7);
  for (std::size_t n = 0; n <= events; ++n) {
    for (int subset = 0; subset < 4; ++subset) {
      const auto after = files_.crash_after(n, [&] { return subset == 0 || random.below(2) == 0; });
      DiskFile disk(*after);
      const Status status = disk.open(test_request(4));
      ASSERT_TRUE(status) << n << ": " << status.error().message;
      Found found;
      ASSERT_TRUE(disk.recover(found));
      EXPECT_TRUE(found.blocks.empty());
    }
  }
}

}  // namespace
}  // namespace tiercel::disk
