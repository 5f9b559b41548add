#include "connectors/llamacpp/api_request.h"

#include "connectors/llamacpp/api_reply.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace tiercel::llamacpp {
namespace {

using nlohmann::json;

ApiResult<ApiRequest> chat(const json& extra = json::object()) {
  json body = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}};
  body.update(extra);
  return parse_request(ApiKind::kChat, body.dump());
}

std::string bad_param(const ApiResult<ApiRequest>& result) { return result ? "(accepted)" : result.error().param; }

TEST(ApiRequest, ReadsAChat) {
  const auto request = chat({{"temperature", 0},
                             {"top_p", 0.5},
                             {"top_k", 7},
                             {"seed", 42},
                             {"stop", {"a", "b"}},
                             {"max_tokens", 5},
                             {"stream", true},
                             {"stream_options", {{"include_usage", true}}}});
  ASSERT_TRUE(request) << request.error().message;
  const auto& messages = std::get<std::vector<ChatMessage>>(request->prompt);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0].role, "user");
  EXPECT_EQ(messages[0].content, "hi");
  EXPECT_EQ(request->sampling.temperature, 0.0F);
  EXPECT_EQ(request->sampling.top_p, 0.5F);
  EXPECT_EQ(request->sampling.top_k, 7);
  EXPECT_EQ(request->sampling.seed, 42U);
  EXPECT_EQ(request->stops, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request->max_tokens, 5U);
  EXPECT_TRUE(request->stream);
  EXPECT_TRUE(request->include_usage);
}

TEST(ApiRequest, NullMeansAbsentAndUnknownKeysAreIgnored) {
  const auto request = chat({{"temperature", nullptr}, {"stop", nullptr}, {"n", nullptr}, {"user", "me"}, {"n", 1}});
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->sampling.temperature, 1.0F);
  EXPECT_FALSE(request->max_tokens);
}

TEST(ApiRequest, TheNewerNameOfMaxTokensWins) {
  EXPECT_EQ(chat({{"max_tokens", 3}, {"max_completion_tokens", 9}})->max_tokens, 9U);
}

TEST(ApiRequest, ContentMayBeTextParts) {
  const json parts = {{{"type", "text"}, {"text", "a"}}, {{"type", "text"}, {"text", "b"}}};
  const auto request = chat({{"messages", {{{"role", "user"}, {"content", parts}}}}});
  ASSERT_TRUE(request);
  EXPECT_EQ(std::get<std::vector<ChatMessage>>(request->prompt)[0].content, "ab");
  const json image = {{{"type", "image_url"}, {"image_url", "x"}}};
  EXPECT_EQ(bad_param(chat({{"messages", {{{"role", "user"}, {"content", image}}}}})), "messages[0].content");
}

TEST(ApiRequest, BrokenBodiesAreRefused) {
  for (const char* body : {"", "{", "[]", "\"x\"", "{\"messages\": [}", "\xFF\xFE"}) {
    const auto request = parse_request(ApiKind::kChat, body);
    ASSERT_FALSE(request) << body;
    EXPECT_EQ(request.error().status, 400);
  }
}

TEST(ApiRequest, WrongTypesNameTheirParameter) {
  EXPECT_EQ(bad_param(parse_request(ApiKind::kChat, "{}")), "messages");
  EXPECT_EQ(bad_param(chat({{"messages", "x"}})), "messages");
  EXPECT_EQ(bad_param(chat({{"messages", json::array()}})), "messages");
  EXPECT_EQ(bad_param(chat({{"messages", {1}}})), "messages[0]");
  EXPECT_EQ(bad_param(chat({{"messages", {{{"role", 1}, {"content", "x"}}}}})), "messages[0].role");
  EXPECT_EQ(bad_param(chat({{"messages", {{{"role", "user"}}}}})), "messages[0].content");
  EXPECT_EQ(bad_param(chat({{"temperature", "hot"}})), "temperature");
  EXPECT_EQ(bad_param(chat({{"temperature", 3}})), "temperature");
  EXPECT_EQ(bad_param(chat({{"top_p", -1}})), "top_p");
  EXPECT_EQ(bad_param(chat({{"top_k", 1.5}})), "top_k");
  EXPECT_EQ(bad_param(chat({{"max_tokens", 0}})), "max_tokens");
  EXPECT_EQ(bad_param(chat({{"max_tokens", -1}})), "max_tokens");
  EXPECT_EQ(bad_param(chat({{"max_tokens", 1e30}})), "max_tokens");
  EXPECT_EQ(bad_param(chat({{"seed", "x"}})), "seed");
  EXPECT_EQ(bad_param(chat({{"stop", 1}})), "stop");
  EXPECT_EQ(bad_param(chat({{"stop", {1}}})), "stop");
  EXPECT_EQ(bad_param(chat({{"stream", "yes"}})), "stream");
  EXPECT_EQ(bad_param(chat({{"model", 1}})), "model");
}

