// The adapter on a real model: what is kept comes back bit for bit, and what libllama refuses is rolled back.
#include "connectors/llamacpp/adapter.h"

#include "connectors/llamacpp/batcher.h"
#include "connectors/llamacpp/equality.h"
#include "connectors/llamacpp/handles.h"
#include "connectors/llamacpp/identity.h"

#include <tiercel/cache.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::llamacpp {
namespace {

constexpr llama_seq_id kScratch = 2;
constexpr std::uint32_t kBlock = 16;

/// One model for all tests; two sequences and the scratch in a small context.
class AdapterTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(std::filesystem::exists(TIERCEL_TEST_MODEL))
        << TIERCEL_TEST_MODEL << " is missing; run tools/get_model";
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    llama_backend_init();
    shared_model.reset(llama_model_load_from_file(TIERCEL_TEST_MODEL, llama_model_default_params()));
    ASSERT_TRUE(shared_model);
  }
  static void TearDownTestSuite() { shared_model.reset(); }

  static llama_context_params params(std::uint32_t context_tokens = 512) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = context_tokens;
    params.n_batch = 256;
    params.n_ubatch = 256;
    params.n_seq_max = 3;
    params.kv_unified = true;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    params.n_threads = params.n_threads_batch = 2;
    return params;
  }

  void open(const llama_context_params& with = params(), std::uint32_t block_tokens = kBlock) {
    llama_.reset(llama_init_from_model(shared_model.get(), with));
    ASSERT_TRUE(llama_);
    kv_ = llama_get_memory(llama_.get());
    if (!store_) {
      auto cache = Cache::open({.host = {.capacity = 128_MiB, .prefault = false}});
      ASSERT_TRUE(cache) << cache.error().message;
      store_.emplace(std::move(*cache));
    }
    AdapterOptions options;
    options.scratch = kScratch;
    options.block_tokens = block_tokens;
    options.evict_idlest = [this] { return on_full_ && on_full_(); };
    auto adapter = Adapter::create([this](const SessionOptions& session) { return store_->open_session(session); },
                                   llama_.get(), identity(with), options);
    ASSERT_TRUE(adapter) << adapter.error().message;
    tested_ = std::move(*adapter);
  }

  static ModelIdentity identity(const llama_context_params& with) {
    return identify(shared_model.get(), with, with.n_ctx, {BlockHash{}});
  }

  static std::vector<TokenId> tokens(std::size_t n, TokenId first = 1000) {
    std::vector<TokenId> tokens(n);
    std::iota(tokens.begin(), tokens.end(), first);
    return tokens;
  }

  /// Computes tokens [from, to) into `seq`.
  void compute(llama_seq_id seq, const std::vector<TokenId>& tokens, std::size_t from, std::size_t to) {
    llama_batch batch = llama_batch_init(static_cast<std::int32_t>(to - from), 0, 1);
    for (std::size_t i = from; i < to; ++i) {
      const auto at = batch.n_tokens++;
      batch.token[at] = tokens[i];
      batch.pos[at] = static_cast<llama_pos>(i);
      batch.n_seq_id[at] = 1;
      batch.seq_id[at][0] = seq;
      batch.logits[at] = i + 1 == to ? 1 : 0;
    }
    EXPECT_EQ(llama_decode(llama_.get(), batch), 0);
    llama_batch_free(batch);
  }

  std::vector<std::uint8_t> blob(llama_seq_id seq, std::size_t first, std::size_t n) {
    llama_memory_seq_cp(kv_, seq, kScratch, static_cast<llama_pos>(first), static_cast<llama_pos>(first + n));
    std::vector<std::uint8_t> bytes(llama_state_seq_get_size(llama_.get(), kScratch));
    EXPECT_EQ(llama_state_seq_get_data(llama_.get(), bytes.data(), bytes.size(), kScratch), bytes.size());
    llama_memory_seq_rm(kv_, kScratch, -1, -1);
    return bytes;
  }

  void compute_and_keep(const std::vector<TokenId>& prompt) {
    compute(0, prompt, 0, prompt.size());
    Trail trail = tested_->start();
    EXPECT_TRUE(tested_->keep(0, prompt, trail, 1000));
    EXPECT_EQ(trail.kept_blocks(), prompt.size() / kBlock);
  }
  void forget(llama_seq_id seq) { llama_memory_seq_rm(kv_, seq, -1, -1); }
  llama_pos last(llama_seq_id seq) { return llama_memory_seq_pos_max(kv_, seq); }

  /// Restores to the end, in pieces; fails the test if it does not end.
  Restore restore_all(const std::vector<TokenId>& prompt, std::size_t present = 0) {
    Restore restore = tested_->restore(0, prompt, {.present = present, .limit = prompt.size() - 1}, found_trail_);
    for (int i = 0; i < 100'000; ++i) {
      if (restore.step(3) == Restore::Step::kDone) return restore;
    }
    ADD_FAILURE() << "the restore does not end";
    return restore;
  }

  /// Puts any bytes into the cache as block `block` of `prompt`.
  void forge(const std::vector<TokenId>& prompt, std::size_t block, const std::vector<std::uint8_t>& bytes) {
    SessionOptions options{
        .model = identity(params()), .block_tokens = kBlock, .layout = Layout::blob(tested_->block_bytes())};
    auto session = store_->open_session(options);
    ASSERT_TRUE(session) << session.error().message;
    Reservation room = session->reserve(hash_blocks(session->space(), prompt), block, 1);
    ASSERT_EQ(room.outcome(0), Reserved::kYes);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<std::uint8_t*>(room.writer(0).bytes().data()));
    ASSERT_TRUE(room.writer(0).commit(bytes.size()));
  }

  static inline ModelHandle shared_model;
  ContextHandle llama_;
  llama_memory_t kv_ = nullptr;
  std::optional<Cache> store_;
  std::unique_ptr<Adapter> tested_;
  std::function<bool()> on_full_;
  Trail found_trail_;
};

