// restore_bench: restoring a prompt against computing it, through the adapter and a Cache, on a real model.
//
//   restore_bench MODEL.gguf [tokens [block_tokens]]
//
// Prints, for a prompt of 2,000 tokens: first token computed and restored, and per block the cost of keeping and of
// restoring beside one memcpy of the same bytes between two places that are not in the processor's cache.
#include "connectors/llamacpp/adapter.h"
#include "connectors/llamacpp/handles.h"
#include "connectors/llamacpp/identity.h"

#include <tiercel/cache.h>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace tiercel::llamacpp {
namespace {

constexpr std::uint32_t kBatch = 512;
constexpr int kRepeats = 5;

template <class Work>
double milliseconds(Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

struct Bench {
  ModelHandle model;
  ContextHandle context;
  std::unique_ptr<Cache> cache;
  std::unique_ptr<Adapter> adapter;
  std::vector<TokenId> prompt;

  void compute(std::size_t from) {
    llama_batch batch = llama_batch_init(kBatch, 0, 1);
    for (std::size_t i = from; i < prompt.size();) {
      batch.n_tokens = 0;
      for (; i < prompt.size() && batch.n_tokens < static_cast<std::int32_t>(kBatch); ++i) {
        const auto at = batch.n_tokens++;
        batch.token[at] = prompt[i];
        batch.pos[at] = static_cast<llama_pos>(i);
        batch.n_seq_id[at] = 1;
        batch.seq_id[at][0] = 0;
        batch.logits[at] = i + 1 == prompt.size() ? 1 : 0;
      }
      if (llama_decode(context.get(), batch) != 0) std::abort();
    }
    llama_batch_free(batch);
    llama_synchronize(context.get());
  }
  void forget() { llama_memory_seq_rm(llama_get_memory(context.get()), 0, -1, -1); }
};

int open(Bench& bench, const char* path, std::size_t tokens, std::uint32_t block_tokens) {
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  bench.model.reset(llama_model_load_from_file(path, llama_model_default_params()));
  if (!bench.model) return 1;
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<std::uint32_t>(tokens) + 256;
  params.n_batch = params.n_ubatch = kBatch;
  params.n_seq_max = 2;
  params.kv_unified = true;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
  params.n_threads = params.n_threads_batch = static_cast<std::int32_t>(std::thread::hardware_concurrency());
  bench.context.reset(llama_init_from_model(bench.model.get(), params));
  if (!bench.context) return 1;
  auto cache = Cache::open({.host = {.capacity = 1_GiB}});
  if (!cache) return 1;
  bench.cache = std::make_unique<Cache>(std::move(*cache));
  auto adapter = Adapter::create([&](const SessionOptions& session) { return bench.cache->open_session(session); },
                                 bench.context.get(), identify(bench.model.get(), params, params.n_ctx, {BlockHash{}}),
                                 {.scratch = 1, .block_tokens = block_tokens});
  if (!adapter) return 1;
  bench.adapter = std::move(*adapter);
  for (std::size_t i = 0; i < tokens; ++i) bench.prompt.push_back(static_cast<TokenId>(1000 + i % 5000));
  return 0;
}

double copy_ms(std::size_t bytes) {
  constexpr std::size_t kPlaces = 64;  // more than the last-level cache holds
  std::vector<char> from(bytes * kPlaces, 'a');
  std::vector<char> to(bytes * kPlaces, 'b');
  std::vector<double> times;
  times.reserve(kPlaces);
  for (std::size_t i = 0; i < kPlaces; ++i) {
    times.push_back(milliseconds([&] { std::memcpy(&to[i * bytes], &from[i * bytes], bytes); }));
  }
  return median(times);
}

int run(const char* path, std::size_t tokens, std::uint32_t block_tokens) {
  Bench bench;
  if (open(bench, path, tokens, block_tokens) != 0) {
    std::fputs("the model, its context or the cache could not be opened\n", stderr);
    return 1;
  }
  const double computed = milliseconds([&] { bench.compute(0); });
  Trail trail = bench.adapter->start();
  const double keeping = milliseconds([&] { bench.adapter->keep(0, bench.prompt, trail, 1'000'000); });
  const std::size_t blocks = trail.kept_blocks();

  std::vector<double> restores;
  std::vector<double> tails;
  std::size_t position = 0;
  for (int i = 0; i < kRepeats; ++i) {
    bench.forget();
    Trail again;
    restores.push_back(milliseconds([&] {
      Restore restore = bench.adapter->restore(0, bench.prompt, {.limit = bench.prompt.size() - 1}, again);
      while (restore.step(8) != Restore::Step::kDone) std::this_thread::yield();
      position = restore.position();
    }));
    tails.push_back(milliseconds([&] { bench.compute(position); }));
  }
  const double restore = median(restores);
  const double copy = copy_ms(bench.adapter->block_bytes());
  const double restored_blocks = static_cast<double>(position) / bench.adapter->block_tokens();
  std::puts(fmt::format("prompt {} tokens, {} blocks of {} ({} bytes each), threads {}", tokens, blocks,
                        bench.adapter->block_tokens(), bench.adapter->block_bytes(),
                        std::thread::hardware_concurrency())
                .c_str());
  std::puts(fmt::format("first token computed   {:9.1f} ms  ({:.0f} tokens/s)", computed,
                        1000.0 * static_cast<double>(tokens) / computed)
                .c_str());
  std::puts(fmt::format(
                "first token restored   {:9.1f} ms  (restore {:.1f} ms, {} tokens computed {:.1f} ms), {:.1f}x sooner",
                restore + median(tails), restore, tokens - position, median(tails),
                computed / (restore + median(tails)))
                .c_str());
  std::puts(
      fmt::format(
          "restore a block        {:9.3f} ms\nkeep a block           {:9.3f} ms\nmemcpy of as much      {:9.3f} ms",
          restore / restored_blocks, keeping / static_cast<double>(blocks), copy)
          .c_str());
  return 0;
}

}  // namespace
}  // namespace tiercel::llamacpp

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: restore_bench MODEL.gguf [tokens [block_tokens]]\n", stderr);
    return 2;
  }
  const auto number = [&](int at, unsigned long otherwise) {
    return argc > at ? std::strtoul(argv[at], nullptr, 10) : otherwise;
  };
  return tiercel::llamacpp::run(argv[1], number(2, 2000), static_cast<std::uint32_t>(number(3, 64)));
}
