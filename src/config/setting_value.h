// Values of settings as text: read, written, checked against their range, described.
//
// Pure functions. Errors are sentences about the value that begin with the setting's key.
#pragma once

#include "config/setting.h"

#include <tiercel/result.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace tiercel::config {

/// What `setting` takes, for a person: `a byte count such as "8GiB"`.
[[nodiscard]] std::string needs(const Setting& setting);

/// Which numbers it takes: "2MiB to 1GiB, in steps of 2MiB".
[[nodiscard]] std::string valid_values(const Setting& setting);

/// The number that `text` writes; its range is not checked. kInvalidArgument: not of the setting's kind.
[[nodiscard]] Result<std::uint64_t> parse_number(const Setting& setting, std::string_view text);

/// The text that parse_number reads back as `number`.
[[nodiscard]] std::string format_number(const Setting& setting, std::uint64_t number);

/// Is the number in the setting's range?
[[nodiscard]] Status check_number(const Setting& setting, std::uint64_t number);

/// Is this list of the length and made of strings that the setting takes?
[[nodiscard]] Status check_list(const Setting& setting, const std::vector<std::string>& list);

/// Is this text of the length that the setting takes?
[[nodiscard]] Status check_text(const Setting& setting, std::string_view text);

/// The default of a setting, for a person.
[[nodiscard]] std::string default_of(const Setting& setting);

/// An error about a setting: "KEY: message".
[[nodiscard]] tl::unexpected<Error> complain(const Setting& setting, std::string_view message);

/// Foreign text as it may stand in an error: at most 80 bytes, control characters and broken UTF-8 as '?'.
[[nodiscard]] std::string shown(std::string_view text);

/// UTF-8 without control characters?
[[nodiscard]] bool is_plain_text(std::string_view text) noexcept;

/// "250ms", "10s", "5min", "1h" -> milliseconds.
[[nodiscard]] Result<std::uint64_t> parse_milliseconds(std::string_view text);

/// The largest unit that is exact: 600000 -> "10min".
[[nodiscard]] std::string format_milliseconds(std::uint64_t milliseconds);

}  // namespace tiercel::config
