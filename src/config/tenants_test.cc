// Goal: `[tenants.NAME]` is read as it is written, and what cannot be is refused in a sentence that names the key, the
// value and what would be valid.
#include "config/tenants.h"

#include <gtest/gtest.h>

namespace tiercel::config {
namespace {

std::string complaint(const std::string& toml) {
  const auto config = parse_toml(toml, "f");
  return config ? "valid" : config.error().message;
}

TEST(Tenants, percentages_and_bytes) {
  const auto config = parse_toml(R"(
[tenants.search]
host_guarantee = "20%"
host_cap = "50%"
disk_guarantee = "1GiB"
disk_cap = 4294967296
[tenants.default]
pinned_cap = "0%"
[tenants."two words"]
)");
  ASSERT_TRUE(config) << config.error().message;
  ASSERT_EQ(config->tenants.size(), 3U);
  const TenantConfig& search = config->tenants.at("search");
  EXPECT_EQ(search.host_guarantee, TierShare::of_percent(20));
  EXPECT_EQ(search.host_cap, TierShare::of_percent(50));
  EXPECT_EQ(search.disk_guarantee, TierShare::of_bytes(1_GiB));
  EXPECT_EQ(search.disk_cap, TierShare::of_bytes(4_GiB));
  EXPECT_EQ(search.pinned_cap, TierShare::of_percent(100));
  EXPECT_EQ(config->tenants.at("default").pinned_cap, TierShare::of_percent(0));
  EXPECT_EQ(config->tenants.at("two words"), TenantConfig{});
}

TEST(Tenants, shares_in_bytes) {
  EXPECT_EQ(TierShare::of_percent(20).bytes_of(1000), 200U);
  EXPECT_EQ(TierShare::of_percent(100).bytes_of(UINT64_MAX), UINT64_MAX);
  EXPECT_EQ(TierShare::of_percent(33).bytes_of(10), 3U);
  EXPECT_EQ(TierShare::of_bytes(7).bytes_of(1000), 7U);
}

TEST(Tenants, unknown_keys_and_wrong_types) {
  EXPECT_EQ(complaint("[tenants.search]\nhost_cpa = \"50%\""),
            "f:2: unknown key tenants.search.host_cpa; did you mean host_cap?");
  EXPECT_EQ(complaint("[tenant.search]\nhost_cap = \"50%\""), "f:1: unknown key tenant; did you mean tenants?");
  EXPECT_EQ(complaint("tenants = 3"), "f:1: tenants: is a table of tenants, not a whole number");
  EXPECT_EQ(complaint("[tenants]\nsearch = 3"),
            "f:2: tenants.search: is a table of a tenant's settings, not a whole number");
  EXPECT_EQ(complaint("[tenants.search]\nhost_cap = true"),
            "f:2: tenants.search.host_cap: needs a percentage of the tier such as \"20%\", or a byte count such as "
            "\"8GiB\", not true or false");
  EXPECT_EQ(complaint("[tenants.search]\nhost_cap = \"much\""),
            "f:2: tenants.search.host_cap: needs a percentage of the tier such as \"20%\", or a byte count such as "
            "\"8GiB\", not \"much\"");
  EXPECT_EQ(complaint("[tenants.search]\nhost_cap = -1"), "f:2: tenants.search.host_cap: -1 is negative");
  EXPECT_EQ(complaint("[tenants.search]\nhost_cap = \"101%\""),
            "f:2: tenants.search.host_cap: \"101%\" is not a whole percentage from 0% to 100%");
  EXPECT_EQ(complaint("[tenants.\"(other)\"]\n"),
            "f:1: tenants.\"(other)\": no name of a tenant; valid is text of 1 to 128 bytes without control characters "
            "that does not begin with \"(\"");
}

TEST(Tenants, cap_below_guarantee) {
  EXPECT_EQ(complaint("[tenants.search]\nhost_guarantee = \"20%\"\nhost_cap = \"10%\""),
            "f:3: tenants.search.host_cap: 10% is below host_guarantee, 20%; raise the cap or lower the guarantee");
  EXPECT_EQ(complaint("[host]\ncapacity = \"1GiB\"\n[tenants.search]\nhost_guarantee = \"20%\"\nhost_cap = \"100MiB\""),
            "f:5: tenants.search.host_cap: 100MiB is below host_guarantee, 20%; raise the cap or lower the guarantee");
  EXPECT_EQ(complaint("[disk]\ndirectories = [\"/a\"]\ncapacity = \"1GiB\"\n"
                      "[tenants.a]\ndisk_guarantee = \"2GiB\""),
            "f:4: tenants.a.disk_cap: 100% is below disk_guarantee, 2GiB; raise the cap or lower the guarantee");
  EXPECT_EQ(complaint("[tenants.search]\nhost_guarantee = \"20%\"\nhost_cap = \"20%\""), "valid");
}

TEST(Tenants, guarantees_promise_no_byte_twice) {
  EXPECT_EQ(complaint("[tenants.a]\nhost_guarantee = \"60%\"\n[tenants.b]\nhost_guarantee = \"40%\""), "valid");
  EXPECT_EQ(
      complaint("[tenants.a]\nhost_guarantee = \"60%\"\n[tenants.b]\nhost_guarantee = \"41%\""),
      "f:4: tenants.b.host_guarantee: with 41% the guarantees of all tenants are 101% of the host tier; lower one "
      "of them");
  EXPECT_EQ(complaint("[host]\ncapacity = \"1GiB\"\n[tenants.a]\nhost_guarantee = \"60%\"\n[tenants.b]\n"
                      "host_guarantee = \"512MiB\""),
            "f:6: tenants.b.host_guarantee: with 512MiB the guarantees of all tenants are 1181116006, more than the "
            "host tier has, 1GiB; lower one of them");
  EXPECT_EQ(
      complaint("[tenants.a]\ndisk_guarantee = \"60%\"\n[tenants.b]\ndisk_guarantee = \"41%\""),
      "f:4: tenants.b.disk_guarantee: with 41% the guarantees of all tenants are 101% of the disk tier; lower one "
      "of them");
}

TEST(Tenants, programs_are_checked_like_files) {
  Config config;
  config.tenants["a"].host_cap = TierShare::of_percent(101);
  EXPECT_EQ(validate(config).error().message, "tenants.a.host_cap: 101% is outside 0% to 100%");
  config.tenants["a"].host_cap = TierShare::of_bytes(UINT64_MAX);
  EXPECT_EQ(validate(config).error().message,
            "tenants.a.host_cap: 18446744073709551615 is more than 1024TiB, the largest size of a tier");
  config.tenants["a"] = {};
  config.tenants["\n"] = {};
  EXPECT_NE(validate(config).error().message.find("tenants.\"?\": no name of a tenant"), std::string::npos);
  config.tenants.erase("\n");
  config.tenants["b"] = {};
  config.limits.tenants = 1;
  EXPECT_EQ(validate(config).error().message, "limits.tenants: 1 is below the 2 tenants that have settings");
}

}  // namespace
}  // namespace tiercel::config
