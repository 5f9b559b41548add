// BlockHash as the 32 bytes that Python programs see.
#pragma once

#include "errors.h"

#include <nanobind/nanobind.h>
#include <tiercel/block.h>

#include <cstring>
#include <string>
#include <vector>

namespace tiercel::python {

[[nodiscard]] inline nanobind::bytes to_bytes(const BlockHash& hash) {
  return nanobind::bytes(hash.bytes.data(), hash.bytes.size());
}

/// InvalidArgumentError, with `what` in front, for another length than 32.
[[nodiscard]] inline BlockHash to_hash(const nanobind::bytes& bytes, const char* what) {
  BlockHash hash;
  if (bytes.size() != hash.bytes.size())
    raise(ErrorCode::kInvalidArgument,
          std::string(what) + ": has " + std::to_string(bytes.size()) + " bytes; a SHA-256 has 32");
  std::memcpy(hash.bytes.data(), bytes.c_str(), hash.bytes.size());
  return hash;
}

/// Several of them, one behind the other. InvalidArgumentError, with `what` in front, for a broken one at the end.
[[nodiscard]] inline std::vector<BlockHash> to_hashes(const nanobind::bytes& bytes, const char* what) {
  if (bytes.size() % sizeof(BlockHash) != 0)
    raise(ErrorCode::kInvalidArgument,
          std::string(what) + ": has " + std::to_string(bytes.size()) + " bytes; hashes have 32 each");
  std::vector<BlockHash> hashes(bytes.size() / sizeof(BlockHash));
  if (!hashes.empty()) std::memcpy(hashes.data(), bytes.c_str(), bytes.size());
  return hashes;
}

}  // namespace tiercel::python
