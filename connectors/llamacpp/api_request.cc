#include "connectors/llamacpp/api_request.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

namespace tiercel::llamacpp {
namespace {

using nlohmann::json;

tl::unexpected<ApiError> bad(std::string param, std::string message) {
  return tl::unexpected<ApiError>(ApiError{.message = std::move(message), .param = std::move(param)});
}

tl::unexpected<ApiError> wrong_type(const std::string& param, std::string_view wanted, const json& value) {
  return bad(param, fmt::format("\"{}\" must be {}, not {}", param, wanted, value.type_name()));
}

/// The value of `key`, or null if it is absent or null.
const json* find(const json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

/// Reads a number in [low, high] into `out`, which stays as it is if the key is absent.
template <class T>
ApiResult<void> number(const json& body, const char* key, double low, double high, T& out) {
  const json* value = find(body, key);
  if (value == nullptr) return {};
  if (!value->is_number() || (std::is_integral_v<T> && !value->is_number_integer())) {
    return wrong_type(key, std::is_integral_v<T> ? "an integer" : "a number", *value);
  }
  const double read = value->get<double>();
  if (!(read >= low && read <= high)) {
    return bad(key, fmt::format("\"{}\" is {}; valid are {} to {}", key, value->dump(), low, high));
  }
  out = value->get<T>();
  return {};
}

ApiResult<void> boolean(const json& body, const char* key, bool& out) {
  const json* value = find(body, key);
  if (value == nullptr) return {};
  if (!value->is_boolean()) return wrong_type(key, "true or false", *value);
  out = value->get<bool>();
  return {};
}

/// What would change the answer and is not here must not be passed over in silence.
ApiResult<void> refuse_unsupported(const json& body) {
  const json* n = find(body, "n");
  if (n != nullptr && *n != 1) return bad("n", "\"n\" must be 1: this server gives one choice a request");
  const json* best_of = find(body, "best_of");
  if (best_of != nullptr && *best_of != 1) return bad("best_of", "\"best_of\" must be 1");
  for (const char* key : {"tools", "functions", "logit_bias"}) {
    const json* value = find(body, key);
    if (value != nullptr && !value->empty())
      return bad(key, fmt::format("\"{}\" is not supported by this server", key));
  }
  for (const char* key : {"logprobs", "echo"}) {
    const json* value = find(body, key);
    if (value != nullptr && *value != false && *value != 0) {
      return bad(key, fmt::format("\"{}\" is not supported by this server", key));
    }
  }
  const json* suffix = find(body, "suffix");
  const bool no_suffix = suffix == nullptr || (suffix->is_string() && suffix->get_ref<const std::string&>().empty());
  if (!no_suffix) return bad("suffix", "\"suffix\" is not supported by this server");
  const json* format = find(body, "response_format");
  if (format != nullptr && (!format->is_object() || format->value("type", json()) != "text")) {
    return bad("response_format",
               "\"response_format\" other than {\"type\": \"text\"} is not supported by this server");
  }
  return {};
}

ApiResult<std::string> message_text(const json& content, const std::string& where) {
  if (content.is_string()) return content.get<std::string>();
  if (content.is_null()) return std::string{};
  if (!content.is_array()) return wrong_type(where, "a string or an array of text parts", content);
  std::string text;
  for (const json& part : content) {
    const json* type = part.is_object() ? find(part, "type") : nullptr;
    const json* value = part.is_object() ? find(part, "text") : nullptr;
    if (type == nullptr || *type != "text" || value == nullptr || !value->is_string()) {
      return bad(where, fmt::format("\"{}\" may have parts of type \"text\" only", where));
    }
    text += value->get<std::string>();
  }
  return text;
}

ApiResult<std::vector<ChatMessage>> messages(const json& body) {
  const json* list = find(body, "messages");
  if (list == nullptr) return bad("messages", "\"messages\" is missing");
  if (!list->is_array()) return wrong_type("messages", "an array", *list);
  if (list->empty()) return bad("messages", "\"messages\" is empty; at least one message is needed");
  std::vector<ChatMessage> read;
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string where = fmt::format("messages[{}]", i);
    const json& item = (*list)[i];
    if (!item.is_object()) return wrong_type(where, "an object", item);
    const json* role = find(item, "role");
    if (role == nullptr) return bad(where + ".role", fmt::format("\"{}.role\" is missing", where));
    if (!role->is_string()) return wrong_type(where + ".role", "a string", *role);
    if (!item.contains("content")) return bad(where + ".content", fmt::format("\"{}.content\" is missing", where));
    auto text = message_text(item["content"], where + ".content");
    if (!text) return tl::unexpected<ApiError>(text.error());
    read.push_back({.role = role->get<std::string>(), .content = std::move(*text)});
  }
  return read;
}

ApiResult<void> completion_prompt(const json& body, ApiRequest& request) {
  const json* prompt = find(body, "prompt");
  if (prompt == nullptr) return bad("prompt", "\"prompt\" is missing");
  // A list of one prompt is that prompt.
  if (prompt->is_array() && prompt->size() == 1 && !(*prompt)[0].is_number()) prompt = &(*prompt)[0];
  if (prompt->is_string()) {
    request.prompt = prompt->get<std::string>();
    return {};
  }
  constexpr const char* kWanted = "a string or an array of token ids (one prompt a request)";
  if (!prompt->is_array()) return wrong_type("prompt", kWanted, *prompt);
  std::vector<TokenId> tokens;
  for (const json& token : *prompt) {
    if (!token.is_number_integer()) return wrong_type("prompt", kWanted, token);
    const auto id = token.get<std::int64_t>();
    if (id < 0 || id > std::numeric_limits<TokenId>::max()) {
      return bad("prompt", fmt::format("\"prompt\" has the token id {}, which is out of range", id));
    }
    tokens.push_back(static_cast<TokenId>(id));
  }
  request.prompt = std::move(tokens);
  return {};
}

ApiResult<void> stops(const json& body, ApiRequest& request) {
  constexpr std::size_t kMost = 16;
  const json* stop = find(body, "stop");
  if (stop == nullptr) return {};
  const json list = stop->is_array() ? *stop : json::array({*stop});
  if (list.size() > kMost)
    return bad("stop", fmt::format("\"stop\" has {} strings; at most {} are taken", list.size(), kMost));
  for (const json& item : list) {
    if (!item.is_string()) return wrong_type("stop", "a string or an array of strings", item);
    request.stops.push_back(item.get<std::string>());
  }
  return {};
}

ApiResult<void> sampling(const json& body, ApiRequest& request) {
  SamplingOptions& options = request.sampling;
  constexpr double kMostInt = std::numeric_limits<std::int32_t>::max();
  std::int64_t seed = -1;
  const std::array<ApiResult<void>, 6> read = {
      number(body, "temperature", 0, 2, options.temperature),
      number(body, "top_p", 0, 1, options.top_p),
      number(body, "top_k", -1, kMostInt, options.top_k),
      number(body, "frequency_penalty", -2, 2, options.frequency_penalty),
      number(body, "presence_penalty", -2, 2, options.presence_penalty),
      number(body, "seed", -9.3e18, 9.3e18, seed),
  };
  for (const ApiResult<void>& status : read) {
    if (!status) return status;
  }
  const bool given = find(body, "seed") != nullptr;
  options.seed = given ? static_cast<std::uint32_t>(seed) : std::random_device{}();
  return {};
}

ApiResult<void> lengths(const json& body, ApiRequest& request) {
  for (const char* key : {"max_tokens", "max_completion_tokens"}) {
    if (find(body, key) == nullptr) continue;
    std::uint32_t value = 0;
    if (auto status = number(body, key, 1, std::numeric_limits<std::int32_t>::max(), value); !status) return status;
    request.max_tokens = value;
  }
  if (request.kind == ApiKind::kCompletion && !request.max_tokens) request.max_tokens = 16;  // as OpenAI's
  return {};
}

ApiResult<void> streaming(const json& body, ApiRequest& request) {
  if (auto status = boolean(body, "stream", request.stream); !status) return status;
  const json* options = find(body, "stream_options");
  if (options == nullptr) return {};
  if (!options->is_object()) return wrong_type("stream_options", "an object", *options);
  if (!request.stream) return bad("stream_options", "\"stream_options\" is for requests with \"stream\": true");
  return boolean(*options, "include_usage", request.include_usage);
}

}  // namespace

ApiResult<ApiRequest> parse_request(ApiKind kind, std::string_view body) {
  const json parsed = json::parse(body, nullptr, false);
  if (parsed.is_discarded()) return bad("", "the request's body is not valid JSON");
  if (!parsed.is_object())
    return bad("", fmt::format("the request's body must be a JSON object, not {}", parsed.type_name()));
  ApiRequest request;
  request.kind = kind;
  if (const json* model = find(parsed, "model")) {
    if (!model->is_string()) return wrong_type("model", "a string", *model);
    request.model = model->get<std::string>();
  }
  ApiResult<void> status = refuse_unsupported(parsed);
  if (!status) return tl::unexpected<ApiError>(status.error());
  if (kind == ApiKind::kChat) {
    auto list = messages(parsed);
    if (!list) return tl::unexpected<ApiError>(list.error());
    request.prompt = std::move(*list);
  } else if (status = completion_prompt(parsed, request); !status) {
    return tl::unexpected<ApiError>(status.error());
  }
  for (const auto read : {&stops, &sampling, &lengths, &streaming}) {
    if (status = read(parsed, request); !status) return tl::unexpected<ApiError>(status.error());
  }
  if (status = boolean(parsed, "ignore_eos", request.ignore_end); !status)
    return tl::unexpected<ApiError>(status.error());
  return request;
}

ApiResult<std::uint32_t> answer_limit(std::optional<std::uint32_t> wish, std::size_t prompt_tokens,
                                      std::uint32_t context_tokens, std::uint32_t slots) {
  if (prompt_tokens >= context_tokens) {
    return tl::unexpected<ApiError>(ApiError{
        .message = fmt::format("the prompt has {} tokens; this server's context is {} tokens, the answer included",
                               prompt_tokens, context_tokens),
        .param = "messages",
        .code = "context_length_exceeded"});
  }
  const auto left = static_cast<std::uint32_t>(context_tokens - prompt_tokens);
  if (wish) return std::min(*wish, left);
  constexpr std::uint32_t kLeast = 256;
  const std::uint32_t share = context_tokens / std::max(slots, 1U);
  const std::uint32_t own = share > prompt_tokens ? static_cast<std::uint32_t>(share - prompt_tokens) : 0;
  return std::min(left, std::max(own, kLeast));
}

}  // namespace tiercel::llamacpp