TEST_F(AdapterTest, ABlockHasTheMeasuredSizeAtAnyPlace) {
  for (const bool flash : {true, false}) {
    llama_context_params with = params();
    with.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    open(with);
    const auto prompt = tokens(120);
    compute(0, prompt, 0, 40);
    compute(1, prompt, 0, 7);  // so that the cells of sequence 0 do not lie side by side
    compute(0, prompt, 40, 120);
    for (const std::size_t first : {0U, 32U, 100U}) EXPECT_EQ(blob(0, first, kBlock).size(), tested_->block_bytes());
  }
}

TEST_F(AdapterTest, WhatWasKeptComesBackBitForBit) {
  open();
  const auto prompt = tokens(5 * kBlock + 3);
  compute_and_keep(prompt);
  const auto before = blob(0, 0, 5 * kBlock);
  forget(0);
  const Restore restored = restore_all(prompt);
  EXPECT_EQ(restored.position(), 5 * kBlock);
  EXPECT_EQ(restored.restored_bytes(), 5 * tested_->block_bytes());
  EXPECT_EQ(last(0), static_cast<llama_pos>(5 * kBlock - 1));
  EXPECT_EQ(llama_memory_seq_pos_min(kv_, 0), 0);
  EXPECT_EQ(last(kScratch), -1);
  EXPECT_EQ(blob(0, 0, 5 * kBlock), before);
}

TEST_F(AdapterTest, OneTokenIsAlwaysLeftToCompute) {
  open();
  const auto prompt = tokens(4 * kBlock);
  compute_and_keep(prompt);
  forget(0);
  EXPECT_EQ(restore_all(prompt).position(), 3 * kBlock);
}

TEST_F(AdapterTest, AnotherPromptRestoresTheCommonBlocks) {
  open();
  compute_and_keep(tokens(6 * kBlock));
  forget(0);
  auto other = tokens(6 * kBlock);
  other[3 * kBlock + 1] = 5;
  EXPECT_EQ(restore_all(other).position(), 3 * kBlock);
}

