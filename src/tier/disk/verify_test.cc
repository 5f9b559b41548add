// Goal: verification finds whatever is wrong, by cause; never writes unless told to repair; and a repaired file is
// without findings, with all good blocks in it.
#include "tier/disk/verify.h"

#include "model/block_checksum.h"
#include "tier/disk/testing/disk_file.h"

#include <gtest/gtest.h>

namespace tiercel::disk {
namespace {

using namespace testing_support;

class VerifyTest : public ::testing::Test {
 protected:
  static constexpr const char* kPath = "/kv/tiercel.kv";

  void SetUp() override {
    ASSERT_TRUE(disk_.open(test_request(4)));
    for (std::uint32_t i = 0; i < 6; ++i) store(100 + i, i, i == 0);
    for (std::uint32_t i = 0; i < 3; ++i) store(200 + i, 16 + i, i == 0);
    layout_ = disk_.metadata().layout();
  }
  /// With a checksum that is right; the first of a chain has the namespace as its parent.
  DiskBlock store(std::uint64_t number, std::uint32_t slot, bool first = false) {
    DiskBlock block = disk_.store(number, slot, kTestSlotBytes);
    block.group = 0;
    if (first) block.parent = block.fingerprint;
    return put(block, number);
  }
  DiskBlock put(DiskBlock block, std::uint64_t number) {
    const Bytes content = content_of(number, kTestSlotBytes);
    block.checksum = block_checksum(
        {.fingerprint = block.fingerprint, .hash = block.hash, .group = block.group, .generation = block.generation},
        {content.data(), block.length});
    disk_.write_page(disk_.metadata().put(block));
    return block;
  }
  [[nodiscard]] VerifyReport verify(bool repair = false, bool read_data = true) {
    disk_.close();
    const Bytes before = bytes();
    auto report = verify_file(kPath, files_, disk_.clock(), {.read_data = read_data, .repair = repair});
    EXPECT_TRUE(report) << report.error().message;
    if (!repair) {
      EXPECT_EQ(bytes(), before);
    }
    return report ? *report : VerifyReport{};
  }
  /// Causes and counts.
  [[nodiscard]] static std::map<std::string, std::uint64_t> causes(const VerifyReport& report) {
    std::map<std::string, std::uint64_t> counts;
    for (const VerifyFinding& finding : report.findings) counts[finding.cause] = finding.count;
    return counts;
  }
  using Causes = std::map<std::string, std::uint64_t>;
  [[nodiscard]] Bytes& bytes() { return files_.bytes(kPath); }
  [[nodiscard]] std::byte& header_byte(std::uint32_t slot, std::size_t at) {
    return bytes()[layout_.meta_begin() + layout_.header_offset(slot) + at];
  }
  [[nodiscard]] std::byte& data_byte(std::uint32_t slot, std::size_t at) {
    return bytes()[layout_.data_offset(slot, kTestSlotBytes) + at];
  }

