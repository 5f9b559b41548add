// Goal: parse_bytes takes exactly the documented forms and never rounds or wraps; format_bytes is its inverse.
#include <tiercel/config.h>

#include "config/setting_value.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>

namespace tiercel {
namespace {

std::string message_of(std::string_view text) {
  const auto bytes = parse_bytes(text);
  return bytes ? "accepted as " + std::to_string(*bytes) : bytes.error().message;
}

TEST(Bytes, units_and_decimals) {
  EXPECT_EQ(parse_bytes("4096").value(), 4096U);
  EXPECT_EQ(parse_bytes("7B").value(), 7U);
  EXPECT_EQ(parse_bytes("256KiB").value(), 262'144U);
  EXPECT_EQ(parse_bytes("1.5GiB").value(), 1'610'612'736U);
  EXPECT_EQ(parse_bytes("10GB").value(), 10'000'000'000U);
  EXPECT_EQ(parse_bytes("2 TiB").value(), 2_TiB);
  EXPECT_EQ(parse_bytes("3TB").value(), 3'000'000'000'000U);
  EXPECT_EQ(parse_bytes("0.5KiB").value(), 512U);
  EXPECT_EQ(parse_bytes("1.000000000000000000000MB").value(), 1'000'000U);
  EXPECT_EQ(parse_bytes("00000000000000000000000000008").value(), 8U);
  EXPECT_EQ(parse_bytes("0").value(), 0U);
}

TEST(Bytes, the_edge_of_64_bits) {
  EXPECT_EQ(parse_bytes("18446744073709551615").value(), UINT64_MAX);
  EXPECT_EQ(message_of("18446744073709551616"), "\"18446744073709551616\" is more than 64 bits can count");
  EXPECT_EQ(message_of("99999999999999999999TiB"), "\"99999999999999999999TiB\" is more than 64 bits can count");
  EXPECT_EQ(message_of("100000000000000000000"),
            "\"100000000000000000000\" has more digits than a byte count can have");
  EXPECT_EQ(parse_bytes("9999999999999999999").value(), 9'999'999'999'999'999'999U);
  EXPECT_EQ(parse_bytes("16777215TiB").value(), 16'777'215_TiB);
  EXPECT_EQ(message_of("16777216TiB"), "\"16777216TiB\" is more than 64 bits can count");
}

TEST(Bytes, errors_say_what_is_wrong) {
  EXPECT_EQ(message_of(""), "\"\" is not a byte count such as \"8GiB\"");
  EXPECT_EQ(message_of("lots"), "\"lots\" is not a byte count such as \"8GiB\"");
  EXPECT_EQ(message_of("1.2.3"), "\"1.2.3\" has no known unit; valid units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB");
  EXPECT_EQ(message_of("1."), "\"1.\" is not a byte count such as \"8GiB\"");
  EXPECT_EQ(message_of(".5GiB"), "\".5GiB\" is not a byte count such as \"8GiB\"");
  EXPECT_EQ(message_of("8G"), "\"8G\" has no known unit; valid units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB");
  EXPECT_EQ(message_of("8gib"), "\"8gib\" has no known unit; valid units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB");
  EXPECT_EQ(message_of("8 "), "\"8 \" has no known unit; valid units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB");
  EXPECT_EQ(message_of("-1GiB"), "\"-1GiB\" is negative; a byte count is 0 or more");
  EXPECT_EQ(message_of("0.3KiB"), "\"0.3KiB\" is not a whole number of bytes");
  EXPECT_EQ(message_of("1.5"), "\"1.5\" is not a whole number of bytes");
}

TEST(Bytes, shortest_exact_form) {
  EXPECT_EQ(format_bytes(0), "0");
  EXPECT_EQ(format_bytes(1), "1");
  EXPECT_EQ(format_bytes(1023), "1023");
  EXPECT_EQ(format_bytes(4096), "4KiB");
  EXPECT_EQ(format_bytes(268'435'456), "256MiB");
  EXPECT_EQ(format_bytes(1'610'612'736), "1.5GiB");
  EXPECT_EQ(format_bytes(10'000'000'000), "10GB");
  EXPECT_EQ(format_bytes(128_MiB), "128MiB");
  EXPECT_EQ(format_bytes(1024_TiB), "1024TiB");
  EXPECT_EQ(format_bytes(9'999'999'999'999'999'999U), "9999999999999999999");
}

RC_GTEST_PROP(Bytes, any_number_is_read_back, ()) {
  const auto bytes = *rc::gen::arbitrary<std::uint64_t>() * *rc::gen::arbitrary<std::uint64_t>();  // small and large
  RC_ASSERT(parse_bytes(format_bytes(bytes)).value() == bytes);
}

RC_GTEST_PROP(Bytes, numbers_of_a_unit_are_read_back, ()) {
  const auto unit = *rc::gen::element(1_KiB, 1_MiB, 1_GiB, 1_TiB, std::uint64_t{1000}, std::uint64_t{1});
  const auto count = *rc::gen::inRange<std::uint64_t>(0, 9'000'000);
  const auto text = format_bytes(count * unit);
  RC_ASSERT(parse_bytes(text).value() == count * unit);
  RC_ASSERT(text.size() <= std::to_string(count * unit).size());
}

RC_GTEST_PROP(Bytes, any_text_is_a_number_or_a_sentence, (const std::string& noise)) {
  const auto text = *rc::gen::oneOf(rc::gen::just(noise), rc::gen::container<std::string>(rc::gen::element(
                                                              '0', '1', '9', '.', ' ', '-', 'K', 'M', 'i', 'B')));
  const auto bytes = parse_bytes(text);
  if (!bytes) {
    RC_ASSERT(bytes.error().code == ErrorCode::kInvalidArgument);
    RC_ASSERT(!bytes.error().message.empty());
  } else {
    RC_ASSERT(parse_bytes(format_bytes(*bytes)).value() == *bytes);
  }
}

TEST(Milliseconds, read_and_written) {
  EXPECT_EQ(config::parse_milliseconds("200ms").value(), 200U);
  EXPECT_EQ(config::parse_milliseconds("10min").value(), 600'000U);
  EXPECT_EQ(config::parse_milliseconds("200").error().message, "\"200\" has no known unit; valid units: ms, s, min, h");
  EXPECT_EQ(config::parse_milliseconds("-2s").error().message, "\"-2s\" is negative");
  EXPECT_EQ(config::parse_milliseconds("soon").error().message, "\"soon\" is not a time such as \"200ms\"");
  EXPECT_EQ(config::parse_milliseconds("18446744073709551615h").error().message,
            "\"18446744073709551615h\" is more milliseconds than 64 bits can count");
  EXPECT_EQ(config::format_milliseconds(0), "0ms");
  EXPECT_EQ(config::format_milliseconds(600'000), "10min");
}

RC_GTEST_PROP(Milliseconds, what_is_written_is_read_back, (std::uint64_t milliseconds)) {
  RC_ASSERT(config::parse_milliseconds(config::format_milliseconds(milliseconds)).value() == milliseconds);
}

TEST(Shown, clips_and_cleans_foreign_text) {
  EXPECT_EQ(config::shown("/nvme/für"), "/nvme/für");
  EXPECT_EQ(config::shown(std::string_view("a\nb\x1b[0m\0c", 9)), "a?b?[0m?c");
  EXPECT_EQ(config::shown("\xff\xc3"), "??");
  EXPECT_EQ(config::shown(std::string(200, 'x')), std::string(80, 'x') + "...");
}

}  // namespace
}  // namespace tiercel
