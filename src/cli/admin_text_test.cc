// Goal: the answers of admin calls become tables for people; what is no answer of a service is said to be none, and
// what comes from outside cannot steer the terminal.
#include "cli/admin_text.h"

#include "cli/admin_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(AdminText, ModesAreATable) {
  const auto text =
      mode_table(R"({"mode":"on","engines":[{"engine":"vllm-0","mode":"store_only","own_mode":"store_only","pid":17},)"
                 R"({"engine":"e\u001b[2J","mode":"off","own_mode":"on","pid":null}]})");
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(*text,
            "ENGINE  MODE        ITS OWN     PROCESS\n"
            "(all)   on                      \n"
            "vllm-0  store_only  store_only  17\n"
            "e?[2J   off         on          not connected\n");
}

TEST(AdminText, NamespacesAndPinsAreTables) {
  EXPECT_THAT(*namespace_table(R"({"namespaces":[{"fingerprint":"ab","model":null,"tenant":null},)"
                               R"({"fingerprint":"cd","model":"qwen","tenant":"search"}],"more":3})"),
              HasSubstr("cd         search  qwen\nand 3 more\n"));
  EXPECT_EQ(*namespace_table(R"({"namespaces":[],"more":0})"), "nothing is in the cache\n");
  EXPECT_EQ(*pin_table(R"({"pins":[]})"), "no pin is held\n");
  EXPECT_EQ(*pin_table(R"({"pins":[{"pin":1,"block":"ab","blocks":12,"left":"10min"}]})"),
            "PIN  BLOCKS  LEFT   LAST BLOCK\n1    12      10min  ab\n");
  EXPECT_EQ(*level_line(R"({"level":"info"})"), "info\n");
}

TEST(AdminText, WhatIsNoAnswerIsAnError) {
  for (const char* json : {"", "[]", "{", R"({"mode":1})", R"({"mode":"on","engines":[{}]})"}) {
    EXPECT_EQ(mode_table(json).error().code, ErrorCode::kCorrupt) << json;
    EXPECT_EQ(sentence_of(json, "done"), "");
  }
  EXPECT_EQ(sentence_of(R"({"done":"dropped\n1"})", "done"), "dropped?1");
}

TEST(AdminClient, ReadsWhatHttpSays) {
  const auto reply = read_reply("HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}");
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->status, 409);
  EXPECT_EQ(reply->body, "{}");
  for (const char* text : {"", "HTTP/1.1 200 OK\r\n", "SSH-2.0\r\n\r\n", "HTTP/1.1 x\r\n\r\n"}) {
    EXPECT_EQ(read_reply(text).error().code, ErrorCode::kCorrupt) << text;
  }
}

TEST(AdminClient, WhereNobodyListensItSaysSo) {
  const auto reply = ask_admin("/nonexistent/tiercel.sock.admin", "mode", "{}");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(reply.error().message, HasSubstr("--socket"));
  EXPECT_THAT(ask_admin(std::string(200, 'x'), "mode", "{}").error().message, Not(HasSubstr("no service")));
}

}  // namespace
}  // namespace tiercel::cli