TEST_F(AdapterTest, ARestoreComesInPieces) {
  open();
  const auto prompt = tokens(6 * kBlock + 1);
  compute_and_keep(prompt);
  forget(0);
  Restore restore = tested_->restore(0, prompt, {.limit = prompt.size() - 1}, found_trail_);
  EXPECT_EQ(restore.step(4), Restore::Step::kMore);
  EXPECT_EQ(restore.position(), 4 * kBlock);
  EXPECT_EQ(last(0), static_cast<llama_pos>(4 * kBlock - 1));
  EXPECT_EQ(restore.step(4), Restore::Step::kDone);
  EXPECT_EQ(restore.position(), 6 * kBlock);
}

TEST_F(AdapterTest, PresentTokensStayOrGiveWayToTheirBlock) {
  open();
  const auto prompt = tokens(4 * kBlock + 1);
  compute_and_keep(prompt);
  llama_memory_seq_rm(kv_, 0, kBlock + 5, -1);
  Restore restore = restore_all(prompt, kBlock + 5);
  EXPECT_EQ(restore.present_tokens(), kBlock);
  EXPECT_EQ(restore.position(), 4 * kBlock);
  EXPECT_EQ(last(0), static_cast<llama_pos>(4 * kBlock - 1));

  const std::uint64_t before = tested_->counters().restored_blocks;
  restore = restore_all(prompt, 4 * kBlock);  // nothing to gain: the sequence has as much
  EXPECT_EQ(restore.position(), 4 * kBlock);
  EXPECT_EQ(restore.present_tokens(), 4 * kBlock);
  EXPECT_EQ(tested_->counters().restored_blocks, before);
}

TEST_F(AdapterTest, BlocksAreKeptAsTheyFillWhileDecoding) {
  open();
  const auto prompt = tokens(2 * kBlock + 4);
  Trail trail = tested_->start();
  compute(0, prompt, 0, kBlock - 1);
  tested_->keep(0, std::span(prompt).first(kBlock - 1), trail, 8);
  EXPECT_EQ(trail.kept_blocks(), 0U);
  for (std::size_t i = kBlock - 1; i < prompt.size(); ++i) {
    compute(0, prompt, i, i + 1);
    tested_->keep(0, std::span(prompt).first(i + 1), trail, 8);
    EXPECT_EQ(trail.kept_blocks(), (i + 1) / kBlock);
  }
  EXPECT_EQ(tested_->counters().kept_blocks, 2U);
  forget(0);
  EXPECT_EQ(restore_all(prompt).position(), 2 * kBlock);
}

TEST_F(AdapterTest, AFullCacheRollsBackToTheLastGoodBlock) {
  open(params(256));
  const auto prompt = tokens(12 * kBlock + 1);
  compute_and_keep(prompt);
  forget(0);
  compute(1, tokens(256 - 5 * kBlock, 9000), 0, 256 - 5 * kBlock);  // room for five blocks is left
  const Restore restore = restore_all(prompt);
  EXPECT_EQ(restore.position(), 5 * kBlock);
  EXPECT_EQ(last(0), static_cast<llama_pos>(5 * kBlock - 1));
  EXPECT_EQ(last(kScratch), -1);
  EXPECT_EQ(last(1), static_cast<llama_pos>(256 - 5 * kBlock - 1));
  EXPECT_EQ(tested_->counters().rollbacks, 1U);
  EXPECT_EQ(tested_->counters().evict_retries, 0U);
  // The sequence is a true prefix: what follows can be computed on it.
  forget(1);
  compute(0, prompt, 5 * kBlock, prompt.size());
  EXPECT_EQ(last(0), static_cast<llama_pos>(12 * kBlock));
}

TEST_F(AdapterTest, AFullCacheEvictsTheIdlestAndTriesAgain) {
  open(params(256));
  const auto prompt = tokens(12 * kBlock + 1);
  compute_and_keep(prompt);
  forget(0);
  compute(1, tokens(240, 9000), 0, 240);
  int evictions = 0;
  on_full_ = [&] {
    ++evictions;
    forget(1);
    return true;
  };
  EXPECT_EQ(restore_all(prompt).position(), 12 * kBlock);
  EXPECT_EQ(evictions, 1);
  EXPECT_EQ(tested_->counters().evict_retries, 1U);
  EXPECT_EQ(tested_->counters().rollbacks, 0U);
}

