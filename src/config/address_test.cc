// Goal: where a server listens is read exactly, and what is no address is refused with one that would be.
#include "config/address.h"

#include <tiercel/config.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel::config {
namespace {

using ::testing::HasSubstr;

TEST(Address, is_an_address_and_a_port) {
  for (const char* text : {"127.0.0.1:9800", "0.0.0.0:0", "[::1]:9801", "[::]:65535"}) {
    const auto address = parse_address(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(format_address(*address), text);
  }
  EXPECT_EQ(format_address(parse_address("localhost:80").value()), "127.0.0.1:80");
}

TEST(Address, anything_else_is_refused_with_an_example) {
  for (const char* text : {"", "9800", ":9800", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:+1",
                           "::1:9800", "[::1]", "example.org:80", "127.0.0.1:80 ", "[127.0.0.1]:80", "[]:80"}) {
    const auto address = parse_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_THAT(address.error().message, HasSubstr("127.0.0.1:9800"));
  }
}

TEST(Address, loopback_is_what_only_this_machine_reaches) {
  EXPECT_TRUE(is_loopback({.host = "127.0.0.1"}));
  EXPECT_TRUE(is_loopback({.host = "::1"}));
  EXPECT_FALSE(is_loopback({.host = "0.0.0.0"}));
  EXPECT_FALSE(is_loopback({.host = "10.127.0.1"}));
}

std::string error_of(const std::string& toml) {
  const auto config = parse_toml(toml, "f");
  return config ? "(accepted)" : config.error().message;
}

TEST(ServiceSettings, are_checked_whoever_reads_them) {
  EXPECT_EQ(error_of("http.listen = ''\nmetrics.listen = ''"), "(accepted)");
  EXPECT_EQ(error_of("http.listen = '127.0.0.1:0'\nmetrics.listen = '127.0.0.1:0'"), "(accepted)");
  EXPECT_THAT(error_of("http.listen = 'here'"), HasSubstr("f:1: http.listen: \"here\" has no port"));
  EXPECT_THAT(error_of("http.listen = 9800"), HasSubstr("http.listen: needs a string"));
  EXPECT_THAT(error_of("metrics.listen = '127.0.0.1:9800'"),
              HasSubstr("metrics.listen: 127.0.0.1:9800 is http.listen"));
  EXPECT_THAT(error_of("http.connections = 64"), HasSubstr("must be more than http.streams (64)"));
}

TEST(ServiceSettings, as_flags_are_refused_where_they_would_do_nothing) {
  const std::vector<std::string> words = {"--http-listen", "127.0.0.1:1"};
  const auto refused = take_flags(words, {});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("--http-listen: is a flag of `tiercel serve`"));
  EXPECT_EQ(take_flags(words, {}, {}, FlagScope::kService).value().config.http.listen, "127.0.0.1:1");
  EXPECT_THAT(flags_help(), ::testing::Not(HasSubstr("--http-listen")));
  EXPECT_THAT(flags_help(FlagScope::kService), HasSubstr("--http-listen ADDRESS:PORT"));
}

}  // namespace
}  // namespace tiercel::config
