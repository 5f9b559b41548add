// The handshake: the first message of each side, of a fixed form that no version of the protocol changes, so that a
// refusal can always be read. Then messages follow as frames (frame.h).
//
// The client sends a Hello with its own pidfd and, where it maps the arena of an earlier connection, that arena's
// memfd; the service answers with a Welcome, and where it accepts, with the arena's memfd, the connection's ring (a
// memfd for lists of hashes) and the member's life descriptor (server/member_list.h). Little-endian, no padding.
#pragma once

#include <tiercel/result.h>

#include <cstdint>
#include <span>
#include <string>

namespace tiercel::wire {

inline constexpr std::uint32_t kMagic = 0x4C435254;  // "TRCL"
/// The newest version that this build speaks, and the oldest: the one before it, once there is one.
inline constexpr std::uint16_t kVersion = 2;
inline constexpr std::uint16_t kOldestVersion = 1;
inline constexpr std::uint16_t kSoFarVersion = 2;  ///< from which a service answers SoFar

struct Hello {
  std::uint32_t magic = kMagic;
  std::uint16_t newest = kVersion;
  std::uint16_t oldest = kOldestVersion;
  std::uint64_t service = 0;  ///< of a connection that is taken up again: Welcome::service then; else 0
  std::uint64_t member = 0;   ///< Welcome::member then
  std::uint64_t token = 0;    ///< Welcome::token then
};
static_assert(sizeof(Hello) == 32);

struct Welcome {
  std::uint32_t magic = kMagic;
  std::uint16_t version = kVersion;  ///< that is spoken from here on
  std::uint16_t refused = 0;         ///< 0, or an ErrorCode + 1: `text` says why
  std::uint64_t service = 0;         ///< random, of this run of the service
  std::uint64_t member = 0;
  std::uint64_t token = 0;  ///< proves that a later connection comes from this one's process
  std::uint64_t arena_bytes = 0;
  std::uint64_t ring_bytes = 0;
  std::uint32_t slots = 0;        ///< slot ids lie below it
  std::uint32_t max_payload = 0;  ///< of a frame, in both directions
  std::uint32_t max_chain = 0;    ///< hashes of one chain
  std::uint32_t kept_chains = 0;  ///< handles lie below it
  std::uint32_t kept_hashes = 0;  ///< in all of them
  std::uint32_t adopted = 0;      ///< 1: what the earlier connection held belongs to this one now
  std::uint64_t arena = 0;        ///< random, of the arena: the same after a restart that has adopted it
  std::uint32_t let_go = 0;       ///< of a refusal: 1: the arena that was shown will not be used again
  std::uint32_t for_now = 0;      ///< of a refusal: 1: that may be over soon, and who can wait asks again
  char text[168] = {};            ///< zero-terminated
};
static_assert(sizeof(Welcome) == 256);

/// The version that both speak; kUnsupported with both ranges in the sentence where there is none.
[[nodiscard]] Result<std::uint16_t> common_version(const Hello& hello);
[[nodiscard]] Welcome refusal(const tiercel::Error& error);
/// The error of a Welcome that refuses, or of one that is none.
[[nodiscard]] Status check_welcome(const Welcome& welcome);

}  // namespace tiercel::wire
