// Owners for libllama's objects: each frees what it holds, in the order that C++ scopes give.
//
// Move-only by unique_ptr. A context must go before its model; keep them in that order as members. Not thread-safe:
// all calls on one context belong on one thread.
#pragma once

#include <llama.h>

#include <memory>

namespace tiercel::llamacpp {

struct ModelDeleter {
  void operator()(llama_model* model) const noexcept { llama_model_free(model); }
};
struct ContextDeleter {
  void operator()(llama_context* context) const noexcept { llama_free(context); }
};
struct SamplerDeleter {
  void operator()(llama_sampler* sampler) const noexcept { llama_sampler_free(sampler); }
};

using ModelHandle = std::unique_ptr<llama_model, ModelDeleter>;
using ContextHandle = std::unique_ptr<llama_context, ContextDeleter>;
using SamplerHandle = std::unique_ptr<llama_sampler, SamplerDeleter>;

}  // namespace tiercel::llamacpp
