#include "connectors/llamacpp/identity.h"

#include <fmt/format.h>
#include <ggml.h>

#include <array>
#include <cstdio>
#include <string_view>
#include <utility>

namespace tiercel::llamacpp {
namespace {

/// Bit-exact and independent of the locale.
std::string exact(float value) { return fmt::format("{:a}", value); }

std::string metadata_key(const llama_model* model, std::int32_t index) {
  std::array<char, 256> buffer{};
  const int length = llama_model_meta_key_by_index(model, index, buffer.data(), buffer.size());
  return length < 0 ? std::string{} : std::string(buffer.data());
}

/// Models with long-rope factors pick one of two tables by the size of the context.
bool rope_depends_on_context(const llama_model* model) {
  for (std::int32_t i = 0; i < llama_model_meta_count(model); ++i) {
    if (metadata_key(model, i).find(".rope.scaling.") != std::string::npos) return true;
  }
  return false;
}

std::string description(const llama_model* model) {
  std::array<char, 256> buffer{};
  llama_model_desc(model, buffer.data(), buffer.size());
  return buffer.data();
}

}  // namespace

std::vector<std::string> weight_files(const std::string& path) {
  // The form is fixed by llama.cpp: PREFIX-%05d-of-%05d.gguf, counted from 1.
  constexpr std::string_view kEnd = ".gguf";
  constexpr std::size_t kTail = 20;  // "-00001-of-00005.gguf"
  if (path.size() <= kTail || !path.ends_with(kEnd)) return {path};
  const std::string tail = path.substr(path.size() - kTail);
  int part = 0;
  int parts = 0;
  if (std::sscanf(tail.c_str(), "-%5d-of-%5d.gguf", &part, &parts) != 2 || part < 1 || parts < part) return {path};
  std::vector<std::string> files;
  const std::string prefix = path.substr(0, path.size() - kTail);
  for (int i = 1; i <= parts; ++i) files.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", prefix, i, parts));
  return files;
}

Result<std::vector<BlockHash>> digest_weights(const std::vector<std::string>& files,
                                              const std::string& cache_directory) {
  std::vector<BlockHash> digests;
  for (const std::string& file : files) {
    auto digest = file_digest(file, cache_directory);
    if (!digest) return tl::unexpected<Error>(digest.error());
    digests.push_back(*digest);
  }
  return digests;
}

ModelIdentity identify(const llama_model* model, const llama_context_params& params, std::uint32_t context_tokens,
                       std::vector<BlockHash> weights) {
  ModelIdentity identity;
  identity.name = description(model);
  // A GGUF file carries its configuration, so the first file's digest stands for both.
  if (!weights.empty()) identity.config_digest = weights.front();
  identity.weights = std::move(weights);
  identity.kv_dtype = fmt::format("k={},v={}", ggml_type_name(params.type_k), ggml_type_name(params.type_v));
  identity.properties = {
      {"engine", "llama.cpp"},
      {"llama.version", llama_version()},
      {"llama.build", TIERCEL_LLAMA_BUILD},
      {"ggml.version", ggml_version()},
      {"ggml.commit", ggml_commit()},
      {"state.version", std::to_string(LLAMA_STATE_SEQ_VERSION)},
      {"flash_attention", llama_flash_attn_type_name(params.flash_attn_type)},
      {"attention", std::to_string(static_cast<int>(params.attention_type))},
      {"kv_unified", params.kv_unified ? "1" : "0"},
      {"swa_full", params.swa_full ? "1" : "0"},
      {"rope.scaling", std::to_string(static_cast<int>(params.rope_scaling_type))},
      {"rope.freq_base", exact(params.rope_freq_base)},
      {"rope.freq_scale", exact(params.rope_freq_scale)},
      {"yarn.ext_factor", exact(params.yarn_ext_factor)},
      {"yarn.attn_factor", exact(params.yarn_attn_factor)},
      {"yarn.beta_fast", exact(params.yarn_beta_fast)},
      {"yarn.beta_slow", exact(params.yarn_beta_slow)},
      {"yarn.orig_ctx", std::to_string(params.yarn_orig_ctx)},
  };
  if (rope_depends_on_context(model)) identity.properties.emplace_back("n_ctx_seq", std::to_string(context_tokens));
  return identity;
}

std::string why_no_reuse(const llama_model* model, const llama_context_params& params) {
  if (llama_model_is_recurrent(model)) return "the model is recurrent: its state cannot be cut into blocks";
  if (llama_model_is_hybrid(model)) return "the model is hybrid: its recurrent state cannot be cut into blocks";
  if (llama_model_n_swa(model) > 0) return "the model has sliding-window attention: its saved state is partial";
  if (llama_model_is_diffusion(model)) return "the model is a diffusion model: it has no causal prefix";
  if (llama_model_has_encoder(model)) return "the model has an encoder: its KV depends on more than the prefix";
  if (!params.kv_unified) return "the context was made without kv_unified, which copying between sequences needs";
  return {};
}

}  // namespace tiercel::llamacpp
