// What simulated engines write into blocks: a function of (key, writer, sequence), so that any 8 bytes say whose they
// are. A block that is not exactly one commit of its key is told from one that is, and from which others it is mixed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace tiercel::sim {

struct Stamp {
  std::uint64_t key = 0;  ///< of the history
  std::uint64_t writer = 0;
  std::uint64_t sequence = 0;  ///< unique in a run
  std::uint64_t bytes = 0;     ///< of the block
  friend bool operator==(const Stamp&, const Stamp&) = default;
};

inline constexpr std::uint64_t kLeastContentBytes = 64;

/// Fills the whole span, of a multiple of 8 bytes and at least kLeastContentBytes; `stamp.bytes` is its size.
void write_content(std::span<std::byte> to, const Stamp& stamp);

/// The stamp that the first bytes carry; nothing if they carry none.
[[nodiscard]] std::optional<Stamp> read_stamp(std::span<const std::byte> bytes);

/// The first byte at which `bytes` is not what `stamp` writes; nothing if there is none.
[[nodiscard]] std::optional<std::size_t> first_difference(std::span<const std::byte> bytes, const Stamp& stamp);

}  // namespace tiercel::sim
