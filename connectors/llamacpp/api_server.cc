#include "connectors/llamacpp/api_server.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <random>
#include <string_view>
#include <utility>

namespace tiercel::llamacpp {
namespace {

constexpr auto kLookForClient = std::chrono::milliseconds(100);
constexpr const char* kJson = "application/json";

std::int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Takes the same time wherever the two differ.
bool same_secret(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const char other = b.empty() ? '\0' : b[i % b.size()];
    difference |= static_cast<unsigned>(a[i] ^ other) & 0xFFU;
  }
  return difference == 0;
}

bool names_this_machine(std::string host) {
  if (host.empty()) return true;  // HTTP/1.0
  const auto port = host.rfind(':');
  if (port != std::string::npos && host.find(']', port) == std::string::npos) host.resize(port);
  std::transform(host.begin(), host.end(), host.begin(), [](unsigned char c) { return std::tolower(c); });
  static constexpr std::array kNames = {"localhost", "127.0.0.1", "[::1]"};
  return std::find(kNames.begin(), kNames.end(), host) != kNames.end();
}

ApiError server_error(int status, std::string message, std::string code = {}) {
  return {
      .status = status, .message = std::move(message), .type = "server_error", .param = {}, .code = std::move(code)};
}

ApiError of_finish(Finish finish, const std::string& why) {
  if (finish == Finish::kShutdown) return server_error(503, "the server is stopping", "shutting_down");
  if (finish == Finish::kCancelled) return server_error(499, "the client closed the connection");
  return server_error(500, why.empty() ? "the engine failed" : why);
}

bool answered(Finish finish) { return finish == Finish::kStop || finish == Finish::kLength; }

}  // namespace

ApiServer::ApiServer(Engine& engine, ApiServerOptions options)
    : engine_(engine),
      options_(std::move(options)),
      started_(unix_seconds()),
      id_prefix_(fmt::format("{:08x}", std::random_device{}())),
      http_(options_.http) {
  register_routes();
}

void ApiServer::register_routes() {
  http_.set_payload_max_length(std::size_t{16} << 20U);
  http_.set_pre_routing_handler([this](const Request& request, Response& response) {
    return admit(request, response) ? httplib::Server::HandlerResponse::Unhandled
                                    : httplib::Server::HandlerResponse::Handled;
  });
  http_.Post("/v1/chat/completions", [this](const Request& q, Response& r) { complete(ApiKind::kChat, q, r); });
  http_.Post("/v1/completions", [this](const Request& q, Response& r) { complete(ApiKind::kCompletion, q, r); });
  http_.Get("/v1/models", [this](const Request&, Response& r) {
    r.set_content(models_reply(options_.model_name, started_, engine_.context_tokens()), kJson);
  });
  http_.Get("/health", [this](const Request&, Response& r) { health(r); });
  http_.Get("/metrics", [this](const Request&, Response& r) {
    std::string text = options_.cache_metrics ? options_.cache_metrics() : std::string{};
    r.set_content(text + metrics_.text(engine_.stats(), http_.open_connections()), "text/plain; version=0.0.4");
  });
  http_.set_error_handler([](const Request& q, Response& r) {
    if (!r.body.empty()) return;  // a handler said it better
    ApiError error{.status = r.status,
                   .message = fmt::format("{} {} is not something this server does", q.method, q.path)};
    if (r.status == 413) {
      error.message = "the request's body is larger than 16 MiB";
    } else if (r.status != 404) {
      error.message = fmt::format("the request could not be read (HTTP status {})", r.status);
    }
    HttpServer::close_this_after_reply();  // what is left of such a request is no next request
    r.set_content(error_reply(error), kJson);
  });
  http_.set_exception_handler([this](const Request&, Response& r, std::exception_ptr thrown) {
    std::string what;
    try {
      std::rethrow_exception(std::move(thrown));
    } catch (const std::exception& error) {
      what = error.what();
    } catch (...) {
      what = "the server failed without saying why";
    }
    refuse(r, server_error(500, what));
  });
}

void ApiServer::refuse(Response& response, const ApiError& error) {
  metrics_.refused(error.status);
  response.status = error.status;
  response.set_content(error_reply(error), kJson);
}

bool ApiServer::admit(const Request& request, Response& response) {
  if (options_.loopback && !names_this_machine(request.get_header_value("Host"))) {
    refuse(response,
           {.status = 403, .message = "this server answers to localhost only; start it with --host to open it"});
    return false;
  }
  if (options_.api_key.empty() || request.path == "/health") return true;
  constexpr std::string_view kScheme = "Bearer ";
  const std::string given = request.get_header_value("Authorization");
  if (given.starts_with(kScheme) && same_secret(options_.api_key, std::string_view(given).substr(kScheme.size()))) {
    return true;
  }
  refuse(response, {.status = 401,
                    .message = given.empty() ? "no API key was given; send \"Authorization: Bearer KEY\""
                                             : "the API key is not the one this server was started with",
                    .code = "invalid_api_key"});
  return false;
}

void ApiServer::health(Response& response) const {
  static constexpr std::array kReuse = {"off", "pending", "on", "unsupported"};
  const ReuseState reuse = engine_.reuse();
  nlohmann::ordered_json body = {{"status", "ok"}, {"reuse", kReuse.at(static_cast<std::size_t>(reuse.kind))}};
  if (!reuse.why.empty()) body["reuse_reason"] = reuse.why;
  const EngineStats stats = engine_.stats();
  body["slots_busy"] = stats.batcher.slots_busy;
  body["slots"] = stats.slots;
  body["queued"] = stats.queued;
  response.set_content(body.dump(), kJson);
}

