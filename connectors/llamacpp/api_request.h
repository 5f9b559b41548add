// Requests of OpenAI's API as this server takes them, read from JSON with every type checked.
//
// Pure functions without a model. A request that asks for something this server cannot give (several choices, tools,
// log probabilities) is refused by name; unknown keys are ignored, as OpenAI's clients add some. Errors are ApiError,
// which becomes {"error": {"message", "type", "param", "code"}}.
#pragma once

#include "connectors/llamacpp/generation.h"
#include "connectors/llamacpp/model_text.h"

#include <tl/expected.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tiercel::llamacpp {

struct ApiError {
  int status = 400;
  std::string message;
  std::string type = "invalid_request_error";
  std::string param;  ///< empty: null
  std::string code;   ///< empty: null
};

template <class T>
using ApiResult = tl::expected<T, ApiError>;

enum class ApiKind : std::uint8_t { kChat, kCompletion };

/// What both kinds of request have.
struct ApiRequest {
  ApiKind kind = ApiKind::kChat;
  std::string model;  ///< as asked for; empty if not
  std::variant<std::vector<ChatMessage>, std::string, std::vector<TokenId>> prompt;
  SamplingOptions sampling;                 ///< without a seed: a random one
  std::optional<std::uint32_t> max_tokens;  ///< max_tokens or max_completion_tokens
  std::vector<std::string> stops;
  bool stream = false;
  bool include_usage = false;
  bool ignore_end = false;
};

[[nodiscard]] ApiResult<ApiRequest> parse_request(ApiKind kind, std::string_view body);

/// How many tokens the answer may have. Without a wish: what is left of one slot's share of the context, at least 256.
/// A wish is cut to what is left of the context. Error: the prompt alone does not fit, with both numbers.
[[nodiscard]] ApiResult<std::uint32_t> answer_limit(std::optional<std::uint32_t> wish, std::size_t prompt_tokens,
                                                    std::uint32_t context_tokens, std::uint32_t slots);

}  // namespace tiercel::llamacpp
