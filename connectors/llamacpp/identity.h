// What decides the bytes of a llama.cpp KV block besides its tokens, as a ModelIdentity.
//
// In the fingerprint: every weight file in full, the builds of llama.cpp and ggml, types of K and V, flash attention
// (it decides how V lies), rope and YaRN settings, the attention type, the unified cache, and n_ctx for models whose
// rope factors depend on it. Not in it: n_batch, n_ubatch, threads and the processor's instruction set. They change the
// last bits of a result, as batching with other requests does, but every such result is a right one, and a cache that
// told them apart would lose its hits when a thread is added. Pure functions; errors name the file.
#pragma once

#include <tiercel/layout.h>
#include <tiercel/result.h>

#include <llama.h>

#include <string>
#include <vector>

namespace tiercel::llamacpp {

/// The files of a model: `path` itself, or every part if it is the first of a split one ("-00001-of-00005.gguf").
[[nodiscard]] std::vector<std::string> weight_files(const std::string& path);

/// SHA-256 of each file; kept under `cache_directory` (see tiercel::file_digest). Reads whole files the first time.
[[nodiscard]] Result<std::vector<BlockHash>> digest_weights(const std::vector<std::string>& files,
                                                            const std::string& cache_directory);

/// The identity of `model` as run by a context made from `params`. `context_tokens` is llama_n_ctx_seq of that context.
/// What the caller changed beyond `params` (LoRA adapters, control vectors, metadata overrides) it must add itself.
[[nodiscard]] ModelIdentity identify(const llama_model* model, const llama_context_params& params,
                                     std::uint32_t context_tokens, std::vector<BlockHash> weights);

/// Why blocks of this model cannot be cut out and joined again, as a sentence; empty if they can.
[[nodiscard]] std::string why_no_reuse(const llama_model* model, const llama_context_params& params);

}  // namespace tiercel::llamacpp
