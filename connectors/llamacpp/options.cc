#include "connectors/llamacpp/options.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

namespace tiercel::llamacpp {
namespace {

const std::vector<std::pair<std::string, bool>> kOnOff = {{"on", true}, {"off", false}};

/// Binds every flag to its place in `options`. The one list of flags: help and suggestions come from it.
std::unique_ptr<CLI::App> make_app(ServerOptions& options, int& drain_seconds) {
  auto app = std::make_unique<CLI::App>("OpenAI-compatible server on llama.cpp whose prompts come back from RAM");
  app->set_help_flag();
  EngineOptions& engine = options.engine;
  app->add_option("--model", engine.model, "model file (.gguf); for a split model its first part");
  app->add_option("--model-name", options.model_name, "name in /v1/models and answers (the file's name)");
  app->add_option("--slots", engine.slots, "answers written at once (4)");
  app->add_option("--context", engine.context_tokens, "tokens of KV memory, shared by all slots (the model's)");
  app->add_option("--batch", engine.batch_tokens, "tokens of one decode call (512)");
  app->add_option("--prompt-piece", engine.prompt_piece,
                  "prompt tokens computed between two tokens of other answers (0: 500 ms worth)");
  app->add_option("--threads", engine.threads, "threads that compute (the processors)");
  app->add_option("--gpu-layers", engine.gpu_layers, "layers on a GPU, -1 for all (0)");
  app->add_option("--kv-type", engine.kv_type, "type of the KV cache: f16, q8_0, ... (f16)");
  app->add_option("--flash-attention", engine.flash_attention, "on or off (on)")
      ->transform(CLI::CheckedTransformer(kOnOff));
  app->add_option("--keep-idle", engine.keep_idle,
                  "on: an idle conversation stays in KV memory until it is needed (on)")
      ->transform(CLI::CheckedTransformer(kOnOff));
  app->add_flag("--exact-reuse", engine.exact_reuse,
                "reuse only what gives the same answer, bit for bit, as computing all (needs --slots 1)");
  app->add_option("--queue", engine.queue_capacity, "requests that may wait for a slot; more get status 429 (64)");
  app->add_option("--cache", options.cache_on, "on or off: off serves without Tiercel, for comparison (on)")
      ->transform(CLI::CheckedTransformer(kOnOff));
  app->add_option("--service", options.service,
                  "socket of the node service (tiercel serve) that keeps the blocks, instead of a cache of its own; "
                  "default: $TIERCEL_SOCKET, else the user's, else /run/tiercel/tiercel.sock; auto: $TIERCEL_SOCKET, "
                  "else one of this user's engines, started where there is none");
  app->add_option("--block-tokens", engine.block_tokens, "tokens of a block (16; 64 with --gpu-layers)");
  app->add_option("--digest-directory", engine.digest_directory,
                  "where digests of model files are kept (~/.cache/tiercel)");
  app->add_option("--host", options.host, "address to listen on (127.0.0.1)");
  app->add_option("--port", options.port, "port; 0 takes a free one (8080)")->check(CLI::Range(0, 65535));
  app->add_option("--port-file", options.port_file, "file to write the port to once the server listens");
  app->add_option("--api-key", options.api_key, "key that clients must send; also from TIERCEL_API_KEY");
  app->add_option("--drain-seconds", drain_seconds, "how long answers may go on after SIGTERM (30)")
      ->check(CLI::Range(0, 3600));
  app->add_flag("--help,-h", options.help, "this text");
  app->add_flag("--version", options.version, "versions of tiercel-llama and llama.cpp");
  return app;
}

std::vector<std::string> flag_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

std::string flag_line(const CLI::Option& option) {
  std::string name = option.get_name();
  if (option.get_type_size() > 0 && option.get_expected_min() > 0) name += " VALUE";
  return fmt::format("  {:<28} {}\n", name, option.get_description());
}

std::string_view flag_of(const std::string& word) { return std::string_view(word).substr(0, word.find('=')); }

/// Arena and disk are the service's. A file of settings may serve every program of a machine, so only flags count.
Status check_service(const ServerOptions& options, std::span<const std::string> arguments,
                     const std::vector<std::string>& own) {
  if (options.service.empty()) return {};
  if (!options.cache_on) return fail(ErrorCode::kInvalidArgument, "--service and --cache off do not go together");
  for (const std::string& word : arguments) {
    const std::string_view flag = flag_of(word);
    if (!flag.starts_with("--") || flag == "--config" || std::find(own.begin(), own.end(), flag) != own.end()) continue;
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("--service and {} do not go together: with a service, tiers are set where it is started "
                            "(tiercel serve {} ...)",
                            flag, flag));
  }
  return {};
}

}  // namespace

bool is_loopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

std::string default_digest_directory() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') {
    return std::string(cache) + "/tiercel";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    return std::string(home) + "/.cache/tiercel";
  }
  return {};
}

Result<ServerOptions> read_options(std::span<const std::string> arguments) {
  ServerOptions options;
  options.engine.digest_directory = default_digest_directory();
  int drain_seconds = static_cast<int>(options.drain.count());
  const auto app = make_app(options, drain_seconds);

  const std::vector<std::string> own = flag_names(*app);
  auto taken = take_flags(arguments, own);
  if (!taken) return tl::unexpected<Error>(taken.error());
  options.cache = taken->config;
  std::vector<std::string> rest(taken->rest.rbegin(), taken->rest.rend());  // CLI11 takes them from the back
  try {
    app->parse(std::move(rest));
  } catch (const CLI::ParseError& error) {
    return fail(ErrorCode::kInvalidArgument, error.what());
  }
  options.drain = std::chrono::seconds(drain_seconds);
  if (options.help || options.version) return options;
  if (Status status = check_service(options, arguments, own); !status) return tl::unexpected<Error>(status.error());
  if (options.engine.model.empty()) {
    return fail(ErrorCode::kInvalidArgument, "--model is missing; give the .gguf file of a model");
  }
  if (options.api_key.empty()) {
    if (const char* key = std::getenv("TIERCEL_API_KEY"); key != nullptr) options.api_key = key;
  }
  if (options.model_name.empty()) options.model_name = std::filesystem::path(options.engine.model).stem().string();
  return options;
}

std::string help_text() {
  ServerOptions options;
  int drain_seconds = 0;
  const auto app = make_app(options, drain_seconds);
  std::string text = "usage: tiercel-llama --model FILE.gguf [flags]\n\n" + app->get_description() + "\n\n";
  for (const CLI::Option* option : app->get_options()) text += flag_line(*option);
  return text + "\nFlags of the cache:\n" + flags_help();
}

}  // namespace tiercel::llamacpp
