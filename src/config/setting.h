// The table of settings: every key of Config once, with what it means and which values it takes.
//
// TOML, flags, help text, range checks and docs/configuration.md are all driven by this table; a new setting is one
// row in setting.cc. Plain constant data, safe from any thread.
//
// A setting is a text, a list of texts or one number: bytes, counts, percentages, milliseconds, booleans (0 and 1) and
// choices (their index) all travel as a std::uint64_t, so that one reader and one check serve them all.
#pragma once

#include <tiercel/config.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::config {

enum class ValueKind : std::uint8_t { kBytes, kCount, kPercent, kMilliseconds, kBoolean, kChoice, kList, kText };

/// The numbers that a setting takes: [low, high] in multiples of `step`, and 0 besides if `zero` says what it means.
struct Range {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  std::uint64_t step = 1;
  std::string_view zero = {};
};

struct Setting {
  std::string_view key = {};    ///< "host.capacity"
  std::string_view alias = {};  ///< "--ram", or empty
  ValueKind kind = ValueKind::kCount;
  Range range = {};  ///< of a list: how many entries; of a text: how many bytes
  std::span<const std::string_view> choices = {};
  std::string_view meaning = {};
  std::string_view form = {};  ///< of a text and of a list's entries, in help: "ADDRESS:PORT"
  FlagScope scope = FlagScope::kCache;
  bool live = false;  ///< `tiercel serve` takes a change over while it runs (`tiercel reload`)
  // One of the three forms: a number, a list, or a text.
  std::uint64_t (*number)(const Config&) = nullptr;
  void (*set_number)(Config&, std::uint64_t) = nullptr;
  std::vector<std::string>& (*list)(Config&) = nullptr;
  std::string& (*text)(Config&) = nullptr;
};

[[nodiscard]] std::span<const Setting> settings() noexcept;

/// The setting of a key, or null.
[[nodiscard]] const Setting* find_setting(std::string_view key) noexcept;

/// Its place in settings().
[[nodiscard]] std::size_t index_of(const Setting& setting) noexcept;

/// "host.min_slot_bytes" -> "--host-min-slot-bytes"
[[nodiscard]] std::string flag_of(const Setting& setting);

/// "host.capacity" -> "host"
[[nodiscard]] std::string_view table_of(const Setting& setting) noexcept;

/// The text of a constant Config.
[[nodiscard]] const std::string& text_of(const Setting& setting, const Config& config);

/// Writes the value that `from` has into `to`.
void copy_value(const Setting& setting, const Config& from, Config& to);

/// The list of a constant Config.
[[nodiscard]] const std::vector<std::string>& list_of(const Setting& setting, const Config& config);

}  // namespace tiercel::config
