// parse_bytes and format_bytes of config.h. Exact: all arithmetic is on integers, and what is not a whole number of
// bytes or does not fit 64 bits is an error, never rounded.
#include <tiercel/config.h>

#include "config/setting_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

namespace tiercel {
namespace {

__extension__ using Wide = unsigned __int128;

struct Unit {
  std::string_view name;
  std::uint64_t bytes;
};

// In the order in which format_bytes prefers them among forms of the same length.
constexpr std::array kUnits = {
    Unit{"TiB", 1_TiB},
    Unit{"GiB", 1_GiB},
    Unit{"MiB", 1_MiB},
    Unit{"KiB", 1_KiB},
    Unit{"TB", 1'000'000'000'000},
    Unit{"GB", 1'000'000'000},
    Unit{"MB", 1'000'000},
    Unit{"KB", 1'000},
    Unit{"B", 1},
    Unit{"", 1},
};
constexpr std::size_t kMostDigits = 20;  // of 2^64; 10^20 times 2^40 still fits 128 bits

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

tl::unexpected<Error> complain_bytes(std::string_view text, std::string_view why) {
  return fail(ErrorCode::kInvalidArgument, fmt::format("\"{}\" {}", config::shown(text), why));
}

/// The digits of a decimal number, its point left out.
struct Decimal {
  Wide digits = 0;
  std::uint64_t divisor = 1;  ///< 10^(digits after the point)
  std::size_t length = 0;     ///< of the text it was read from
};

std::optional<Decimal> parse_decimal(std::string_view text) {
  const std::size_t whole = std::min(text.find_first_not_of("0123456789"), text.size());
  std::size_t end = whole;
  std::string_view fraction;
  if (end < text.size() && text[end] == '.') {
    end = std::min(text.find_first_not_of("0123456789", whole + 1), text.size());
    fraction = text.substr(whole + 1, end - whole - 1);
    if (fraction.empty()) return std::nullopt;
  }
  if (whole == 0) return std::nullopt;
  std::string digits(text.substr(0, whole));
  while (!fraction.empty() && fraction.back() == '0') fraction.remove_suffix(1);
  digits += fraction;
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  if (digits.size() > kMostDigits || fraction.size() > kMostDigits - 1) return std::nullopt;
  Decimal decimal{.length = end};
  for (const char c : digits) decimal.digits = decimal.digits * 10 + static_cast<unsigned>(c - '0');
  for (std::size_t i = 0; i < fraction.size(); ++i) decimal.divisor *= 10;
  return decimal;
}

/// `bytes` in `unit` with at most three digits after the point, if that is exact.
std::optional<std::string> in_unit(std::uint64_t bytes, const Unit& unit) {
  const Wide thousandths = Wide{bytes} * 1'000;
  if (bytes < unit.bytes || thousandths % unit.bytes != 0) return std::nullopt;
  const auto whole = bytes / unit.bytes;
  const auto rest = static_cast<std::uint64_t>(thousandths / unit.bytes % 1'000);
  std::string number = fmt::format("{}.{:03}", whole, rest);
  number.erase(number.find_last_not_of('0') + 1);
  if (number.back() == '.') number.pop_back();
  return number + std::string(unit.name);
}

}  // namespace

Result<std::uint64_t> parse_bytes(std::string_view text) {
  if (text.empty()) return complain_bytes(text, "is not a byte count such as \"8GiB\"");
  if (text.front() == '-') return complain_bytes(text, "is negative; a byte count is 0 or more");
  const bool too_long = text.size() > 64;
  const auto number = too_long ? std::nullopt : parse_decimal(text);
  if (!number) {
    const bool all_digits = std::ranges::all_of(text, [](char c) { return is_digit(c) || c == '.'; });
    return complain_bytes(
        text, all_digits && is_digit(text.front()) && is_digit(text.back()) && std::ranges::count(text, '.') < 2
                  ? "has more digits than a byte count can have"
                  : "is not a byte count such as \"8GiB\"");
  }
  std::string_view name = text.substr(number->length);
  if (name.size() > 1 && name.front() == ' ') name.remove_prefix(1);
  const auto* unit = std::ranges::find(kUnits, name, &Unit::name);
  if (unit == kUnits.end()) {
    return complain_bytes(text, "has no known unit; valid units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB");
  }
  const Wide scaled = number->digits * unit->bytes;
  if (scaled % number->divisor != 0) return complain_bytes(text, "is not a whole number of bytes");
  const Wide bytes = scaled / number->divisor;
  if (bytes > UINT64_MAX) return complain_bytes(text, "is more than 64 bits can count");
  return static_cast<std::uint64_t>(bytes);
}

std::string format_bytes(std::uint64_t bytes) {
  std::string best = fmt::format("{}", bytes);
  bool plain = true;
  for (const Unit& unit : kUnits) {
    if (unit.name.empty()) continue;
    const auto form = in_unit(bytes, unit);
    // A named unit reads better than bare digits of the same length; among units the order of the table decides.
    if (form && (form->size() < best.size() || (plain && form->size() == best.size()))) {
      best = *form;
      plain = false;
    }
  }
  return best;
}

}  // namespace tiercel