  JournalFileSystem files_;
  DiskFile disk_{files_};
  Layout layout_;
};

TEST_F(VerifyTest, AGoodFileHasNoFindings) {
  const VerifyReport report = verify();
  EXPECT_EQ(causes(report), Causes{});
  EXPECT_EQ(report.blocks, 9U);
  EXPECT_EQ(report.cut_extents, 2U);
  EXPECT_EQ(report.data_bytes_read, report.block_bytes);
  EXPECT_EQ(report.boot_epoch, 1U);
}

TEST_F(VerifyTest, EachCauseIsFoundAndRepaired) {
  const DiskBlock gone = store(300, 20, true);
  store(301, 21, true);
  disk_.write_page(disk_.metadata().append(
      {.fingerprint = gone.fingerprint, .hash = gone.hash, .group = gone.group, .generation = gone.generation}));
  DiskBlock older = store(205, 19);  // its parent, 204, was never stored
  older.generation -= 1;
  older.slot = 22;
  put(older, 205);
  header_byte(2, 30) ^= std::byte{1};      // 102, the parent of 103
  header_byte(23, 0) = std::byte{9};       // nothing was there
  data_byte(16 + 2, 100) ^= std::byte{1};  // 202
  bytes()[layout_.data_offset(22, kTestSlotBytes)] = std::byte{1};
  bytes()[4096 + 9] ^= std::byte{1};
  const Causes expected = {{"crc", 1},       {"magic", 1},     {"checksum", 1},
                           {"duplicate", 1}, {"no_parent", 2}, {"superblock_copy", 1}};
  const VerifyReport found = verify();
  EXPECT_EQ(causes(found), expected);
  EXPECT_EQ(found.buried, 1U);
  EXPECT_EQ(found.tombstones, 1U);
  EXPECT_EQ(found.bad_blocks, 2U);
  for (const VerifyFinding& finding : found.findings) EXPECT_FALSE(finding.examples.empty()) << finding.cause;
  EXPECT_EQ(causes(verify(false, false)),
            (Causes{{"crc", 1}, {"magic", 1}, {"duplicate", 1}, {"no_parent", 2}, {"superblock_copy", 1}}));
  const VerifyReport repair = verify(true);
  EXPECT_EQ(causes(repair), expected);
  EXPECT_GT(repair.written_pages, 0U);
  EXPECT_EQ(causes(verify()), (Causes{{"no_parent", 2}}));  // a block that is good stays
  ASSERT_TRUE(disk_.open(test_request(4)));
  Found after;
  ASSERT_TRUE(disk_.recover(after));
  EXPECT_EQ(after.blocks.size(), 5U + 2U + 1U + 1U);
}

TEST_F(VerifyTest, FlippedBitsOfDataAreFound) {
  const std::uint32_t length = kTestSlotBytes - 101;
  for (std::uint32_t bit = 0; bit < length * 8; bit += 997) {
    data_byte(1, bit / 8) ^= static_cast<std::byte>(1U << (bit % 8));
    ASSERT_EQ(causes(verify()), (Causes{{"checksum", 1}})) << bit;
    data_byte(1, bit / 8) ^= static_cast<std::byte>(1U << (bit % 8));
  }
  data_byte(1, length) ^= std::byte{1};  // behind the block: no meaning
  EXPECT_EQ(causes(verify()), Causes{});
}

TEST_F(VerifyTest, AnUnreadableBlock) {
  const std::uint64_t bad = layout_.data_offset(5, kTestSlotBytes);
  files_.world().operation_error = [bad](const IoOperation& operation) { return operation.offset == bad ? EIO : 0; };
  EXPECT_EQ(causes(verify()), (Causes{{"unreadable", 1}}));
}

TEST_F(VerifyTest, DamagedTables) {
  const std::uint64_t meta = layout_.meta_begin();
  bytes()[meta + 2 * kExtentHeadBytes] ^= std::byte{1};  // extent 2: its three blocks are not looked for
  VerifyReport report = verify();
  EXPECT_EQ(causes(report), (Causes{{"extent_head", 1}}));
  EXPECT_EQ(report.blocks, 6U);
  bytes()[layout_.page_offset(layout_.namespace_page(1)) + 10] ^= std::byte{1};
  report = verify();
  EXPECT_EQ(causes(report), (Causes{{"extent_head", 1}, {"namespace_entry", 1}, {"namespace", 6}}));
}

TEST_F(VerifyTest, RefusesWhatItCannotOrMustNotLookAt) {
  auto report = verify_file(kPath, files_, disk_.clock(), {});
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kLimit);  // this test has it open
  disk_.close();
  EXPECT_EQ(verify_file("/kv/other", files_, disk_.clock(), {}).error().code, ErrorCode::kNotFound);
  bytes().resize(bytes().size() - 4096);
  report = verify_file(kPath, files_, disk_.clock(), {});
  ASSERT_FALSE(report);
  EXPECT_NE(report.error().message.find("cut off"), std::string::npos);
  bytes().assign(100, std::byte{1});
  EXPECT_EQ(verify_file(kPath, files_, disk_.clock(), {}).error().code, ErrorCode::kCorrupt);
  bytes().assign(100'000, std::byte{1});
  EXPECT_EQ(verify_file(kPath, files_, disk_.clock(), {.repair = true}).error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace tiercel::disk
