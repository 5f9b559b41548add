// Caches, sessions and chains of c.h.
#include "base/try.h"
#include "capi/border.h"
#include "capi/handles.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace tiercel::capi {
namespace {

BlockHash hash_from(const std::uint8_t* bytes) {
  BlockHash hash;
  std::memcpy(hash.bytes.data(), bytes, hash.bytes.size());
  return hash;
}

Result<ModelIdentity> model_of(const tiercel_session_options& options) {
  TIERCEL_TRY(require_array(options.weights, options.weight_count, "options.weights"));
  TIERCEL_TRY(require_array(options.properties, options.property_count, "options.properties"));
  ModelIdentity model{.name = std::string(text_or_empty(options.model_name)),
                      .weights_epoch = options.weights_epoch,
                      .kv_dtype = std::string(text_or_empty(options.kv_dtype))};
  if (options.config_digest != nullptr) model.config_digest = hash_from(options.config_digest);
  for (std::size_t i = 0; i < options.weight_count; ++i) {
    model.weights.push_back(hash_from(options.weights + i * sizeof(BlockHash)));
  }
  for (std::size_t i = 0; i < options.property_count; ++i) {
    const tiercel_property& property = options.properties[i];
    if (property.key == nullptr || property.value == nullptr) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("options.properties[{}].{} is NULL", i, property.key == nullptr ? "key" : "value"));
    }
    model.properties.emplace_back(property.key, property.value);
  }
  return model;
}

Status check_size(const tiercel_session_options& options) {
  if (options.struct_bytes == sizeof(tiercel_session_options)) return {};
  return fail(ErrorCode::kInvalidArgument, fmt::format("options.struct_bytes: {} is not the size of the structure, {}",
                                                       options.struct_bytes, sizeof(tiercel_session_options)));
}

}  // namespace
}  // namespace tiercel::capi

using namespace tiercel;  // NOLINT(google-build-using-namespace): the functions below are C's, outside any namespace
using namespace tiercel::capi;  // NOLINT(google-build-using-namespace)

extern "C" {

tiercel_status tiercel_cache_open(const char* toml, tiercel_cache** cache) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(cache, "cache"));
    *cache = nullptr;
    TIERCEL_TRY_ASSIGN(const Config config, parse_toml(text_or_empty(toml), "toml"));
    TIERCEL_TRY_ASSIGN(Cache opened, Cache::open(config));
    *cache = new tiercel_cache{std::move(opened)};
    return {};
  });
}

tiercel_status tiercel_cache_close(tiercel_cache* cache, uint64_t deadline_ns) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(cache, "cache"));
    return cache->cache.close(nanoseconds(deadline_ns));
  });
}

void tiercel_cache_free(tiercel_cache* cache) { delete cache; }

tiercel_status tiercel_cache_metrics(const tiercel_cache* cache, char* buffer, size_t capacity, size_t* length) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(cache, "cache"));
    TIERCEL_TRY(require_array(buffer, capacity, "buffer"));
    TIERCEL_TRY(require(length, "length"));
    const std::string text = prometheus_text(cache->cache.stats());
    *length = text.size();
    if (capacity > 0) {
      const std::size_t copied = std::min(capacity - 1, text.size());
      std::memcpy(buffer, text.data(), copied);
      buffer[copied] = '\0';
    }
    return {};
  });
}

tiercel_status tiercel_session_open(tiercel_cache* cache, const tiercel_session_options* options,
                                    tiercel_session** session) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(session, "session"));
    *session = nullptr;
    TIERCEL_TRY(require(cache, "cache"));
    TIERCEL_TRY(require(options, "options"));
    TIERCEL_TRY(check_size(*options));
    TIERCEL_TRY_ASSIGN(ModelIdentity model, model_of(*options));
    const SessionOptions wanted{
        .model = std::move(model), .block_tokens = options->block_tokens, .layout = Layout::blob(options->block_bytes)};
    TIERCEL_TRY_ASSIGN(Session opened, cache->cache.open_session(wanted));
    *session = new tiercel_session{std::move(opened)};
    return {};
  });
}

void tiercel_session_close(tiercel_session* session) {
  if (session != nullptr) session->session.close();
}

void tiercel_session_free(tiercel_session* session) { delete session; }

tiercel_status tiercel_chain_create(const tiercel_session* session, const char* tenant, const int32_t* tokens,
                                    size_t count, tiercel_chain** chain) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(chain, "chain"));
    *chain = nullptr;
    TIERCEL_TRY(require(session, "session"));
    TIERCEL_TRY(require_array(tokens, count, "tokens"));
    auto created = std::make_unique<tiercel_chain>(BlockChain(session->session.space(text_or_empty(tenant))));
    created->chain.append({tokens, count});
    *chain = created.release();
    return {};
  });
}

tiercel_status tiercel_chain_append(tiercel_chain* chain, const int32_t* tokens, size_t count) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(chain, "chain"));
    TIERCEL_TRY(require_array(tokens, count, "tokens"));
    chain->chain.append({tokens, count});
    return {};
  });
}

size_t tiercel_chain_blocks(const tiercel_chain* chain) { return chain == nullptr ? 0 : chain->chain.size(); }

tiercel_status tiercel_chain_hash(const tiercel_chain* chain, size_t block, uint8_t* hash) {
  return guarded([&]() -> Status {
    TIERCEL_TRY(require(chain, "chain"));
    TIERCEL_TRY(require(hash, "hash"));
    TIERCEL_TRY(require_block(block, chain->chain.size()));
    std::memcpy(hash, chain->chain[block].bytes.data(), sizeof(BlockHash));
    return {};
  });
}

void tiercel_chain_free(tiercel_chain* chain) { delete chain; }

}  // extern "C"
