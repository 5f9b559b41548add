#include "connectors/llamacpp/equality.h"

#include "connectors/llamacpp/engine.h"
#include "connectors/llamacpp/options.h"

#include <tiercel/cache.h>

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <memory>
#include <span>
#include <thread>
#include <vector>

namespace tiercel::llamacpp {
namespace {

constexpr std::array kQuestions = {
    "What did the keeper of the lighthouse write into the grey book last night?",
    "And which way did the wind turn before the rain began to fall?",
    "How many ships passed the rocks, and did any of them answer the lamp?",
    "Tell me again why the bell was taken down from the northern wall.",
    "Who brought the bread and the oil when the sea was too rough for boats?",
};
constexpr const char* kBeginning =
    "You are the keeper of an old lighthouse. You answer shortly and you remember everything that was said. ";

EngineOptions engine_options(const EqualityOptions& options) {
  EngineOptions engine;
  engine.model = options.model;
  engine.slots = 1;
  engine.batch_tokens = options.batch_tokens;
  engine.block_tokens = options.batch_tokens;
  engine.threads = options.threads;
  engine.context_tokens = 256 + options.turns * (options.answer_tokens + 48);
  engine.keep_idle = false;
  engine.exact_reuse = true;
  engine.digest_directory = default_digest_directory();
  return engine;
}

struct Answer {
  std::vector<TokenId> tokens;
  Timings timings;
};

Result<Answer> ask(Engine& engine, const std::vector<TokenId>& prompt, std::uint32_t answer_tokens) {
  auto generation = std::make_shared<Generation>(GenerationRequest{
      .prompt = prompt, .sampling = {.temperature = 0}, .max_tokens = answer_tokens, .ignore_end = true, .stops = {}});
  if (engine.submit(generation) != Submitted::kYes) return fail(ErrorCode::kClosed, "the engine takes no request");
  Generation::News news;
  do {
    news = generation->wait(std::chrono::minutes(1));
  } while (news.finish == Finish::kNone);
  if (news.finish != Finish::kLength) return fail(ErrorCode::kIo, "a turn ended early: " + generation->error());
  return Answer{.tokens = generation->tokens(), .timings = generation->timings()};
}

/// Reuse begins when the weights' digest is known; before that the check would compare computing with computing.
Status wait_for_reuse(const Engine& engine) {
  while (engine.reuse().kind == ReuseState::Kind::kPending) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  if (engine.reuse().kind == ReuseState::Kind::kOn) return {};
  return fail(ErrorCode::kUnsupported, "this model is served without reuse: " + engine.reuse().why);
}

}  // namespace

Result<EqualityResult> check_equality(const EqualityOptions& options) {
  auto cache = Cache::open({.host = {.capacity = 256_MiB}});
  if (!cache) return tl::unexpected<Error>(cache.error());
  auto restoring = Engine::start(engine_options(options),
                                 [&](const SessionOptions& session) { return cache->open_session(session); });
  if (!restoring) return tl::unexpected<Error>(restoring.error());
  auto computing = Engine::start(engine_options(options), {});
  if (!computing) return tl::unexpected<Error>(computing.error());
  if (auto status = wait_for_reuse(**restoring); !status) return tl::unexpected<Error>(status.error());

  EqualityResult result;
  const ModelText& text = (*restoring)->text();
  std::vector<TokenId> prompt = text.tokenize(kBeginning);
  std::uint64_t whole_batches_before = 0;
  for (std::uint32_t turn = 0; turn < options.turns; ++turn) {
    const std::string question =
        fmt::format("\nQuestion {}: {}\nAnswer:", turn + 1, kQuestions.at(turn % kQuestions.size()));
    const std::vector<TokenId> tokens = text.tokenize(question);
    prompt.insert(prompt.end(), tokens.begin(), tokens.end());
    auto restored = ask(**restoring, prompt, options.answer_tokens);
    if (!restored) return tl::unexpected<Error>(restored.error());
    auto computed = ask(**computing, prompt, options.answer_tokens);
    if (!computed) return tl::unexpected<Error>(computed.error());

    ++result.turns;
    if (restored->tokens == computed->tokens) ++result.equal;
    result.tokens += computed->tokens.size();
    result.prompt_tokens += prompt.size();
    result.restored_tokens += restored->timings.prompt_restored;
    result.computed_tokens += restored->timings.prompt_computed;
    result.expected_restored += whole_batches_before;
    whole_batches_before = prompt.size() / options.batch_tokens * options.batch_tokens;
    // What was computed is the conversation, should the two ever differ.
    prompt.insert(prompt.end(), computed->tokens.begin(), computed->tokens.end());
  }
  return result;
}

}  // namespace tiercel::llamacpp
