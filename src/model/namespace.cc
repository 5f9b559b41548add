#include "model/namespace.h"

#include "model/run_table.h"
#include "model/sha256.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

namespace tiercel {
namespace {

constexpr std::string_view kMagic = "tiercel namespace 1";
constexpr std::string_view kHashScheme = "sha256-chain-1";

}  // namespace

Status check_namespace(const ModelIdentity& model, std::uint32_t block_tokens) {
  if (block_tokens < 1 || block_tokens > 65'536) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("block_tokens: {} is outside 1 to 65536", block_tokens));
  }
  auto properties = model.properties;
  std::ranges::sort(properties);
  const auto same_key = [](const auto& a, const auto& b) { return a.first == b.first; };
  const auto twice = std::ranges::adjacent_find(properties, same_key);
  if (twice != properties.end()) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("model.properties: the key \"{}\" is given twice; give it once", twice->first));
  }
  return {};
}

BlockHash fingerprint(const NamespaceFields& fields) {
  const ModelIdentity& model = fields.model;
  auto properties = model.properties;
  std::ranges::sort(properties);

  Sha256 sha;
  sha.text(kMagic);
  sha.text(kHashScheme);
  sha.text(fields.tenant.empty() ? kDefaultTenant : fields.tenant);
  sha.hash(model.config_digest);
  sha.u64(model.weights.size());
  for (const BlockHash& digest : model.weights) sha.hash(digest);
  sha.u64(model.weights_epoch);
  sha.text(model.kv_dtype);
  sha.u64(properties.size());
  for (const auto& [key, value] : properties) {
    sha.text(key);
    sha.text(value);
  }
  const std::vector<std::byte> layout = serialize_layout(fields.layout, fields.block_tokens);
  sha.u64(layout.size());
  sha.raw(layout);
  return sha.finish();
}

}  // namespace tiercel
