// tiercel-llama-equality: runs check_equality on a model and prints what came out; exits 0 only if all turns agree.
#include "connectors/llamacpp/equality.h"

#include <fmt/format.h>
#include <llama.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <exception>
#include <string>

namespace {

int run(int argc, char** argv) {
  tiercel::llamacpp::EqualityOptions options;
  bool as_json = false;
  CLI::App app("Are answers on restored prefixes the same, token for token, as on computed ones?");
  app.add_option("--model", options.model, "model file (.gguf)")->required();
  app.add_option("--turns", options.turns, "turns of the conversation (20)")->check(CLI::Range(1, 500));
  app.add_option("--answer-tokens", options.answer_tokens, "tokens of an answer (12)")->check(CLI::Range(1, 500));
  app.add_option("--threads", options.threads, "threads that compute (the processors)");
  app.add_flag("--json", as_json, "print one line of JSON");
  CLI11_PARSE(app, argc, argv);

  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  const auto result = tiercel::llamacpp::check_equality(options);
  if (!result) {
    std::fputs(fmt::format("error: {}\n", result.error().message).c_str(), stderr);
    return 2;
  }
  if (as_json) {
    const nlohmann::ordered_json json = {{"turns", result->turns},
                                         {"equal", result->equal},
                                         {"tokens", result->tokens},
                                         {"prompt_tokens", result->prompt_tokens},
                                         {"restored_tokens", result->restored_tokens},
                                         {"computed_tokens", result->computed_tokens}};
    std::puts(json.dump().c_str());
  } else {
    std::puts(fmt::format("{} of {} turns equal ({} tokens); {} of {} prompt tokens restored", result->equal,
                          result->turns, result->tokens, result->restored_tokens, result->prompt_tokens)
                  .c_str());
  }
  const bool restored = result->turns < 2 || result->restored_tokens > 0;
  return result->equal == result->turns && restored ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fputs(fmt::format("error: {}\n", error.what()).c_str(), stderr);
    return 2;
  }
}