TEST(ApiRequest, WhatCannotBeGivenIsRefusedByName) {
  EXPECT_EQ(bad_param(chat({{"n", 2}})), "n");
  EXPECT_EQ(bad_param(chat({{"tools", {{{"type", "function"}}}}})), "tools");
  EXPECT_EQ(bad_param(chat({{"logprobs", true}})), "logprobs");
  EXPECT_EQ(bad_param(chat({{"response_format", {{"type", "json_object"}}}})), "response_format");
  EXPECT_EQ(bad_param(chat({{"stream_options", {{"include_usage", true}}}})), "stream_options");
  EXPECT_TRUE(chat({{"tools", json::array()}, {"logprobs", false}, {"response_format", {{"type", "text"}}}}));
}

TEST(ApiRequest, ACompletionTakesTextOrTokens) {
  const auto parse = [](const json& body) { return parse_request(ApiKind::kCompletion, body.dump()); };
  EXPECT_EQ(std::get<std::string>(parse({{"prompt", "abc"}})->prompt), "abc");
  EXPECT_EQ(std::get<std::string>(parse({{"prompt", {"abc"}}})->prompt), "abc");
  EXPECT_EQ(std::get<std::vector<TokenId>>(parse({{"prompt", {1, 2}}})->prompt), (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(std::get<std::vector<TokenId>>(parse({{"prompt", {{1, 2}}}})->prompt), (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(parse({{"prompt", "abc"}})->max_tokens, 16U);
  EXPECT_EQ(bad_param(parse({{"prompt", {"a", "b"}}})), "prompt");
  EXPECT_EQ(bad_param(parse({{"prompt", {1, -2}}})), "prompt");
  EXPECT_EQ(bad_param(parse({{"prompt", 3}})), "prompt");
  EXPECT_EQ(bad_param(parse(json::object())), "prompt");
}

TEST(ApiRequest, AnswerLimitLeavesRoomForOthers) {
  EXPECT_EQ(answer_limit(10U, 100, 4096, 4).value(), 10U);
  EXPECT_EQ(answer_limit(9999U, 100, 4096, 4).value(), 3996U);
  EXPECT_EQ(answer_limit(std::nullopt, 100, 4096, 4).value(), 924U);
  EXPECT_EQ(answer_limit(std::nullopt, 2000, 4096, 4).value(), 256U);
  EXPECT_EQ(answer_limit(std::nullopt, 4000, 4096, 4).value(), 96U);
}

TEST(ApiRequest, ATooLongPromptIsToldBothNumbers) {
  const auto limit = answer_limit(std::nullopt, 5000, 4096, 1);
  ASSERT_FALSE(limit);
  EXPECT_EQ(limit.error().status, 400);
  EXPECT_EQ(limit.error().code, "context_length_exceeded");
  EXPECT_NE(limit.error().message.find("5000"), std::string::npos);
  EXPECT_NE(limit.error().message.find("4096"), std::string::npos);
  EXPECT_FALSE(answer_limit(1U, 4096, 4096, 1));
  EXPECT_TRUE(answer_limit(1U, 4095, 4096, 1));
}

TEST(ApiReply, ErrorsHaveOpenAiForm) {
  const json error = json::parse(error_reply({.message = "no \xFF", .param = "stop"}));
  EXPECT_EQ(error["error"]["type"], "invalid_request_error");
  EXPECT_EQ(error["error"]["param"], "stop");
  EXPECT_TRUE(error["error"]["code"].is_null());
}

TEST(ApiReply, UsageCountsWhatWasNotComputed) {
  const Timings timings{.prompt_tokens = 100,
                        .prompt_computed = 6,
                        .prompt_restored = 64,
                        .prompt_from_engine = 30,
                        .completion_tokens = 3};
  const json reply = json::parse(whole_reply({.id = "x"}, "text", Finish::kLength, timings));
  EXPECT_EQ(reply["usage"]["prompt_tokens_details"]["cached_tokens"], 94);
  EXPECT_EQ(reply["usage"]["total_tokens"], 103);
  EXPECT_EQ(reply["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(reply["choices"][0]["message"]["content"], "text");
  EXPECT_EQ(reply["timings"]["prompt_tokens_restored"], 64);
}

}  // namespace
}  // namespace tiercel::llamacpp
