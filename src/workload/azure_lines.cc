#include "base/try.h"
#include "workload/trace_lines.h"
#include "workload/workload_builder.h"

#include <array>
#include <charconv>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

namespace tiercel {
namespace {

constexpr std::string_view kHeading = "TIMESTAMP,ContextTokens,GeneratedTokens";

/// Exactly `digits` digits at the front of `text`, and the mark behind them, which are taken off.
std::optional<unsigned> take_digits(std::string_view& text, std::size_t digits, char mark) {
  unsigned value = 0;
  if (text.size() < digits + (mark != 0 ? 1 : 0) || (mark != 0 && text[digits] != mark)) return std::nullopt;
  const std::string_view number = text.substr(0, digits);
  const auto [end, error] = std::from_chars(number.begin(), number.end(), value);
  if (error != std::errc() || end != number.end()) return std::nullopt;
  text.remove_prefix(digits + (mark != 0 ? 1 : 0));
  return value;
}

/// "2023-11-16 18:17:03.9799600" in ns since 1970; the fraction has 0 to 9 digits.
std::optional<std::uint64_t> parse_moment(std::string_view text) {
  const auto year = take_digits(text, 4, '-');
  const auto month = take_digits(text, 2, '-');
  const auto day = take_digits(text, 2, ' ');
  const auto hour = take_digits(text, 2, ':');
  const auto minute = take_digits(text, 2, ':');
  const auto second = take_digits(text, 2, 0);
  if (!year || !month || !day || !hour || !minute || !second) return std::nullopt;
  const std::chrono::year_month_day date(std::chrono::year(static_cast<int>(*year)), std::chrono::month(*month),
                                         std::chrono::day(*day));
  if (!date.ok() || *year < 1970 || *year > 2262 || *hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  std::uint64_t fraction_ns = 0;
  if (!text.empty()) {
    if (text.front() != '.' || text.size() > 10) return std::nullopt;
    std::string digits(text.substr(1));
    digits.resize(9, '0');
    std::string_view rest = digits;
    const auto value = take_digits(rest, 9, 0);
    if (!value) return std::nullopt;
    fraction_ns = *value;
  }
  const auto days = static_cast<std::uint64_t>(std::chrono::sys_days(date).time_since_epoch().count());
  return (((days * 24 + *hour) * 60 + *minute) * 60 + *second) * 1'000'000'000 + fraction_ns;
}

std::optional<std::uint32_t> parse_count(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), value);
  if (text.empty() || error != std::errc() || end != text.end()) return std::nullopt;
  return value;
}

Result<WorkloadRequest> parse_row(std::string_view line) {
  const auto first = line.find(',');
  const auto second = first == std::string_view::npos ? first : line.find(',', first + 1);
  if (second == std::string_view::npos || line.find(',', second + 1) != std::string_view::npos) {
    return fail(ErrorCode::kInvalidArgument, "not three values");
  }
  const auto moment = parse_moment(line.substr(0, first));
  const auto input = parse_count(line.substr(first + 1, second - first - 1));
  const auto output = parse_count(line.substr(second + 1));
  if (!moment) return fail(ErrorCode::kInvalidArgument, "TIMESTAMP is not a moment such as 2023-11-16 18:17:03.97");
  if (!input) return fail(ErrorCode::kInvalidArgument, "ContextTokens is not a whole number");
  if (!output) return fail(ErrorCode::kInvalidArgument, "GeneratedTokens is not a whole number");
  return WorkloadRequest{.arrival_ns = *moment, .input_tokens = *input, .output_tokens = *output};
}

}  // namespace

Result<Workload> read_azure_lines(LineReader& lines, std::string_view first) {
  if (first != kHeading) return lines.wrong("the heading is not TIMESTAMP,ContextTokens,GeneratedTokens");
  WorkloadBuilder builder;
  std::uint64_t start_ns = 0;
  for (;;) {
    TIERCEL_TRY_ASSIGN(const auto line, lines.next());
    if (!line) break;
    if (line->empty()) continue;
    auto request = parse_row(*line);
    if (!request) return lines.wrong(request.error().message);
    const auto& before = builder.so_far().requests;
    if (before.empty()) start_ns = request->arrival_ns;
    if (request->arrival_ns < start_ns + (before.empty() ? 0 : before.back().arrival_ns)) {
      return lines.wrong("TIMESTAMP lies before that of the line before");
    }
    request->arrival_ns -= start_ns;
    TIERCEL_TRY(builder.add(*request, {}));
  }
  return std::move(builder).finish(false);
}

}  // namespace tiercel
