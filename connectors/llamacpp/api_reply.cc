#include "connectors/llamacpp/api_reply.h"

#include <nlohmann/json.hpp>

namespace tiercel::llamacpp {
namespace {

using nlohmann::ordered_json;

/// Text that is not valid UTF-8 cannot come from TextStream; a client's own bytes in an error message can be anything.
std::string dump(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

std::string event(const ordered_json& value) { return "data: " + dump(value) + "\n\n"; }

ordered_json usage(const Timings& timings) {
  return {{"prompt_tokens", timings.prompt_tokens},
          {"completion_tokens", timings.completion_tokens},
          {"total_tokens", timings.prompt_tokens + timings.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", timings.prompt_restored + timings.prompt_from_engine}}}};
}

ordered_json timings_json(const Timings& timings) {
  const double writing_ms = timings.total_ms - timings.ttft_ms;
  const double rate = timings.completion_tokens > 1 && writing_ms > 0
                          ? static_cast<double>(timings.completion_tokens - 1) * 1000.0 / writing_ms
                          : 0.0;
  return {{"queue_ms", timings.queue_ms},
          {"ttft_ms", timings.ttft_ms},
          {"total_ms", timings.total_ms},
          {"prompt_tokens_computed", timings.prompt_computed},
          {"prompt_tokens_restored", timings.prompt_restored},
          {"prompt_tokens_from_engine", timings.prompt_from_engine},
          {"bytes_restored", timings.bytes_restored},
          {"bytes_kept", timings.bytes_kept},
          {"completion_tokens_per_second", rate}};
}

ordered_json head_json(const ReplyHead& head, bool chunk) {
  const bool chat = head.kind == ApiKind::kChat;
  return {{"id", head.id},
          {"object", !chat ? "text_completion" : (chunk ? "chat.completion.chunk" : "chat.completion")},
          {"created", head.created},
          {"model", head.model}};
}

ordered_json chunk(const ReplyHead& head, ordered_json choice, bool usage_follows) {
  ordered_json value = head_json(head, true);
  choice["index"] = 0;
  if (!choice.contains("finish_reason")) choice["finish_reason"] = nullptr;
  choice["logprobs"] = nullptr;
  value["choices"] = ordered_json::array({std::move(choice)});
  if (usage_follows) value["usage"] = nullptr;
  return value;
}

ordered_json error_json(const ApiError& error) {
  ordered_json inner = {{"message", error.message}, {"type", error.type}, {"param", nullptr}, {"code", nullptr}};
  if (!error.param.empty()) inner["param"] = error.param;
  if (!error.code.empty()) inner["code"] = error.code;
  return {{"error", std::move(inner)}};
}

}  // namespace

std::string_view finish_reason(Finish finish) { return finish == Finish::kLength ? "length" : "stop"; }

std::string whole_reply(const ReplyHead& head, std::string_view text, Finish finish, const Timings& timings) {
  ordered_json value = head_json(head, false);
  ordered_json choice = {{"index", 0}};
  if (head.kind == ApiKind::kChat) {
    choice["message"] = {{"role", "assistant"}, {"content", text}};
  } else {
    choice["text"] = text;
  }
  choice["logprobs"] = nullptr;
  choice["finish_reason"] = finish_reason(finish);
  value["choices"] = ordered_json::array({std::move(choice)});
  value["usage"] = usage(timings);
  value["timings"] = timings_json(timings);
  return dump(value);
}

std::string stream_begin(const ReplyHead& head, bool usage_follows) {
  if (head.kind == ApiKind::kCompletion) return {};
  return event(chunk(head, {{"delta", {{"role", "assistant"}, {"content", ""}}}}, usage_follows));
}

std::string stream_text(const ReplyHead& head, std::string_view text, bool usage_follows) {
  if (head.kind == ApiKind::kCompletion) return event(chunk(head, {{"text", text}}, usage_follows));
  return event(chunk(head, {{"delta", {{"content", text}}}}, usage_follows));
}

std::string stream_end(const ReplyHead& head, Finish finish, const Timings& timings, bool usage_follows) {
  ordered_json choice = {{"finish_reason", finish_reason(finish)}};
  if (head.kind == ApiKind::kCompletion) {
    choice["text"] = "";
  } else {
    choice["delta"] = ordered_json::object();
  }
  ordered_json value = chunk(head, std::move(choice), usage_follows);
  value["timings"] = timings_json(timings);
  return event(value);
}

std::string stream_usage(const ReplyHead& head, const Timings& timings) {
  ordered_json value = head_json(head, true);
  value["choices"] = ordered_json::array();
  value["usage"] = usage(timings);
  return event(value);
}

std::string stream_error(const ApiError& error) { return event(error_json(error)); }

std::string error_reply(const ApiError& error) { return dump(error_json(error)); }

std::string models_reply(std::string_view model, std::int64_t created, std::uint32_t context_tokens) {
  const ordered_json entry = {{"id", model},
                              {"object", "model"},
                              {"created", created},
                              {"owned_by", "tiercel-llama"},
                              {"max_model_len", context_tokens}};
  return dump({{"object", "list"}, {"data", ordered_json::array({entry})}});
}

}  // namespace tiercel::llamacpp
