// Goal: calibration measures each direction, path and run on a device, gives back what it took, and passes the device's
// errors on; its file serves the next start of the same GPU, driver and settings, and no other.
#include "cuda/calibration.h"

#include "base/clock.h"
#include "cuda/feeder.h"
#include "cuda/testing/failing_device.h"
#include "cuda/testing/fake_device.h"
#include "cuda/testing/stage_options.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

namespace tiercel::gpu {
namespace {

const GpuCopyOptions kLargeStages = with_stages({.stage_bytes = 16U << 20U, .stages = 1, .chunk_bytes = 4U << 20U});

constexpr CalibrationSize kFew{.blocks = 20, .times = 1};

/// Each look takes a microsecond.
class SteppingClock final : public Clock {
 public:
  [[nodiscard]] std::uint64_t now_ns() const noexcept override { return now_ns_ += 1000; }

 private:
  mutable std::uint64_t now_ns_ = 0;
};

TEST(CalibrationTest, measures_every_path_and_leaves_nothing_behind) {
  FakeDevice device(kLargeStages, 1);
  const SteppingClock clock;
  const auto costs = measure_path_costs(device, clock, kLargeStages, kFew);
  ASSERT_TRUE(costs) << costs.error().message;
  EXPECT_EQ(parse_costs(to_text(*costs)), *costs) << "plausible";
  EXPECT_EQ(device.tickets(), 0);
  EXPECT_EQ(device.pending(), 0U);
  EXPECT_EQ(device.tables(), 0U);
  EXPECT_TRUE(device.pinned().empty());
}

TEST(CalibrationTest, small_stages_are_not_calibrated) {
  const GpuCopyOptions small = with_stages({.stage_bytes = 1U << 20U, .stages = 2, .chunk_bytes = 1U << 20U});
  FakeDevice device(small, 1);
  const SteppingClock clock;
  const auto costs = measure_path_costs(device, clock, small);
  ASSERT_FALSE(costs);
  EXPECT_EQ(costs.error().code, ErrorCode::kUnsupported);
}

TEST(CalibrationTest, an_error_of_the_device_is_passed_on) {
  for (std::uint64_t call = 0; call < 200; call = call * 3 / 2 + 1) {
    auto inner = std::make_unique<FakeDevice>(kLargeStages, 1);
    const FakeDevice& fake = *inner;
    FailingDevice device(std::move(inner), call);
    const SteppingClock clock;
    const auto costs = measure_path_costs(device, clock, kLargeStages, kFew);
    ASSERT_FALSE(costs) << "call " << call;
    EXPECT_TRUE(device.failed());
    EXPECT_EQ(costs.error().message, "planted: the device failed");
    EXPECT_EQ(fake.pending(), 0U);
    EXPECT_TRUE(fake.pinned().empty());
  }
  const SteppingClock slow_clock;
  FakeDevice slow(kLargeStages, 1);
  const auto late =
      measure_path_costs(slow, slow_clock, kLargeStages, {.blocks = 20, .times = 1, .at_most_ns = 50'000});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kTimeout);
  EXPECT_EQ(slow.tickets(), 0);
  EXPECT_TRUE(slow.pinned().empty());
  FakeDevice poor(kLargeStages, 1);
  poor.limit_pinning(1U << 20U);
  const SteppingClock clock;
  const auto costs = measure_path_costs(poor, clock, kLargeStages, kFew);
  ASSERT_FALSE(costs);
  EXPECT_EQ(costs.error().code, ErrorCode::kOutOfMemory);
}

class CalibrationFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "tiercel-calibration-" + std::to_string(getpid());
    std::filesystem::remove_all(folder_);
    std::uint64_t number = 1;
    for (auto& direction : costs_.of) {
      for (auto& path : direction) {
        for (PathCost& cost : path) cost = {1000 + number++, 18'000 + 7 * number};
      }
    }
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path only_file() { return std::filesystem::directory_iterator(folder_)->path(); }
  std::string folder_;
  PathCosts costs_;
};

TEST_F(CalibrationFileTest, serves_the_same_gpu_driver_and_settings) {
  const std::string key = calibration_key("GPU A, driver 1", {});
  EXPECT_FALSE(read_path_costs(folder_, key));
  ASSERT_TRUE(write_path_costs(folder_, key, costs_));
  EXPECT_EQ(read_path_costs(folder_, key), costs_);
  EXPECT_FALSE(read_path_costs(folder_, calibration_key("GPU A, driver 2", {})));
  EXPECT_FALSE(read_path_costs(folder_, calibration_key("GPU A, driver 1", {.kernel_blocks = 66})));
  ASSERT_TRUE(write_path_costs(folder_, key, {}));
  EXPECT_FALSE(read_path_costs(folder_, key)) << "costs of nothing";
}

TEST_F(CalibrationFileTest, a_damaged_file_is_as_none) {
  const std::string key = calibration_key("GPU A, driver 1", {});
  ASSERT_TRUE(write_path_costs(folder_, key, costs_));
  const auto size = std::filesystem::file_size(only_file());
  for (std::uintmax_t length = 0; length + 7 < size; length += 5) {
    ASSERT_TRUE(write_path_costs(folder_, key, costs_));
    std::filesystem::resize_file(only_file(), length);
    EXPECT_FALSE(read_path_costs(folder_, key)) << "cut at " << length;
  }
  std::ofstream(only_file()) << "something else\n";
  EXPECT_FALSE(read_path_costs(folder_, key));
}

TEST_F(CalibrationFileTest, a_folder_that_cannot_be_written_is_named) {
  std::ofstream(folder_) << "a file\n";
  const Status kept = write_path_costs(folder_, "key", costs_);
  ASSERT_FALSE(kept);
  EXPECT_NE(kept.error().message.find(folder_), std::string::npos);
  std::filesystem::remove(folder_);
}

}  // namespace
}  // namespace tiercel::gpu
