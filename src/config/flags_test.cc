// Goal: take_flags takes the cache's flags and nothing else, files first, and suggests the nearest of all flags.
#include <tiercel/config.h>

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

namespace tiercel {
namespace {

using Arguments = std::vector<std::string>;

Result<FlagsTaken> take(const Arguments& arguments, const Arguments& other = {"--model", "--port", "--help"}) {
  return take_flags(arguments, other);
}
std::string complaint(const Arguments& arguments) {
  const auto taken = take(arguments);
  return taken ? "accepted" : taken.error().message;
}

TEST(Flags, taken_out_of_a_larger_command_line) {
  const auto taken = take({"serve", "--model", "m.gguf", "--host-capacity", "16GiB", "-v", "--disk=/nvme/kv",
                           "--disk-capacity=200GiB", "--port=80", "--host-prefault", "false", "--help", "last"});
  ASSERT_TRUE(taken) << taken.error().message;
  EXPECT_EQ(taken->config.host.capacity, 16_GiB);
  EXPECT_EQ(taken->config.disk.directories, Arguments{"/nvme/kv"});
  EXPECT_EQ(taken->config.disk.capacity, 200_GiB);
  EXPECT_FALSE(taken->config.host.prefault);
  EXPECT_EQ(taken->rest, (Arguments{"serve", "--model", "m.gguf", "-v", "--port=80", "--help", "last"}));
}

TEST(Flags, aliases) {
  EXPECT_EQ(take({"--ram", "2GiB"}).value().config.host.capacity, 2_GiB);
  EXPECT_EQ(take({"--ram=2GiB"}).value().config.host.capacity, 2_GiB);
}

TEST(Flags, lists_by_comma_and_by_repetition) {
  const auto taken = take({"--disk", "/a,/b", "--disk-capacity", "1TiB", "--disk-directories=/c"});
  ASSERT_TRUE(taken) << taken.error().message;
  EXPECT_EQ(taken->config.disk.directories, (Arguments{"/a", "/b", "/c"}));
  EXPECT_EQ(complaint({"--disk", "/a,,/b", "--disk-capacity", "1TiB"}), "disk.directories[1]: is empty");
  EXPECT_EQ(complaint({"--disk=", "--disk-capacity", "1TiB"}), "disk.directories[0]: is empty");
}

TEST(Flags, nothing_is_taken_after_two_dashes) {
  const auto taken = take({"--ram", "2GiB", "--", "--ram", "--bogus"});
  ASSERT_TRUE(taken) << taken.error().message;
  EXPECT_EQ(taken->rest, (Arguments{"--", "--ram", "--bogus"}));
}

TEST(Flags, a_flag_is_never_a_value) {
  EXPECT_EQ(complaint({"--ram", "--disk", "/a"}), "--ram: needs a value, a byte count such as \"8GiB\"");
  EXPECT_EQ(complaint({"--config"}), "--config: needs a value, a file");
  EXPECT_EQ(take({"--disk=--odd", "--disk-capacity", "1TiB"}).value().config.disk.directories, Arguments{"--odd"});
}

TEST(Flags, a_boolean_may_stand_bare) {
  EXPECT_TRUE(take({"--disk-reset"}).value().config.disk.reset);
  EXPECT_TRUE(take({"--disk-reset", "true"}).value().config.disk.reset);
  EXPECT_FALSE(take({"--disk-reset", "false"}).value().config.disk.reset);
  EXPECT_FALSE(take({"--disk-reset=false"}).value().config.disk.reset);
  const auto taken = take({"--disk-reset", "serve", "--host-prefault", "--ram", "2GiB"});
  ASSERT_TRUE(taken) << taken.error().message;
  EXPECT_TRUE(taken->config.disk.reset);
  EXPECT_TRUE(taken->config.host.prefault);
  EXPECT_EQ(taken->config.host.capacity, 2_GiB);
  EXPECT_EQ(taken->rest, Arguments{"serve"});
  EXPECT_EQ(complaint({"--disk-reset="}), "disk.reset: \"\" is not true or false");
  EXPECT_EQ(complaint({"--disk-reset", "--disk-reset"}), "disk.reset: given twice; give --disk-reset once");
}

TEST(Flags, every_boolean_key_may_stand_bare) {
  const std::string help = flags_help();
  std::size_t booleans = 0;
  for (std::size_t at = help.find(" [true|false]"); at != std::string::npos; at = help.find(" [true|false]", at + 1)) {
    const std::size_t line = help.rfind('\n', at) + 1;
    const std::string flag = help.substr(help.find("--", line), at - help.find("--", line));
    EXPECT_EQ(complaint({flag}), "accepted") << flag;
    ++booleans;
  }
  EXPECT_GE(booleans, 3U);
}

TEST(Flags, unknown_ones_get_the_nearest_of_both_kinds) {
  EXPECT_EQ(complaint({"--disk", "/nvme/kv", "--disk-capacty", "10GB"}),
            "unknown option --disk-capacty; did you mean --disk-capacity?");
  EXPECT_EQ(complaint({"--modle=x"}), "unknown option --modle; did you mean --model?");
  EXPECT_EQ(complaint({"--confg", "x"}), "unknown option --confg; did you mean --config?");
  EXPECT_EQ(complaint({"--zebra-crossing"}), "unknown option --zebra-crossing");
  EXPECT_EQ(take({"--x"}).error().code, ErrorCode::kUnknownKey);
}

TEST(Flags, bad_values_name_the_key) {
  EXPECT_EQ(complaint({"--disk", "/nvme/kv", "--disk-capacity", "64MiB"}),
            "disk.capacity: 64MiB is below the smallest useful size, 128MiB (two extents)");
  EXPECT_EQ(complaint({"--ram", "8G"}),
            "host.capacity: \"8G\" has no known unit; valid units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB");
  EXPECT_EQ(complaint({"--ram", "-8GiB"}), "host.capacity: \"-8GiB\" is negative; a byte count is 0 or more");
  EXPECT_EQ(complaint({"--workers-threads", "3x"}), "workers.threads: \"3x\" is not a whole number");
  EXPECT_EQ(complaint({"--workers-threads", "99999999999999999999"}),
            "workers.threads: \"99999999999999999999\" is more than 64 bits can count");
  EXPECT_EQ(complaint({"--host-prefault", "yes"}), "host.prefault: \"yes\" is not true or false");
  EXPECT_EQ(complaint({"--host-prefault", "no"}), "host.prefault: \"no\" is not true or false");
  EXPECT_EQ(complaint({"--ram", "1GiB", "--host-capacity", "2GiB"}),
            "host.capacity: given twice; give --host-capacity once");
}

TEST(Flags, go_before_files_whatever_the_order) {
  std::string path = (std::filesystem::temp_directory_path() / "tiercel_flags_XXXXXX").string();
  const int fd = ::mkstemp(path.data());
  ASSERT_GE(fd, 0);
  ::close(fd);
  std::ofstream(path) << "host.capacity = \"1GiB\"\nworkers.threads = 7\ndisk.directories = [\"/a\"]\n";
  const auto taken = take({"--ram", "2GiB", "--disk-capacity", "1TiB", "--config", path});
  std::filesystem::remove(path);
  ASSERT_TRUE(taken) << taken.error().message;  // a file may leave to a flag what it lacks
  EXPECT_EQ(taken->config.host.capacity, 2_GiB);
  EXPECT_EQ(taken->config.workers.threads, 7U);
  EXPECT_EQ(taken->config.disk.directories, Arguments{"/a"});
  EXPECT_EQ(complaint({"--config", "/no/such/file"}), "/no/such/file: cannot be opened: No such file or directory");
}

TEST(Flags, help_names_every_flag_once) {
  const std::string help = flags_help();
  for (const char* flag :
       {"--config FILE", "--host-capacity BYTES", "also --ram", "--disk-directories DIR[,DIR...]",
        "--host-prefault [true|false]", "--host-huge-pages auto|off|require", "[64MiB]", "[10min]"}) {
    EXPECT_NE(help.find(flag), std::string::npos) << flag << "\n" << help;
  }
}

}  // namespace
}  // namespace tiercel