ApiResult<GenerationRequest> ApiServer::prepare(ApiRequest&& request) const {
  const ModelText& text = engine_.text();
  GenerationRequest generation;
  if (const auto* messages = std::get_if<std::vector<ChatMessage>>(&request.prompt)) {
    auto prompt = text.chat_prompt(*messages);
    if (!prompt) return tl::unexpected<ApiError>(ApiError{.message = prompt.error().message, .param = "messages"});
    generation.prompt = text.tokenize(*prompt);
  } else if (const auto* plain = std::get_if<std::string>(&request.prompt)) {
    generation.prompt = text.tokenize(*plain);
  } else {
    generation.prompt = std::get<std::vector<TokenId>>(std::move(request.prompt));
    const auto bad = std::find_if(generation.prompt.begin(), generation.prompt.end(),
                                  [&](TokenId token) { return token >= text.vocabulary_size(); });
    if (bad != generation.prompt.end()) {
      return tl::unexpected<ApiError>(ApiError{
          .message = fmt::format("\"prompt\" has the token id {}; the model has {}", *bad, text.vocabulary_size()),
          .param = "prompt"});
    }
  }
  if (generation.prompt.empty()) {
    return tl::unexpected<ApiError>(
        ApiError{.message = "the prompt is empty; at least one token is needed", .param = "prompt"});
  }
  auto limit =
      answer_limit(request.max_tokens, generation.prompt.size(), engine_.context_tokens(), engine_.options().slots);
  if (!limit) {
    limit.error().param = request.kind == ApiKind::kChat ? "messages" : "prompt";
    return tl::unexpected<ApiError>(limit.error());
  }
  generation.max_tokens = *limit;
  generation.sampling = request.sampling;
  generation.stops = std::move(request.stops);
  generation.ignore_end = request.ignore_end;
  return generation;
}

ReplyHead ApiServer::new_head(ApiKind kind) {
  const std::uint64_t number = next_id_.fetch_add(1, std::memory_order_relaxed);
  return {.kind = kind,
          .id = fmt::format("{}-{}{:08x}", kind == ApiKind::kChat ? "chatcmpl" : "cmpl", id_prefix_, number),
          .model = options_.model_name,
          .created = unix_seconds()};
}

void ApiServer::complete(ApiKind kind, const Request& request, Response& response) {
  auto parsed = parse_request(kind, request.body);
  if (!parsed) return refuse(response, parsed.error());
  const bool stream = parsed->stream;
  const bool usage = parsed->include_usage;
  auto prepared = prepare(std::move(*parsed));
  if (!prepared) return refuse(response, prepared.error());

  auto generation = std::make_shared<Generation>(std::move(*prepared));
  switch (engine_.submit(generation)) {
    case Submitted::kYes:
      break;
    case Submitted::kQueueFull:
      response.set_header("Retry-After", "1");
      return refuse(response, {.status = 429,
                               .message = fmt::format("{} requests wait already; try again in a moment",
                                                      engine_.options().queue_capacity),
                               .type = "rate_limit_error",
                               .param = {},
                               .code = "queue_full"});
    case Submitted::kDraining:
      response.set_header("Retry-After", "5");
      return refuse(response, of_finish(Finish::kShutdown, {}));
  }
  const ReplyHead head = new_head(kind);
  if (stream) {
    answer_stream(head, generation, usage, response);
  } else {
    answer_whole(head, generation, response);
  }
}

void ApiServer::answer_whole(const ReplyHead& head, const std::shared_ptr<Generation>& generation, Response& response) {
  std::string text;
  Generation::News news;
  do {
    news = generation->wait(kLookForClient);
    text += news.text;
    if (news.finish == Finish::kNone && HttpServer::client_gone()) generation->cancel();
  } while (news.finish == Finish::kNone);
  const Timings timings = generation->timings();
  metrics_.observe(news.finish, timings);
  if (!answered(news.finish)) {
    if (news.finish == Finish::kShutdown) response.set_header("Retry-After", "5");
    return refuse(response, of_finish(news.finish, generation->error()));
  }
  response.set_content(whole_reply(head, text, news.finish, timings), kJson);
}

void ApiServer::answer_stream(const ReplyHead& head, const std::shared_ptr<Generation>& generation, bool usage,
                              Response& response) {
  // What the provider has said so far; it is called again and again until it is done.
  struct State {
    bool begun = false;
    bool counted = false;
  };
  auto state = std::make_shared<State>();
  const auto count = [this, generation, state](Finish finish) {
    if (!std::exchange(state->counted, true)) metrics_.observe(finish, generation->timings());
  };
  const auto provider = [=](std::size_t, httplib::DataSink& sink) {
    const auto send = [&](std::string_view event) { return event.empty() || sink.write(event.data(), event.size()); };
    const Generation::News news = generation->wait(kLookForClient);
    if (news.finish == Finish::kNone && news.text.empty()) return !HttpServer::client_gone();
    std::string events;
    if (!std::exchange(state->begun, true)) events += stream_begin(head, usage);
    if (!news.text.empty()) events += stream_text(head, news.text, usage);
    if (news.finish == Finish::kNone) return send(events);

    const Timings timings = generation->timings();
    count(news.finish);
    if (answered(news.finish)) {
      events += stream_end(head, news.finish, timings, usage);
      if (usage) events += stream_usage(head, timings);
    } else {
      events += stream_error(of_finish(news.finish, generation->error()));
    }
    events += kStreamDone;
    if (!send(events)) return false;
    sink.done();
    return true;
  };
  response.set_header("Cache-Control", "no-cache");
  response.set_chunked_content_provider("text/event-stream", provider, [generation, count](bool) {
    generation->cancel();  // does nothing to an answer that is complete
    count(Finish::kCancelled);
  });
}

}  // namespace tiercel::llamacpp
