// Goal: the table of settings is sound: names are unique, defaults are valid, ranges fit the fields they are written
// to, and every setting survives being written as text and read back, through TOML and through flags alike.
#include "config/setting.h"

#include "config/setting_value.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>

namespace tiercel::config {
namespace {

TEST(Settings, names_are_unique) {
  std::set<std::string> flags;
  for (const Setting& setting : settings()) {
    EXPECT_TRUE(flags.insert(flag_of(setting)).second) << setting.key;
    if (!setting.alias.empty()) {
      EXPECT_TRUE(flags.insert(std::string(setting.alias)).second) << setting.key;
    }
    EXPECT_EQ(find_setting(setting.key), &setting);
    EXPECT_FALSE(setting.meaning.empty()) << setting.key;
    EXPECT_EQ((setting.number != nullptr) + (setting.list != nullptr) + (setting.text != nullptr), 1) << setting.key;
    EXPECT_EQ(setting.form.empty(), setting.number != nullptr) << setting.key;
  }
  EXPECT_TRUE(flags.contains("--host-capacity"));
  EXPECT_TRUE(flags.contains("--ram"));
  EXPECT_TRUE(flags.contains("--disk-directories"));
  EXPECT_TRUE(flags.contains("--disk"));
  EXPECT_TRUE(flags.contains("--disk-capacity"));
  EXPECT_TRUE(flags.contains("--host-min-slot-bytes"));
  EXPECT_EQ(find_setting("host"), nullptr);
}

TEST(Settings, every_range_fits_its_field) {
  for (const Setting& setting : settings()) {
    if (setting.number == nullptr) continue;
    Config config;
    EXPECT_TRUE(check_number(setting, setting.number(config))) << setting.key;
    for (const std::uint64_t number : {setting.range.low, setting.range.high}) {
      setting.set_number(config, number);
      EXPECT_EQ(setting.number(config), number) << setting.key;
      EXPECT_TRUE(check_number(setting, number)) << setting.key;
    }
    EXPECT_FALSE(check_number(setting, setting.range.high + 1)) << setting.key;
    if (setting.range.low > 1) {
      EXPECT_FALSE(check_number(setting, setting.range.low - 1)) << setting.key;
    }
  }
}

bool equal(const Setting& setting, const Config& a, const Config& b) {
  if (setting.list != nullptr) return list_of(setting, a) == list_of(setting, b);
  if (setting.text != nullptr) return text_of(setting, a) == text_of(setting, b);
  return setting.number(a) == setting.number(b);
}

TEST(Settings, each_writes_a_field_of_its_own) {
  for (const Setting& written : settings()) {
    Config config;
    if (written.list != nullptr) {
      written.list(config) = {"/x"};
    } else if (written.text != nullptr) {
      written.text(config) = "127.0.0.1:1";
    } else {
      written.set_number(config, written.number(config) == written.range.high ? written.range.low : written.range.high);
    }
    for (const Setting& other : settings()) {
      EXPECT_EQ(equal(other, config, Config{}), &other != &written) << written.key << " and " << other.key;
    }
  }
}

/// A valid Config drawn over every row of the table.
Config any_config() {
  Config config;
  for (const Setting& setting : settings()) {
    if (setting.number == nullptr) continue;
    const Range& range = setting.range;
    const auto steps = (range.high - range.low) / range.step;
    setting.set_number(config, range.low + range.step * *rc::gen::inRange<std::uint64_t>(0, steps + 1));
  }
  config.host.min_slot_bytes = 4_KiB * *rc::gen::inRange<std::uint64_t>(1, config.host.extent_bytes / 4 / 4_KiB + 1);
  config.host.capacity =
      *rc::gen::element<std::uint64_t>(0, 2 * config.host.extent_bytes, 7 * config.host.extent_bytes);
  for (std::size_t i = *rc::gen::inRange<std::size_t>(0, 4); i > 0; --i) {
    config.disk.directories.push_back("/disk " + std::to_string(i));
  }
  const bool disk = !config.disk.directories.empty();
  config.disk.capacity = disk ? (config.disk.directories.size() + 1) * config.host.extent_bytes : 0;
  config.http.streams = *rc::gen::inRange<std::uint32_t>(1, config.http.connections);
  config.http.streams = std::min<std::uint32_t>(config.http.streams, 1'024);
  config.http.listen = *rc::gen::element<std::string>("", "[::1]:0", "127.0.0.1:9800");
  config.metrics.listen = *rc::gen::element<std::string>("", "0.0.0.0:9801");
  return config;
}

void same_config(const Config& a, const Config& b) {
  for (const Setting& setting : settings()) {
    RC_ASSERT(equal(setting, a, b));
  }
}

RC_GTEST_PROP(Settings, survive_toml_and_flags, ()) {
  const Config config = any_config();
  RC_ASSERT(validate(config).has_value());
  std::string toml;
  std::vector<std::string> flags = {"serve"};
  for (const Setting& setting : settings()) {
    toml += std::string(setting.key) + " = ";
    if (setting.list != nullptr) {
      toml += '[';
      for (const std::string& entry : list_of(setting, config)) {
        toml += '"' + entry + "\",";
        flags.insert(flags.end(), {flag_of(setting), entry});
      }
      toml += "]\n";
      continue;
    }
    if (setting.text != nullptr) {
      toml += '"' + text_of(setting, config) + "\"\n";
      flags.push_back(flag_of(setting) + "=" + text_of(setting, config));
      continue;
    }
    const std::string text = format_number(setting, setting.number(config));
    const bool bare = setting.kind == ValueKind::kCount || setting.kind == ValueKind::kBoolean;
    toml += bare ? text + "\n" : '"' + text + "\"\n";
    flags.push_back(flag_of(setting) + "=" + text);
  }
  same_config(config, parse_toml(toml).value());
  const auto taken = take_flags(flags, {}, {}, FlagScope::kService);
  same_config(config, taken.value().config);
  RC_ASSERT(taken->rest == std::vector<std::string>{"serve"});
}

}  // namespace
}  // namespace tiercel::config
