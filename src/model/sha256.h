// Sha256: OpenSSL's SHA-256 with one context kept a thread, so that hashing a block costs no allocation.
//
// Fields are appended in the canonical form of docs/formats.md: integers little-endian, strings with their length
// first.
#pragma once

#include <tiercel/block.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

struct evp_md_ctx_st;

namespace tiercel {

/// One digest in the making. Use on one thread; at most one alive a thread (checked).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void raw(std::span<const std::byte> bytes);
  void u32(std::uint32_t value);
  void u64(std::uint64_t value);
  /// The length as u64, then the bytes.
  void text(std::string_view value);
  void hash(const BlockHash& value) { raw(value.bytes); }

  [[nodiscard]] BlockHash finish();

 private:
  evp_md_ctx_st* context_;
};

}  // namespace tiercel
