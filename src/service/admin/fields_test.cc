// Goal: the body of an admin call is a flat object of known fields of the right kind, or one sentence that says which
// field is wrong and what would be valid. A token is a secret in a file of its owner; guesses are bounded.
#include "service/admin/fields.h"

#include "service/admin/token.h"
#include "service/admin/words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace tiercel::service {
namespace {

using ::testing::HasSubstr;

constexpr std::array kKnown = {Field{.name = "engine"}, Field{.name = "all", .kind = FieldKind::kTruth},
                               Field{.name = "pin", .kind = FieldKind::kNumber}};

std::string error_of(std::string_view body) {
  const auto fields = Fields::parse(body, kKnown);
  return fields ? "(accepted)" : fields.error().message;
}

TEST(Fields, reads_every_kind) {
  const auto fields = Fields::parse(R"( {"engine":"a\u0062","all":true,"pin":18446744073709551615} )", kKnown);
  ASSERT_TRUE(fields) << fields.error().message;
  EXPECT_EQ(fields->text("engine"), "ab");
  EXPECT_TRUE(fields->truth("all"));
  EXPECT_EQ(fields->number("pin"), UINT64_MAX);
  for (const char* empty : {"", " \n", "{}", R"({"engine":null})"}) {
    const auto none = Fields::parse(empty, kKnown);
    ASSERT_TRUE(none) << empty;
    EXPECT_FALSE(none->has("engine"));
    EXPECT_FALSE(none->truth("all"));
  }
}

TEST(Fields, says_what_is_wrong) {
  EXPECT_THAT(error_of("{"), HasSubstr("no JSON"));
  EXPECT_THAT(error_of("{} {}"), HasSubstr("no JSON"));
  EXPECT_THAT(error_of("[1]"), HasSubstr("the body is a list; a call takes one JSON object"));
  EXPECT_THAT(error_of("7"), HasSubstr("the body is 7"));
  EXPECT_THAT(error_of("null"), HasSubstr("the body is null"));
  EXPECT_THAT(error_of(R"({"engin":"a"})"), HasSubstr("unknown field \"engin\"; did you mean engine?"));
  EXPECT_THAT(error_of(R"({"engine":5})"), HasSubstr("engine: needs a text, not 5"));
  EXPECT_THAT(error_of(R"({"all":"yes"})"), HasSubstr("all: needs true or false, not \"yes\""));
  EXPECT_THAT(error_of(R"({"pin":-1})"), HasSubstr("pin: needs a whole number, not -1"));
  EXPECT_THAT(error_of(R"({"pin":1.5})"), HasSubstr("not 1.5"));
  EXPECT_THAT(error_of(R"({"engine":{"engine":"a"}})"), HasSubstr("engine: needs a text, not an object"));
  EXPECT_THAT(error_of(R"({"engine":["a"]})"), HasSubstr("not a list"));
  EXPECT_THAT(error_of(R"({"engine":"a","engine":"b"})"), HasSubstr("engine: stands twice"));
  EXPECT_THAT(error_of(std::string(Fields::kMostBytes, ' ') + "{}"), HasSubstr("at most 8192"));
  EXPECT_THAT(error_of(std::string(8000, '[')), HasSubstr("a list")) << "depth costs nothing";
}

TEST(Fields, a_hash_has_64_digits) {
  constexpr std::array kHash = {Field{.name = "block"}};
  const std::string digits(63, 'a');
  const auto parse = [&](const std::string& text) {
    return Fields::parse(R"({"block":")" + text + R"("})", kHash).value().hash("block");
  };
  EXPECT_EQ(to_hex(parse(digits + "B").value()), digits + "b");
  for (const std::string& wrong : {digits, digits + "bb", digits + "g", std::string()}) {
    EXPECT_THAT(parse(wrong).error().message, HasSubstr("needs 64 hexadecimal digits")) << wrong;
  }
}

TEST(Words, are_those_of_people) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1204), "1,204");
  EXPECT_EQ(grouped(1234567), "1,234,567");
  EXPECT_EQ(counted(1, "block", "blocks"), "1 block");
  EXPECT_EQ(about_bytes(512), "512 bytes");
  EXPECT_EQ(about_bytes(2469606195), "2.3 GiB");
}

class TokenFile : public ::testing::Test {
 protected:
  TokenFile() {
    std::string name = (std::filesystem::temp_directory_path() / "tiercel-token-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    folder_ = name;
  }
  ~TokenFile() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] std::string file(const std::string& text, mode_t mode = 0600) const {
    const std::string path = folder_ / "token";
    std::ofstream(path) << text;
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return path;
  }
  std::filesystem::path folder_;
};

TEST_F(TokenFile, is_one_line_and_only_the_same_one_matches) {
  const auto token = AdminToken::read(file("0123456789abcdef\n"));
  ASSERT_TRUE(token) << token.error().message;
  EXPECT_TRUE(token->matches("0123456789abcdef"));
  for (const char* wrong : {"", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef\n", "0123456789abcdef0"}) {
    EXPECT_FALSE(token->matches(wrong)) << wrong;
  }
}

TEST_F(TokenFile, what_others_can_read_or_what_is_no_secret_is_refused_with_the_key) {
  for (const mode_t mode : {mode_t{0640}, mode_t{0604}, mode_t{0644}, mode_t{0620}}) {
    EXPECT_THAT(AdminToken::read(file("0123456789abcdef", mode)).error().message, HasSubstr("set it to 0600"));
  }
  for (const std::string& text : {std::string(), std::string("short"), std::string("0123456789 abcdef"),
                                  std::string("0123456789abcdef\nmore\n"), std::string(1025, 'x')}) {
    const auto token = AdminToken::read(file(text));
    ASSERT_FALSE(token);
    EXPECT_THAT(token.error().message, HasSubstr("http.admin_token_file"));
    if (!text.empty()) {
      EXPECT_EQ(token.error().message.find(text), std::string::npos) << "a token is never shown";
    }
  }
  EXPECT_EQ(AdminToken::read(folder_ / "none").error().code, ErrorCode::kNotFound);
  EXPECT_THAT(AdminToken::read(folder_).error().message, HasSubstr("regular file"));
}

TEST(FailureLimit, ten_wrong_ones_close_it_until_the_window_is_over) {
  FailureLimit limit;
  constexpr std::uint64_t kSecond = 1'000'000'000;
  for (std::uint32_t i = 0; i < FailureLimit::kMost; ++i) {
    EXPECT_EQ(limit.wait_ns(5 * kSecond + i), 0U);
    limit.failed(5 * kSecond + i);
  }
  EXPECT_EQ(limit.wait_ns(6 * kSecond), 9 * kSecond);
  EXPECT_EQ(limit.wait_ns(15 * kSecond), 0U);
  limit.failed(15 * kSecond);
  EXPECT_EQ(limit.wait_ns(15 * kSecond), 0U) << "a new window";
}

}  // namespace
}  // namespace tiercel::service
