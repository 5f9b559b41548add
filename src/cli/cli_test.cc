// Goal: a mistyped flag is told the nearest, a wrong value names its flag; fio is asked for what we measure ourselves,
// and its answer is read.
#include "cli/arguments.h"
#include "cli/bench_disk.h"
#include "cli/child_process.h"
#include "cli/fio.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tiercel::cli {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

struct Options {
  std::string name;
  std::uint32_t depth = 1;
  std::uint64_t size = 0;
  std::vector<std::uint64_t> blocks;
  bool fast = false;
  Config config;
  bool help = false;
};

Status parse(const Words& words, Options& options, bool with_config = false) {
  Arguments arguments("thing NAME [flags]", "Does a thing.");
  arguments.app().add_option("NAME", options.name, "its name");
  arguments.app().add_option("--depth", options.depth, "how deep")->check(CLI::Range(1, 64));
  arguments.add_bytes("--size", options.size, "how large");
  arguments.add_bytes_list("--block", options.blocks, "sizes");
  arguments.app().add_flag("--fast,-f", options.fast, "sooner");
  return with_config ? arguments.parse_with_config(words, options.config, options.help)
                     : arguments.parse(words, options.help);
}

std::string error_of(const Words& words, bool with_config = false) {
  Options options;
  const Status status = parse(words, options, with_config);
  return status ? "(accepted)" : status.error().message;
}

TEST(Arguments, ReadsEveryKind) {
  Options options;
  const Status status = parse({"x", "--depth=7", "--size", "2GiB", "--block", "1MiB,4MiB", "-f"}, options);
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(options.name, "x");
  EXPECT_EQ(options.depth, 7U);
  EXPECT_EQ(options.size, 2_GiB);
  EXPECT_EQ(options.blocks, (std::vector<std::uint64_t>{1_MiB, 4_MiB}));
  EXPECT_TRUE(options.fast);
}

TEST(Arguments, TakesTheFlagsOfTheCacheWhereItIsTold) {
  Options options;
  const Status status = parse({"x", "--host-capacity", "1GiB", "--depth", "2"}, options, true);
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(options.config.host.capacity, 1_GiB);
  EXPECT_EQ(options.depth, 2U);
  EXPECT_THAT(error_of({"--host-capacity", "1GiB"}), HasSubstr("unknown option --host-capacity"));
}

TEST(Arguments, AMistypedFlagIsToldTheNearest) {
  EXPECT_THAT(error_of({"--dept", "2"}), HasSubstr("unknown option --dept; did you mean --depth?"));
  EXPECT_THAT(error_of({"--host-capcity", "2"}, true), HasSubstr("did you mean --host-capacity?"));
  EXPECT_THAT(error_of({"--dept", "2"}, true), HasSubstr("did you mean --depth?"));
}

TEST(Arguments, AWrongValueNamesItsFlag) {
  EXPECT_THAT(error_of({"--depth", "0"}), HasSubstr("--depth"));
  EXPECT_THAT(error_of({"--size", "many"}), HasSubstr("--size"));
  EXPECT_THAT(error_of({"--block", "1MiB,,2MiB"}), HasSubstr("--block"));
  EXPECT_THAT(error_of({"a", "b"}), HasSubstr("b is one word too many"));
}

TEST(Arguments, HelpNamesEveryFlag) {
  Options options;
  EXPECT_TRUE(parse({"--nonsense", "--help"}, options));
  EXPECT_TRUE(options.help);
  Arguments arguments("thing", "Does a thing.");
  arguments.app().add_option("--depth", options.depth, "how deep");
  const std::string help = arguments.help(true);
  for (const char* word : {"usage: thing", "Does a thing.", "--depth VALUE", "how deep", "--host-capacity"}) {
    EXPECT_THAT(help, HasSubstr(word));
  }
}

FioJob job() {
  return {.file = "dir/fio.data", .engine = "io_uring", .file_bytes = 1_GiB, .block_bytes = 2_MiB, .depth = 16};
}

TEST(Fio, IsAskedForTheSameAsWeMeasure) {
  FioJob read = job();
  read.duration = std::chrono::milliseconds(1500);
  EXPECT_THAT(fio_arguments(read),
              ::testing::IsSupersetOf({"--filename=dir/fio.data", "--rw=randread", "--bs=2097152", "--size=1073741824",
                                       "--iodepth=16", "--ioengine=io_uring", "--direct=1", "--runtime=1500ms"}));
  read.direction = DiskDirection::kWrite;
  EXPECT_THAT(fio_arguments(read), Contains("--rw=randwrite"));
}

TEST(Fio, WithoutATimeItWritesTheWholeFileOnce) {
  EXPECT_THAT(fio_arguments(job()), Contains("--rw=write"));
  EXPECT_THAT(fio_arguments(job()), Not(Contains("--time_based")));
}

constexpr const char* kFioOutput = R"(fio: a warning
{"jobs": [{"jobname": "bench", "usr_cpu": 1.5, "sys_cpu": 8.5,
  "read": {"io_bytes": 4000000000, "runtime": 2000, "total_ios": 2000},
  "write": {"io_bytes": 0, "runtime": 0, "total_ios": 0}}]})";

TEST(Fio, ItsAnswerIsRead) {
  const auto speed = read_fio_output(kFioOutput, DiskDirection::kRead);
  ASSERT_TRUE(speed) << speed.error().message;
  EXPECT_EQ(speed->blocks, 2000U);
  EXPECT_DOUBLE_EQ(speed->bytes_per_second(), 2e9);
  EXPECT_DOUBLE_EQ(speed->cpu_seconds_per_gigabyte(), 0.05);
}

TEST(Fio, AnAnswerThatIsNoneIsAnError) {
  EXPECT_FALSE(read_fio_output(kFioOutput, DiskDirection::kWrite)) << "nothing was written";
  EXPECT_FALSE(read_fio_output("fio: engine not loadable", DiskDirection::kRead));
  EXPECT_FALSE(read_fio_output("{}", DiskDirection::kRead));
  EXPECT_FALSE(read_fio_output(R"({"jobs": [{"read": {"io_bytes": "many"}}]})", DiskDirection::kRead));
}

TEST(ChildProcess, ItsOutputAndItsEnd) {
  const Words words = {"sh", "-c", "echo out; echo err >&2; exit 3"};
  const auto outcome = run_child(words, std::chrono::seconds(60), nullptr);
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->exit_status, 3);
  EXPECT_EQ(outcome->output, "out\nerr\n");
}

TEST(ChildProcess, OneThatIsNotThereIsSaidToBeMissing) {
  const auto outcome = run_child(Words{"tiercel-no-such-program"}, std::chrono::seconds(60), nullptr);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kNotFound);
}

TEST(ChildProcess, OneThatDoesNotEndIsKilled) {
  const Words words = {"sh", "-c", "read forever < /dev/zero"};
  const auto outcome = run_child(words, std::chrono::seconds(0), nullptr);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kTimeout);
  const std::atomic<bool> cancel{true};
  EXPECT_EQ(run_child(words, std::chrono::seconds(60), &cancel).error().code, ErrorCode::kClosed);
}

TEST(BenchDisk, TheBudgetFollowsTheBus) {
  EXPECT_DOUBLE_EQ(cpu_budget({.bus = "nvme"}), 0.15);
  EXPECT_DOUBLE_EQ(cpu_budget({.bus = "virtio"}), 0.3);
}

}  // namespace
}  // namespace tiercel::cli
