// BlockHash as the 32 bytes that Python programs see.
#pragma once

#include "errors.h"

#include <nanobind/nanobind.h>
#include <tiercel/block.h>

#include <cstring>
#include <string>

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

}  // namespace tiercel::python
