// Goal: a container's limit counts, not the machine's memory. Method: small trees of the kernel's files.
#include "memory/memory_limit.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace tiercel {
namespace {

class MemoryLimit : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
    write("/proc/meminfo", "MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable:   800 kB\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_.string() + path).substr(0, (root_.string() + path).rfind('/')));
    std::ofstream(root_.string() + path) << text;
  }
  [[nodiscard]] std::uint64_t available() const { return available_memory_bytes(root_.string()); }
  std::filesystem::path root_;
};

TEST_F(MemoryLimit, machine_without_groups) { EXPECT_EQ(available(), 800U << 10U); }

TEST_F(MemoryLimit, v2_takes_the_tightest_group_on_the_way_up) {
  write("/proc/self/cgroup", "0::/a/b\n");
  write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  write("/sys/fs/cgroup/a/b/memory.current", "100\n");
  write("/sys/fs/cgroup/a/memory.max", "500000\n");
  write("/sys/fs/cgroup/a/memory.current", "300000\n");
  write("/sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 50000\nactive_file 9\n");
  EXPECT_EQ(available(), 250'000U);
}

TEST_F(MemoryLimit, v1_memory_controller) {
  write("/proc/self/cgroup", "9:cpu:/x\n4:memory:/docker/id\n");
  write("/sys/fs/cgroup/memory/docker/id/memory.limit_in_bytes", "400000\n");
  write("/sys/fs/cgroup/memory/docker/id/memory.usage_in_bytes", "100000\n");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(available(), 300'000U);
}

TEST_F(MemoryLimit, a_full_group_leaves_nothing) {
  write("/proc/self/cgroup", "0::/\n");
  write("/sys/fs/cgroup/memory.max", "1000\n");
  write("/sys/fs/cgroup/memory.current", "2000\n");
  EXPECT_EQ(available(), 0U);
}

TEST(MemoryLimitHere, is_known_on_this_system) { EXPECT_GT(available_memory_bytes(), 0U); }

}  // namespace
}  // namespace tiercel
