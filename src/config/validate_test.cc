// Goal: validate() refuses every value out of range and every impossible combination, in a sentence that names the key,
// the value and what would be valid.
#include <tiercel/config.h>

#include <gtest/gtest.h>

namespace tiercel {
namespace {

std::string verdict(const Config& config) {
  const auto status = validate(config);
  return status ? "valid" : status.error().message;
}

TEST(Validate, defaults_and_a_usual_disk_are_valid) {
  EXPECT_EQ(verdict({}), "valid");
  EXPECT_EQ(verdict({.disk = {.directories = {"/nvme/kv"}, .capacity = 200_GiB}}), "valid");
  EXPECT_EQ(verdict({.disk = {.directories = {"/a"}, .capacity = 128_MiB}}), "valid");
  EXPECT_EQ(verdict({.host = {.capacity = 128_MiB}}), "valid");
}

TEST(Validate, disk_too_small) {
  EXPECT_EQ(verdict({.disk = {.directories = {"/nvme/kv"}, .capacity = 64_MiB}}),
            "disk.capacity: 64MiB is below the smallest useful size, 128MiB (two extents)");
  EXPECT_EQ(verdict({.disk = {.directories = {"/a"}, .capacity = 128_MiB - 1}}),
            "disk.capacity: 134217727 is below the smallest useful size, 128MiB (two extents)");
  EXPECT_EQ(verdict({.disk = {.directories = {"/a", "/b", "/c"}, .capacity = 128_MiB}}),
            "disk.capacity: 128MiB is below the smallest useful size, 192MiB (3 extents, one a directory)");
}

TEST(Validate, disk_by_halves) {
  EXPECT_EQ(verdict({.disk = {.directories = {"/nvme/kv"}}}),
            "disk.capacity: missing; disk.directories needs it, for example \"200GiB\"");
  EXPECT_EQ(verdict({.disk = {.capacity = 200_GiB}}),
            "disk.directories: missing; disk.capacity needs at least one directory");
}

TEST(Validate, directories) {
  EXPECT_EQ(verdict({.disk = {.directories = {"/a", ""}, .capacity = 1_GiB}}), "disk.directories[1]: is empty");
  EXPECT_EQ(verdict({.disk = {.directories = {"/a", "/b", "/a"}, .capacity = 1_GiB}}),
            "disk.directories[2]: \"/a\" is also [0]; name it once");
  EXPECT_EQ(verdict({.disk = {.directories = {std::string("/a\0b", 4)}, .capacity = 1_GiB}}),
            "disk.directories[0]: has a zero byte in it");
  EXPECT_EQ(verdict({.disk = {.directories = std::vector<std::string>(65, "/a"), .capacity = 1_TiB}}),
            "disk.directories: 65 entries; valid: 0 to 64 strings");
}

TEST(Validate, slots_and_extents) {
  EXPECT_EQ(verdict({.host = {.min_slot_bytes = 32_MiB}}),
            "host.min_slot_bytes: 32MiB must be at most a quarter of host.extent_bytes (64MiB), 16MiB");
  EXPECT_EQ(verdict({.host = {.extent_bytes = 3_MiB}}),
            "host.extent_bytes: 3MiB is out of range; valid: 2MiB to 1GiB, in steps of 2MiB");
  EXPECT_EQ(verdict({.host = {.extent_bytes = 0}}),
            "host.extent_bytes: 0 is out of range; valid: 2MiB to 1GiB, in steps of 2MiB");
  EXPECT_EQ(verdict({.host = {.min_slot_bytes = 0}}),
            "host.min_slot_bytes: 0 is out of range; valid: 4KiB to 256MiB, in steps of 4KiB");
  EXPECT_EQ(verdict({.host = {.capacity = 32_MiB}}),
            "host.capacity: 32MiB is below the smallest useful size, 128MiB (two extents)");
  EXPECT_EQ(verdict({.host = {.capacity = 65_TiB}}),
            "host.capacity: 65TiB is out of range; valid: 4MiB to 64TiB, or 0");
}

TEST(Validate, index_that_capacities_overflow) {
  Config config{.host = {.capacity = 64_TiB, .extent_bytes = 2_MiB, .min_slot_bytes = 4_KiB}};
  EXPECT_EQ(
      verdict(config),
      "index.blocks: the capacities in slots of host.min_slot_bytes (4KiB) make 17179869184 blocks, more than the "
      "index can hold, 2147483648; set index.blocks or raise host.min_slot_bytes");
  config.index.blocks = 1'000'000;
  EXPECT_EQ(verdict(config), "valid");
}

TEST(Validate, values_that_only_a_program_can_set) {
  Config config;
  config.host.huge_pages = static_cast<HugePages>(9);
  EXPECT_EQ(verdict(config), "host.huge_pages: 9 is out of range; valid: one of auto, off, require");
  config = {.limits = {.pin_max_ttl = std::chrono::milliseconds{-5}}};
  EXPECT_EQ(verdict(config), "limits.pin_max_ttl: a negative time is out of range; valid: 1ms to 168h");
  config = {.limits = {.pinned_percent = 101}};
  EXPECT_EQ(verdict(config), "limits.pinned_percent: 101% is out of range; valid: 0% to 100%");
  config = {.limits = {.sessions = 0}};
  EXPECT_EQ(verdict(config), "limits.sessions: 0 is out of range; valid: 1 to 65536");
}

}  // namespace
}  // namespace tiercel
