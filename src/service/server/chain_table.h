// ChainTable: the lists of hashes that one connection has sent, by handle, so that a repeated question sends only what
// is new. What lies in the ring is copied once, before anything looks at it. One thread at a time.
#pragma once

#include "service/wire/messages.h"

#include <tiercel/block.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tiercel::service {

struct ChainLimits {
  std::uint32_t handles = 64;
  std::uint32_t kept_hashes = 131'072;  ///< in all handles: 4 MiB
  std::uint32_t max_chain = 131'072;    ///< a million tokens in blocks of 8
};

class ChainTable {
 public:
  /// `ring`: shared with the client, which may write into it at any time.
  ChainTable(const ChainLimits& limits, std::span<const std::byte> ring) : limits_(limits), ring_(ring) {}

  /// The whole list, which the handle keeps; valid until the next call. kInvalidArgument: the message breaks a limit or
  /// names what is not there.
  [[nodiscard]] Result<std::span<const BlockHash>> resolve(const wire::Chain& chain);

 private:
  ChainLimits limits_;
  std::span<const std::byte> ring_;
  std::vector<std::vector<BlockHash>> lists_;
  std::size_t kept_ = 0;
};

}  // namespace tiercel::service
