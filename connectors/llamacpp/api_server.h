// ApiServer: the routes of the OpenAI API on an HttpServer, in front of one Engine.
//
//   POST /v1/chat/completions  /v1/completions     GET /v1/models  /health  /metrics
//
// Handlers run on the server's workers and wait there for the engine; the queue of the engine bounds how many. A client
// that goes away cancels its request. Borrows the engine, which outlives it. Errors leave as
// {"error": {...}} with the status that OpenAI's clients expect.
#pragma once

#include "connectors/llamacpp/api_reply.h"
#include "connectors/llamacpp/engine.h"
#include "connectors/llamacpp/http_server.h"
#include "connectors/llamacpp/server_metrics.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace tiercel::llamacpp {

struct ApiServerOptions {
  std::string model_name;  ///< of /v1/models and of answers
  std::string api_key;     ///< empty: none is asked for
  bool loopback = true;    ///< answer only to names of this machine (a page of a browser must not reach it by another)
  std::function<std::string()> cache_metrics;  ///< Prometheus text that /metrics shows first; may be empty
  HttpOptions http;
};

class ApiServer {
 public:
  ApiServer(Engine& engine, ApiServerOptions options);

  [[nodiscard]] HttpServer& http() noexcept { return http_; }

 private:
  using Request = httplib::Request;
  using Response = httplib::Response;

  void register_routes();
  bool admit(const Request& request, Response& response);
  void complete(ApiKind kind, const Request& request, Response& response);
  ApiResult<GenerationRequest> prepare(ApiRequest&& request) const;
  void answer_whole(const ReplyHead& head, const std::shared_ptr<Generation>& generation, Response& response);
  void answer_stream(const ReplyHead& head, const std::shared_ptr<Generation>& generation, bool usage,
                     Response& response);
  void health(Response& response) const;
  void refuse(Response& response, const ApiError& error);
  ReplyHead new_head(ApiKind kind);

  Engine& engine_;
  ApiServerOptions options_;
  std::int64_t started_;
  std::string id_prefix_;
  std::atomic<std::uint64_t> next_id_{0};  // only unique
  ServerMetrics metrics_;
  HttpServer http_;
};

}  // namespace tiercel::llamacpp
