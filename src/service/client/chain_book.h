// ChainBook: which lists of hashes the service keeps for a connection, so that a chain that was asked about before is
// sent as a handle and what is new. The client's side of server/chain_table.h; hashes are chained, so a list is known
// by its length and its last hash. The connection's writer uses it, in the order of the stream.
#pragma once

#include <tiercel/block.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tiercel::service {

class ChainBook {
 public:
  ChainBook(std::uint32_t handles, std::uint32_t kept_hashes) : kept_hashes_(kept_hashes), lists_(handles) {}

  struct Place {
    std::uint32_t handle = 0;
    std::size_t known = 0;               ///< leading hashes that need not be sent
    std::vector<std::uint32_t> give_up;  ///< lists that the service must forget first, to stay within its limit
  };
  /// Where to put `hashes`; from here on the service has them there. At most `kept_hashes` of them.
  [[nodiscard]] Place put(std::span<const BlockHash> hashes);

 private:
  struct List {
    std::size_t size = 0;
    BlockHash last;
    std::uint64_t used = 0;
  };
  std::size_t kept_hashes_;
  std::size_t kept_ = 0;
  std::uint64_t now_ = 0;
  std::vector<List> lists_;
};

}  // namespace tiercel::service
