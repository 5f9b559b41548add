// The fingerprint of a namespace: SHA-256 over all that decides a block's bytes besides its tokens and extra keys.
// docs/formats.md, "Namespace fingerprint", has the preimage byte by byte. Pure functions.
#pragma once

#include <tiercel/block.h>
#include <tiercel/layout.h>
#include <tiercel/result.h>

#include <cstdint>
#include <string_view>

namespace tiercel {

inline constexpr std::string_view kDefaultTenant = "default";

struct NamespaceFields {
  std::string_view tenant;  ///< "" is the default tenant
  const ModelIdentity& model;
  std::uint32_t block_tokens;
  const Layout& layout;
};

/// Refuses a property key that is given twice and a block_tokens outside 1 to 65,536.
[[nodiscard]] Status check_namespace(const ModelIdentity& model, std::uint32_t block_tokens);

/// The order of `model.properties` does not matter; everything else does. The fields must have passed check_namespace.
[[nodiscard]] BlockHash fingerprint(const NamespaceFields& fields);

}  // namespace tiercel
