// Goal: TOML is read into a Config whole, or answered with a sentence that names the place, the key and what is valid.
#include <tiercel/config.h>

#include <gtest/gtest.h>

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>

namespace tiercel {
namespace {

std::string complaint(std::string_view text) {
  const auto config = parse_toml(text, "/etc/tiercel.toml");
  return config ? "accepted" : config.error().message;
}

TEST(Toml, every_form_of_value) {
  const auto config = parse_toml(R"(
    [host]
    capacity = "256GiB"
    huge_pages = "require"
    prefault = false
    min_slot_bytes = 131072
    [disk]
    directories = ["/nvme0/kv", "/nvme1/kv"]
    capacity = "4TiB"
    [limits]
    pinned_percent = "50%"
    pin_max_ttl = "10s"
    [integrity]
    mode = "paranoid"
    [workers]
    threads = 3
  )");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->host.capacity, 256_GiB);
  EXPECT_EQ(config->host.huge_pages, HugePages::kRequire);
  EXPECT_FALSE(config->host.prefault);
  EXPECT_EQ(config->host.min_slot_bytes, 128_KiB);
  EXPECT_EQ(config->disk.directories, (std::vector<std::string>{"/nvme0/kv", "/nvme1/kv"}));
  EXPECT_EQ(config->disk.capacity, 4_TiB);
  EXPECT_EQ(config->limits.pinned_percent, 50U);
  EXPECT_EQ(config->limits.pin_max_ttl, std::chrono::seconds{10});
  EXPECT_EQ(config->integrity.mode, IntegrityMode::kParanoid);
  EXPECT_EQ(config->workers.threads, 3U);
}

TEST(Toml, nothing_said_keeps_the_base) {
  EXPECT_EQ(parse_toml("").value().host.extent_bytes, 64_MiB);
  const Config base{.host = {.capacity = 8_GiB}, .workers = {.threads = 2}};
  const auto config = parse_toml("workers.threads = 1", "<text>", base);
  EXPECT_EQ(config.value().host.capacity, 8_GiB);
  EXPECT_EQ(config.value().workers.threads, 1U);
}

TEST(Toml, unknown_keys) {
  const auto config = parse_toml("[disk]\ncapacty = 1", "/etc/tiercel.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, ErrorCode::kUnknownKey);
  EXPECT_EQ(config.error().message, "/etc/tiercel.toml:2: unknown key disk.capacty; did you mean disk.capacity?");
  EXPECT_EQ(complaint("[hots]\ncapacity = 1"), "/etc/tiercel.toml:1: unknown key hots; did you mean host?");
  EXPECT_EQ(complaint("zebra = 1"), "/etc/tiercel.toml:1: unknown key zebra");
  EXPECT_EQ(complaint("\"host.capacty\" = 1"),
            "/etc/tiercel.toml:1: unknown key host.capacty; did you mean host.capacity?");
  EXPECT_EQ(complaint("\"host.capacity\" = 1"),
            "/etc/tiercel.toml:1: unknown key \"host.capacity\"; write it without quotes");
  EXPECT_EQ(complaint("\"\" = 1"), "/etc/tiercel.toml:1: unknown key \"\"");
}

TEST(Toml, wrong_types) {
  EXPECT_EQ(complaint("\n\nhost.capacity = 1.5"),
            "/etc/tiercel.toml:3: host.capacity: needs a byte count such as \"8GiB\", not a number with a point");
  EXPECT_EQ(complaint("[host.capacity]\nx = 1"),
            "/etc/tiercel.toml:1: host.capacity: needs a byte count such as \"8GiB\", not a table");
  EXPECT_EQ(complaint("host = 3"), "/etc/tiercel.toml:1: host: is a table of settings, not a whole number");
  EXPECT_EQ(complaint("[[host]]\ncapacity = 1"), "/etc/tiercel.toml:1: host: is a table of settings, not a list");
  EXPECT_EQ(complaint("host.prefault = \"yes\""),
            "/etc/tiercel.toml:1: host.prefault: needs true or false, not a string");
  EXPECT_EQ(complaint("host.prefault = 1"),
            "/etc/tiercel.toml:1: host.prefault: needs true or false, not a whole number");
  EXPECT_EQ(complaint("workers.threads = true"),
            "/etc/tiercel.toml:1: workers.threads: needs a whole number, not true or false");
  EXPECT_EQ(complaint("workers.threads = \"3\""),
            "/etc/tiercel.toml:1: workers.threads: needs a whole number, not a string");
  EXPECT_EQ(complaint("host.arena = 1"),
            "/etc/tiercel.toml:1: host.arena: needs one of anonymous, memfd, not a whole number");
  EXPECT_EQ(complaint("disk.directories = \"/a\""),
            "/etc/tiercel.toml:1: disk.directories: needs a list of strings, not a string");
  EXPECT_EQ(complaint("disk.directories = [\"/a\",\n3]"),
            "/etc/tiercel.toml:2: disk.directories[1]: needs a string, not a whole number");
  EXPECT_EQ(complaint("limits.pin_max_ttl = 1979-05-27"),
            "/etc/tiercel.toml:1: limits.pin_max_ttl: needs a time such as \"200ms\", not a date or time");
}

TEST(Toml, wrong_values) {
  EXPECT_EQ(complaint("host.capacity = -1"), "/etc/tiercel.toml:1: host.capacity: -1 is negative");
  EXPECT_EQ(complaint("host.capacity = \"8G\""),
            "/etc/tiercel.toml:1: host.capacity: \"8G\" has no known unit; valid units: B, KB, MB, GB, TB, KiB, MiB, "
            "GiB, TiB");
  EXPECT_EQ(complaint("limits.pin_max_ttl = 600"),
            "/etc/tiercel.toml:1: limits.pin_max_ttl: 600 has no unit; write \"600ms\" or \"600s\"");
  EXPECT_EQ(complaint("host.huge_pages = \"of\""),
            "/etc/tiercel.toml:1: host.huge_pages: \"of\" is not one of auto, off, require; did you mean off?");
  EXPECT_EQ(complaint("limits.sessions = 5000000000"),
            "/etc/tiercel.toml:1: limits.sessions: 5000000000 is out of range; valid: 1 to 65536");
  EXPECT_EQ(complaint("disk.directories = [\"/a\", \"/a\"]"),
            "/etc/tiercel.toml:1: disk.directories[1]: \"/a\" is also [0]; name it once");
}

TEST(Toml, combinations_name_the_line_of_the_key_to_change) {
  EXPECT_EQ(complaint("[disk]\ndirectories = [\"/nvme/kv\"]\ncapacity = \"64MiB\""),
            "/etc/tiercel.toml:3: disk.capacity: 64MiB is below the smallest useful size, 128MiB (two extents)");
  EXPECT_EQ(complaint("[host]\nextent_bytes = \"2MiB\"\nmin_slot_bytes = \"1MiB\""),
            "/etc/tiercel.toml:3: host.min_slot_bytes: 1MiB must be at most a quarter of host.extent_bytes (2MiB), "
            "512KiB");
  EXPECT_EQ(complaint("disk.capacity = \"1GiB\""),
            "disk.directories: missing; disk.capacity needs at least one directory");
}

// toml++ 3.3 declares these characters unreachable outside strings; the sanitizer builds of this test see it.
TEST(Toml, letters_beyond_ascii_where_a_value_should_be) {
  for (const char* letter : {"\u00e9", "\u3042", "\ufe70", "\u1683"}) {
    EXPECT_NE(complaint("host.capacity = " + std::string(letter)), "accepted") << letter;
    EXPECT_NE(complaint("host.capacity = 1" + std::string(letter)), "accepted") << letter;
    EXPECT_EQ(complaint("# " + std::string(letter)), "accepted") << letter;
  }
}

TEST(Toml, broken_text) {
  EXPECT_TRUE(complaint("[host]\ncapacity = ").starts_with("/etc/tiercel.toml:2: "))
      << complaint("[host]\ncapacity = ");
  const std::string twice = complaint("[host]\ncapacity = 1\ncapacity = 2");
  EXPECT_TRUE(twice.starts_with("/etc/tiercel.toml:3: ")) << twice;
  EXPECT_NE(twice.find("capacity"), std::string::npos) << twice;
  EXPECT_NE(complaint("\xff\xfe"), "accepted");
  EXPECT_NE(complaint(std::string(5000, '[')), "accepted");
  EXPECT_NE(complaint("host.capacity = 99999999999999999999"), "accepted");
}

class TomlFile : public testing::Test {
 protected:
  std::string write(const std::string& name, std::string_view text) {
    const std::string path = (directory_ / name).string();
    std::ofstream(path) << text;
    return path;
  }
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel_toml_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::filesystem::path directory_;
};

TEST_F(TomlFile, read_and_named_in_errors) {
  EXPECT_EQ(load_config_file(write("good.toml", "host.capacity = \"1GiB\"")).value().host.capacity, 1_GiB);
  const std::string bad = write("bad.toml", "\nhost.capacity = true");
  EXPECT_EQ(load_config_file(bad).error().message,
            bad + ":2: host.capacity: needs a byte count such as \"8GiB\", not true or false");
}

TEST_F(TomlFile, files_that_cannot_be_read) {
  const auto missing = load_config_file("/no/such/file.toml");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(missing.error().os_error, ENOENT);
  EXPECT_EQ(missing.error().message, "/no/such/file.toml: cannot be opened: No such file or directory");
  EXPECT_EQ(load_config_file(directory_.string()).error().message, directory_.string() + ": is not a regular file");
  const std::string large = write("large.toml", std::string(1_MiB + 1, '#'));
  EXPECT_EQ(load_config_file(large).error().message,
            large + ": is larger than 1MiB, the most that a configuration may be");
}

}  // namespace
}  // namespace tiercel
