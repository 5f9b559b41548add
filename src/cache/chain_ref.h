// ChainRef: a chain as the core takes it: its hashes, and which namespace they belong to. A view; what it views must
// outlive it. A BlockChain gives one, and so does a list of hashes that came over a socket.
#pragma once

#include <tiercel/block.h>

#include <cstddef>
#include <span>

namespace tiercel::detail {

struct ChainRef {
  const Space& space;
  std::span<const BlockHash> hashes;

  ChainRef(const BlockChain& chain)
      : space(chain.space()), hashes(chain.hashes()) {}  // NOLINT(google-explicit-constructor)
  ChainRef(const Space& of, std::span<const BlockHash> list) : space(of), hashes(list) {}

  [[nodiscard]] std::size_t size() const noexcept { return hashes.size(); }
  [[nodiscard]] const BlockHash& operator[](std::size_t block) const { return hashes[block]; }
};

}  // namespace tiercel::detail
