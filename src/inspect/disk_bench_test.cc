// Goal: what is measured was really moved and verified, and nothing of it stays.
#include <tiercel/disk_bench.h>

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace tiercel {
namespace {

using std::chrono::milliseconds;

class DiskBenchTest : public ::testing::Test {
 protected:
  DiskBenchTest() {
    std::string path = "disk-bench-XXXXXX";
    folder_ = std::filesystem::absolute(mkdtemp(path.data()));
  }
  ~DiskBenchTest() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] DiskBench::Options options() const {
    return {.directory = folder_.string(), .file_bytes = 192_MiB, .block_bytes = 1_MiB, .depth = 4};
  }
  [[nodiscard]] std::string error_of(const DiskBench::Options& options) const {
    const auto bench = DiskBench::create(options);
    return bench ? "(accepted)" : bench.error().message;
  }

  std::filesystem::path folder_;
};

TEST_F(DiskBenchTest, MovesWholeBlocksBothWaysAndLeavesNothing) {
  {
    auto bench = DiskBench::create(options());
    ASSERT_TRUE(bench) << bench.error().message;
    EXPECT_EQ(bench->fill().bytes, 192_MiB) << "every block was written";
    EXPECT_EQ(bench->block_bytes_total(), 192_MiB);
    for (const DiskDirection direction : {DiskDirection::kRead, DiskDirection::kWrite, DiskDirection::kRead}) {
      const auto speed = bench->measure(direction, milliseconds(1));
      ASSERT_TRUE(speed) << speed.error().message;
      EXPECT_GE(speed->blocks, 4U) << "as many as are in flight";
      EXPECT_EQ(speed->bytes, speed->blocks * 1_MiB);
      EXPECT_GT(speed->seconds, 0);
      EXPECT_GT(speed->cpu_seconds, 0);
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(DiskBenchTest, LoadsAreTimedBesideWrites) {
  auto bench = DiskBench::create(options());
  ASSERT_TRUE(bench) << bench.error().message;
  const auto alone = bench->load_latency(2, false, milliseconds(1));
  ASSERT_TRUE(alone) << alone.error().message;
  EXPECT_GE(alone->loads.blocks, 2U);
  EXPECT_GT(alone->p50_ns, 0U);
  EXPECT_GE(alone->p99_ns, alone->p50_ns);
  EXPECT_EQ(alone->writes.blocks, 0U);
  const auto beside = bench->load_latency(2, true, milliseconds(1));
  ASSERT_TRUE(beside) << beside.error().message;
  EXPECT_GE(beside->loads.blocks, 2U);
  EXPECT_FALSE(bench->load_latency(5, true, milliseconds(1))) << "more than the depth";
}

TEST_F(DiskBenchTest, AByteThatChangedOnDiskEndsTheMeasurement) {
  DiskBench::Options one_way = options();
  one_way.direct = false;  // the change below goes through the page cache
  auto bench = DiskBench::create(one_way);
  ASSERT_TRUE(bench) << bench.error().message;
  std::fstream file(bench->directory() + "/tiercel.kv", std::ios::in | std::ios::out | std::ios::binary);
  for (std::uint64_t block = 0; block < 192; ++block) {
    const auto place = static_cast<std::streamoff>(2_MiB + block * 1_MiB + 777);
    file.seekg(place);
    const int byte = file.get();
    file.seekp(place);
    file.put(static_cast<char>(byte ^ 1));
  }
  file.close();
  const auto speed = bench->measure(DiskDirection::kRead, milliseconds(1));
  ASSERT_FALSE(speed);
  EXPECT_EQ(speed.error().code, ErrorCode::kCorrupt);
}

TEST_F(DiskBenchTest, SizesThatMakeNoMeasurementAreRefused) {
  DiskBench::Options odd = options();
  odd.block_bytes = 5000;
  EXPECT_NE(error_of(odd).find("4KiB to 16MiB"), std::string::npos) << error_of(odd);
  DiskBench::Options small = options();
  small.depth = 64;
  EXPECT_NE(error_of(small).find("at least 320MiB"), std::string::npos) << error_of(small);
  DiskBench::Options large = options();
  large.file_bytes = 1ULL << 60U;
  EXPECT_NE(error_of(large).find("free"), std::string::npos) << error_of(large);
  DiskBench::Options missing = options();
  missing.directory = (folder_ / "gone").string();
  EXPECT_NE(error_of(missing).find("gone"), std::string::npos) << error_of(missing);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(DiskBenchTest, ACancelledOneEnds) {
  std::atomic<bool> cancel{false};
  DiskBench::Options cancelled = options();
  cancelled.cancel = &cancel;
  auto bench = DiskBench::create(cancelled);
  ASSERT_TRUE(bench) << bench.error().message;
  cancel = true;
  const auto speed = bench->measure(DiskDirection::kRead, std::chrono::hours(1));
  ASSERT_FALSE(speed);
  EXPECT_EQ(speed.error().code, ErrorCode::kClosed);
}

}  // namespace
}  // namespace tiercel