TEST_F(AdapterTest, ABlockOfOtherPositionsIsRefused) {
  open();
  const auto prompt = tokens(3 * kBlock + 1);
  compute(0, prompt, 0, prompt.size());
  const auto second = blob(0, kBlock, kBlock);
  forge(prompt, 0, second);
  forget(0);
  EXPECT_EQ(restore_all(prompt).position(), 0U);
  EXPECT_EQ(tested_->counters().not_contiguous, 1U);
  EXPECT_EQ(last(0), -1);
  EXPECT_EQ(last(kScratch), -1);
}

TEST_F(AdapterTest, ABlockOfAnotherLengthIsNotGivenToLlama) {
  open();
  const auto prompt = tokens(3 * kBlock + 1);
  compute(0, prompt, 0, prompt.size());
  forge(prompt, 0, blob(0, 0, kBlock / 2));
  forget(0);
  EXPECT_EQ(restore_all(prompt).position(), 0U);
  EXPECT_EQ(tested_->counters().refused_loads, 0U);
  EXPECT_EQ(last(0), -1);
}

TEST_F(AdapterTest, OtherSettingsAreOtherNamespaces) {
  const auto fingerprint = [&](const llama_context_params& with) {
    open(with);
    return to_hex(tested_->space().fingerprint());
  };
  std::vector<std::string> seen = {fingerprint(params())};
  EXPECT_EQ(fingerprint(params()), seen[0]);
  const auto differs = [&](auto change) {
    llama_context_params with = params();
    change(with);
    const std::string name = fingerprint(with);
    EXPECT_EQ(std::count(seen.begin(), seen.end(), name), 0);
    seen.push_back(name);
  };
  differs([](auto& with) { with.type_k = with.type_v = GGML_TYPE_Q8_0; });
  differs([](auto& with) { with.type_k = GGML_TYPE_Q8_0; });
  differs([](auto& with) { with.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED; });
  differs([](auto& with) { with.rope_freq_base = 20000.0F; });
  differs([](auto& with) { with.rope_freq_scale = 0.5F; });
  differs([](auto& with) { with.rope_scaling_type = LLAMA_ROPE_SCALING_TYPE_YARN; });
  // What changes no block's meaning changes no name.
  llama_context_params with = params();
  with.n_threads = with.n_threads_batch = 1;
  with.n_ubatch = 128;
  with.n_ctx = 1024;
  EXPECT_EQ(fingerprint(with), seen[0]);
}

TEST_F(AdapterTest, AContextThatCannotCopySequencesIsNamed) {
  llama_context_params with = params();
  EXPECT_EQ(why_no_reuse(shared_model.get(), with), "");
  with.kv_unified = false;
  EXPECT_NE(why_no_reuse(shared_model.get(), with).find("kv_unified"), std::string::npos);
}

