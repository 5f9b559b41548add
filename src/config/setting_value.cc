#include "config/setting_value.h"

#include "base/try.h"
#include "config/nearest.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

namespace tiercel::config {
namespace {

struct TimeUnit {
  std::string_view name;
  std::uint64_t milliseconds;
};
constexpr std::array kTimeUnits = {TimeUnit{"h", 3'600'000}, TimeUnit{"min", 60'000}, TimeUnit{"s", 1'000},
                                   TimeUnit{"ms", 1}};
constexpr std::size_t kMostShown = 80;

tl::unexpected<Error> invalid(std::string message) { return fail(ErrorCode::kInvalidArgument, std::move(message)); }

/// Digits only, the whole text. kInvalidArgument says what is wrong, without naming a key.
Result<std::uint64_t> parse_whole(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range) {
    return invalid(fmt::format("\"{}\" is more than 64 bits can count", shown(text)));
  }
  if (error != std::errc{} || end != text.data() + text.size()) {
    return invalid(text.starts_with('-') ? fmt::format("\"{}\" is negative", shown(text))
                                         : fmt::format("\"{}\" is not a whole number", shown(text)));
  }
  return number;
}

Result<std::uint64_t> parse_choice(const Setting& setting, std::string_view text) {
  const auto found = std::ranges::find(setting.choices, text);
  if (found != setting.choices.end()) return static_cast<std::uint64_t>(found - setting.choices.begin());
  const std::vector<std::string> names(setting.choices.begin(), setting.choices.end());
  return invalid(
      fmt::format("\"{}\" is not one of {}{}", shown(text), fmt::join(names, ", "), did_you_mean(text, names)));
}

Result<std::uint64_t> parse_kind(const Setting& setting, std::string_view text) {
  switch (setting.kind) {
    case ValueKind::kBytes:
      return parse_bytes(text);
    case ValueKind::kCount:
      return parse_whole(text);
    case ValueKind::kPercent:
      return parse_whole(text.ends_with('%') ? text.substr(0, text.size() - 1) : text);
    case ValueKind::kMilliseconds:
      return parse_milliseconds(text);
    case ValueKind::kChoice:
      return parse_choice(setting, text);
    case ValueKind::kBoolean:
      if (text == "true" || text == "false") return std::uint64_t{text == "true" ? 1U : 0U};
      return invalid(fmt::format("\"{}\" is not true or false", shown(text)));
    case ValueKind::kList:
    case ValueKind::kText:
      break;
  }
  return invalid("is not a number");
}

/// How many bytes of well-formed UTF-8 begin `text`: 1 for ASCII, 0 if it does not begin with any.
std::size_t utf8_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  const std::size_t length = lead < 0x80    ? 1
                             : lead >= 0xF5 ? 0
                             : lead >= 0xF0 ? 4
                             : lead >= 0xE0 ? 3
                             : lead >= 0xC2 ? 2
                                            : 0;
  if (length == 0 || text.size() < length) return 0;
  const bool continued = std::ranges::all_of(text.substr(1, length - 1),
                                             [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; });
  return continued ? length : 0;
}

/// Of the first character of `text`, which is `length` bytes long.
bool is_control(std::string_view text, std::size_t length) {
  return length == 1 && (static_cast<unsigned char>(text[0]) < 0x20U || text[0] == 0x7F);
}

}  // namespace

std::string needs(const Setting& setting) {
  switch (setting.kind) {
    case ValueKind::kBytes:
      return "a byte count such as \"8GiB\"";
    case ValueKind::kCount:
      return "a whole number";
    case ValueKind::kPercent:
      return "a percentage such as \"80%\"";
    case ValueKind::kMilliseconds:
      return "a time such as \"200ms\"";
    case ValueKind::kBoolean:
      return "true or false";
    case ValueKind::kChoice:
      return fmt::format("one of {}", fmt::join(setting.choices, ", "));
    case ValueKind::kList:
      return "a list of strings";
    case ValueKind::kText:
      return fmt::format("a string, {}", setting.form);
  }
  return {};
}

std::string valid_values(const Setting& setting) {
  const Range& range = setting.range;
  if (setting.kind == ValueKind::kBoolean || setting.kind == ValueKind::kChoice) return needs(setting);
  if (setting.kind == ValueKind::kList) return fmt::format("{} to {} strings", range.low, range.high);
  if (setting.kind == ValueKind::kText) return std::string(setting.form) + ", or empty";
  std::string text = fmt::format("{} to {}", format_number(setting, range.low), format_number(setting, range.high));
  if (range.step > 1) text += ", in steps of " + format_number(setting, range.step);
  if (!range.zero.empty()) text += ", or 0";
  return text;
}

