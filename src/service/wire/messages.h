// Between the public types and the messages of protocol.fbs. Functions without state; what is read was verified.
#pragma once

#include "service/wire/protocol_generated.h"

#include <tiercel/session.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace tiercel::wire {

/// Of a frame from a client; the Welcome says it too.
inline constexpr std::uint32_t kMaxRequestBytes = 256U << 10U;
/// Of a frame from the service.
inline constexpr std::uint32_t kMaxReplyBytes = 4U << 20U;
/// Items, blocks or grants of one message; more go in several.
inline constexpr std::size_t kMaxBatch = 4096;
/// Hashes that go inside a message; more go through the ring, or in several messages.
inline constexpr std::size_t kMaxInlineHashes = 4096;

/// A whole, well-formed message, or null.
[[nodiscard]] const Request* verified_request(std::span<const std::byte> payload);
[[nodiscard]] const Reply* verified_reply(std::span<const std::byte> payload);

[[nodiscard]] flatbuffers::Offset<Open> write_open(flatbuffers::FlatBufferBuilder& builder,
                                                   const SessionOptions& options);
/// kInvalidArgument: an enumeration's number that this version does not know.
[[nodiscard]] Result<SessionOptions> read_open(const Open& open);

[[nodiscard]] flatbuffers::Offset<Error> write_error(flatbuffers::FlatBufferBuilder& builder,
                                                     const tiercel::Error& error);
[[nodiscard]] tiercel::Error read_error(const Error& error);
[[nodiscard]] ErrorCode error_code(unsigned number) noexcept;

[[nodiscard]] inline BlockHash read_hash(const Hash& hash) noexcept {
  BlockHash result;
  std::memcpy(result.bytes.data(), hash.bytes()->data(), sizeof(result.bytes));
  return result;
}
[[nodiscard]] inline Hash write_hash(const BlockHash& hash) noexcept {
  Hash result;
  static_assert(sizeof(Hash) == sizeof(BlockHash));
  std::memcpy(static_cast<void*>(&result), hash.bytes.data(), sizeof(hash.bytes));
  return result;
}
/// The same bytes as the schema's struct: a list of hashes is written and read at once.
[[nodiscard]] inline const Hash* as_wire(std::span<const BlockHash> hashes) noexcept {
  return reinterpret_cast<const Hash*>(hashes.data());
}

}  // namespace tiercel::wire