TEST_F(AdapterTest, AnswersGoOnWhileALongPromptIsRestored) {
  constexpr std::size_t kBlocks = 20;
  open();
  const ModelText text(shared_model.get());
  const auto prompt = tokens(kBlocks * kBlock + 1);
  compute(0, std::vector<TokenId>(prompt), 0, 200);
  compute(0, std::vector<TokenId>(prompt), 200, prompt.size());
  Trail trail = tested_->start();
  ASSERT_TRUE(tested_->keep(0, prompt, trail, 1000));
  forget(0);

  const Adapter& adapter = *tested_;
  Batcher batcher(text, llama_.get(), {.slots = 2});
  batcher.set_adapter(std::move(tested_));
  const auto ask = [&](std::vector<TokenId> tokens) {
    auto generation = std::make_shared<Generation>(GenerationRequest{.prompt = std::move(tokens),
                                                                     .sampling = {.temperature = 0},
                                                                     .max_tokens = 12,
                                                                     .ignore_end = true,
                                                                     .stops = {}});
    EXPECT_TRUE(batcher.admit(generation));
    return generation;
  };
  const auto answering = ask(tokens(3, 500));
  for (int turn = 0; turn < 100'000 && answering->tokens().empty(); ++turn) batcher.step();  // it waits for company
  ASSERT_EQ(answering->tokens().size(), 1U);
  const auto restoring = ask(prompt);
  std::size_t answered = answering->tokens().size();
  std::size_t tokens_between = 0;  // of the other answer, while the prompt is restored
  std::uint64_t base = adapter.counters().restored_blocks;
  for (int turn = 0; turn < 50 && adapter.counters().restored_blocks < kBlocks; ++turn) {
    batcher.step();
    EXPECT_LE(adapter.counters().restored_blocks - base, 8U) << "blocks between two tokens of the other answer";
    if (answering->tokens().size() == answered) continue;
    EXPECT_EQ(answering->tokens().size(), ++answered);
    base = adapter.counters().restored_blocks;
    ++tokens_between;
  }
  EXPECT_EQ(adapter.counters().restored_blocks, kBlocks);
  EXPECT_EQ(tokens_between, 2U);  // 8 blocks, a token, 8 blocks, a token, 4 blocks
  while (batcher.busy()) batcher.step();
  EXPECT_EQ(restoring->timings().prompt_restored, kBlocks * kBlock);
  EXPECT_EQ(restoring->timings().prompt_computed, 1U);
  EXPECT_EQ(restoring->tokens().size(), 12U);
}

TEST_F(AdapterTest, IdleConversationsGiveTheirCellsBackIdlestFirst) {
  open(params(256));
  tested_.reset();
  const ModelText text(shared_model.get());
  Batcher batcher(text, llama_.get(), {.slots = 2});
  const auto run = [&](std::vector<TokenId> prompt) {
    auto generation = std::make_shared<Generation>(GenerationRequest{
        .prompt = std::move(prompt), .sampling = {.temperature = 0}, .max_tokens = 1, .ignore_end = true, .stops = {}});
    EXPECT_TRUE(batcher.admit(generation));
    while (batcher.busy()) batcher.step();
    EXPECT_EQ(generation->tokens().size(), 1U);
    return generation->timings();
  };
  const auto first = tokens(100, 100);
  const auto second = tokens(100, 2000);
  run(first);
  run(second);
  EXPECT_EQ(run(first).prompt_from_engine, 99U) << "a finished conversation stays";
  run(tokens(200, 5000));  // needs the cells of the second, then those of the first
  EXPECT_GE(batcher.stats().idle_evictions, 1U);
  EXPECT_EQ(run(first).prompt_from_engine, 0U);
}

TEST(WeightFiles, ASplitModelIsAllItsParts) {
  EXPECT_EQ(weight_files("a/m.gguf"), (std::vector<std::string>{"a/m.gguf"}));
  EXPECT_EQ(
      weight_files("a/m-00001-of-00003.gguf"),
      (std::vector<std::string>{"a/m-00001-of-00003.gguf", "a/m-00002-of-00003.gguf", "a/m-00003-of-00003.gguf"}));
  EXPECT_EQ(weight_files("m-00004-of-00003.gguf").size(), 1U);
}

/// Under the rule of equal splits: restored and computed answers agree in every token.
TEST(Equality, TwentyTurnsTokenForToken) {
  ASSERT_TRUE(std::filesystem::exists(TIERCEL_TEST_MODEL)) << TIERCEL_TEST_MODEL << " is missing; run tools/get_model";
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  const auto result = check_equality({.model = TIERCEL_TEST_MODEL, .turns = 20});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->turns, 20U);
  EXPECT_EQ(result->equal, 20U);
  EXPECT_EQ(result->tokens, 20U * 12U);
  EXPECT_EQ(result->restored_tokens, result->expected_restored);
  EXPECT_EQ(result->restored_tokens + result->computed_tokens, result->prompt_tokens);
}

}  // namespace
}  // namespace tiercel::llamacpp