Result<std::uint64_t> parse_number(const Setting& setting, std::string_view text) {
  auto number = parse_kind(setting, text);
  if (!number) return complain(setting, number.error().message);
  return number;
}

std::string format_number(const Setting& setting, std::uint64_t number) {
  switch (setting.kind) {
    case ValueKind::kBytes:
      return format_bytes(number);
    case ValueKind::kPercent:
      return fmt::format("{}%", number);
    case ValueKind::kMilliseconds:
      return format_milliseconds(number);
    case ValueKind::kBoolean:
      return number == 0 ? "false" : "true";
    case ValueKind::kChoice:
      if (number < setting.choices.size()) return std::string(setting.choices[number]);
      break;
    case ValueKind::kCount:
    case ValueKind::kList:
    case ValueKind::kText:
      break;
  }
  return fmt::format("{}", number);
}

Status check_number(const Setting& setting, std::uint64_t number) {
  const Range& range = setting.range;
  if (number == 0 && !range.zero.empty()) return {};
  if (number >= range.low && number <= range.high && number % range.step == 0) return {};
  // A negative std::chrono value of a Config made in C++ arrives as a number above every range.
  const bool negative = setting.kind == ValueKind::kMilliseconds && number > INT64_MAX;
  const std::string value = negative ? "a negative time" : format_number(setting, number);
  return complain(setting, fmt::format("{} is out of range; valid: {}", value, valid_values(setting)));
}

Status check_list(const Setting& setting, const std::vector<std::string>& list) {
  if (list.size() < setting.range.low || list.size() > setting.range.high) {
    return complain(setting, fmt::format("{} entries; valid: {}", list.size(), valid_values(setting)));
  }
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto entry = [&](std::string_view message) {
      return fail(ErrorCode::kInvalidArgument, fmt::format("{}[{}]: {}", setting.key, i, message));
    };
    if (list[i].empty()) return entry("is empty");
    if (list[i].find('\0') != std::string::npos) return entry("has a zero byte in it");
    for (std::size_t j = 0; j < i; ++j) {
      if (list[j] == list[i]) return entry(fmt::format("\"{}\" is also [{}]; name it once", shown(list[i]), j));
    }
  }
  return {};
}

Status check_text(const Setting& setting, std::string_view text) {
  if (text.size() > setting.range.high) {
    return complain(setting, fmt::format("is longer than {} characters", setting.range.high));
  }
  if (text.find('\0') != std::string_view::npos) return complain(setting, "has a zero byte in it");
  return {};
}

std::string default_of(const Setting& setting) {
  if (setting.list != nullptr) return "none";
  const Config standard;
  return setting.text != nullptr ? text_of(setting, standard) : format_number(setting, setting.number(standard));
}

tl::unexpected<Error> complain(const Setting& setting, std::string_view message) {
  return invalid(fmt::format("{}: {}", setting.key, message));
}

std::string shown(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (out.size() + std::max<std::size_t>(length, 1) > kMostShown) return out + "...";
    out += length == 0 || is_control(text, length) ? std::string_view("?") : text.substr(0, length);
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out;
}

bool is_plain_text(std::string_view text) noexcept {
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0 || is_control(text, length)) return false;
    text.remove_prefix(length);
  }
  return true;
}

Result<std::uint64_t> parse_milliseconds(std::string_view text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string_view name = text.substr(digits);
  if (text.starts_with('-')) return invalid(fmt::format("\"{}\" is negative", shown(text)));
  if (digits == 0) return invalid(fmt::format("\"{}\" is not a time such as \"200ms\"", shown(text)));
  const auto* unit = std::ranges::find(kTimeUnits, name, &TimeUnit::name);
  if (unit == kTimeUnits.end()) {
    return invalid(fmt::format("\"{}\" has no known unit; valid units: ms, s, min, h", shown(text)));
  }
  TIERCEL_TRY_ASSIGN(const std::uint64_t number, parse_whole(text.substr(0, digits)));
  if (number > UINT64_MAX / unit->milliseconds) {
    return invalid(fmt::format("\"{}\" is more milliseconds than 64 bits can count", shown(text)));
  }
  return number * unit->milliseconds;
}

std::string format_milliseconds(std::uint64_t milliseconds) {
  for (const TimeUnit& unit : kTimeUnits) {
    if (milliseconds >= unit.milliseconds && milliseconds % unit.milliseconds == 0) {
      return fmt::format("{}{}", milliseconds / unit.milliseconds, unit.name);
    }
  }
  return "0ms";
}

}  // namespace tiercel::config
