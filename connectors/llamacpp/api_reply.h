// Replies of OpenAI's API as JSON text: whole answers, stream chunks, models, errors.
//
// Pure functions. `timings` is this server's addition to every answer (and to the last chunk of a stream): what was
// computed, what was restored, and the time to the first token.
#pragma once

#include "connectors/llamacpp/api_request.h"
#include "connectors/llamacpp/generation.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace tiercel::llamacpp {

/// What all parts of one answer repeat.
struct ReplyHead {
  ApiKind kind = ApiKind::kChat;
  std::string id;  ///< "chatcmpl-..." or "cmpl-..."
  std::string model;
  std::int64_t created = 0;  ///< seconds since 1970
};

[[nodiscard]] std::string whole_reply(const ReplyHead& head, std::string_view text, Finish finish,
                                      const Timings& timings);

/// One event of a stream, "data: {...}\n\n". The first of a chat carries the role.
[[nodiscard]] std::string stream_begin(const ReplyHead& head, bool usage_follows);
[[nodiscard]] std::string stream_text(const ReplyHead& head, std::string_view text, bool usage_follows);
[[nodiscard]] std::string stream_end(const ReplyHead& head, Finish finish, const Timings& timings, bool usage_follows);
[[nodiscard]] std::string stream_usage(const ReplyHead& head, const Timings& timings);
[[nodiscard]] std::string stream_error(const ApiError& error);
inline constexpr std::string_view kStreamDone = "data: [DONE]\n\n";

[[nodiscard]] std::string error_reply(const ApiError& error);
[[nodiscard]] std::string models_reply(std::string_view model, std::int64_t created, std::uint32_t context_tokens);

/// "stop" or "length".
[[nodiscard]] std::string_view finish_reason(Finish finish);

}  // namespace tiercel::llamacpp
